//! Tickets and prepared handles: the statement itself, sealed, so that the server keeps none of them.
//!
//! ```text
//! version (1 byte) | number (8 bytes, big-endian) | AES-256-GCM( a `Sealed` message ), with version and purpose beside it
//! ```
//!
//! The key is made when the server starts and never leaves it; the number, which is the nonce, is used once. So a client can
//! neither read another's text, nor change its own, nor use a handle as a ticket. A ticket is no credential: whoever brings
//! it has to be who it was made for, and the statement runs with the rights that its caller has then.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use kalamdb_engine::{Caller, Env, Error, Reason};
use prost::Message;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

const VERSION: u8 = 1;
const KEY_BYTES: usize = 32;
const NUMBER_BYTES: usize = size_of::<u64>();
const HEADER_BYTES: usize = 1 + NUMBER_BYTES;

/// What something sealed is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Runs the statement, any number of times: it only reads.
    Read,
    /// Runs the statement, once.
    Write,
    /// Answers no rows: the statement was run when the ticket was made.
    Done,
    /// Stands for a prepared statement, with its parameters if they were given.
    Prepared,
}

impl Purpose {
    const TICKETS: [Purpose; 3] = [Purpose::Read, Purpose::Write, Purpose::Done];

    fn code(self) -> u8 {
        match self {
            Self::Read => 1,
            Self::Write => 2,
            Self::Done => 3,
            Self::Prepared => 4,
        }
    }
}

/// A statement as it runs later.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Sealed {
    #[prost(string, tag = "1")]
    pub(super) sql: String,
    /// Of unqualified names.
    #[prost(string, optional, tag = "2")]
    pub(super) namespace: Option<String>,
    /// Rows of parameters, as an Arrow IPC stream.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(super) parameters: Option<Bytes>,
    /// Who it was made for.
    #[prost(string, tag = "4")]
    user_id: String,
    /// The user whom that one acted for.
    #[prost(string, tag = "5")]
    effective_user: String,
    #[prost(sfixed64, tag = "6")]
    expires_at_us: i64,
    /// The number of the first ticket, of those that renew one another.
    #[prost(fixed64, tag = "7")]
    origin: u64,
}

impl Sealed {
    /// A statement without parameters.
    pub(super) fn new(sql: impl Into<String>, namespace: Option<String>) -> Self {
        Self { sql: sql.into(), namespace, ..Self::default() }
    }
}

/// What was sealed, opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) purpose: Purpose,
    pub(super) sealed: Sealed,
    /// Tells it from all others of this server, but for those that renew one another. Later ones have greater origins.
    pub(super) origin: u64,
}

/// Something sealed, and until when it can be used.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) bytes: Bytes,
    pub(super) expires_at_us: i64,
}

/// Seals and opens.
pub(super) struct Sealer {
    key: LessSafeKey,
    next: AtomicU64,
    lifetime_us: i64,
    max_bytes: usize,
    env: Arc<dyn Env>,
}

impl Sealer {
    /// What it seals can be used for `lifetime`, and has `max_bytes` at most.
    ///
    /// # Errors
    /// INTERNAL if there is no cryptography.
    pub(super) fn new(lifetime: Duration, max_bytes: usize, env: Arc<dyn Env>) -> Result<Self, Error> {
        let mut key = [0; KEY_BYTES];
        for chunk in key.chunks_exact_mut(size_of::<u64>()) {
            chunk.copy_from_slice(&env.random_u64().to_le_bytes());
        }
        let key = UnboundKey::new(&AES_256_GCM, &key).map_err(Error::internal)?;
        Ok(Self {
            key: LessSafeKey::new(key),
            next: AtomicU64::new(1),
            lifetime_us: i64::try_from(lifetime.as_micros()).unwrap_or(i64::MAX),
            max_bytes,
            env,
        })
    }

    /// The size of a statement with its parameters.
    pub(super) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Seals a statement for a caller.
    ///
    /// # Errors
    /// STATEMENT_TOO_LARGE.
    pub(super) fn seal(&self, purpose: Purpose, sealed: Sealed, caller: &Caller) -> Result<Fresh, Error> {
        self.seal_of(None, purpose, sealed, caller)
    }

    /// Seals a ticket once more, for whom it was made, so that it can be used for longer.
    ///
    /// # Errors
    /// STATEMENT_TOO_LARGE.
    pub(super) fn renew(&self, ticket: Opened, caller: &Caller) -> Result<Fresh, Error> {
        self.seal_of(Some(ticket.origin), ticket.purpose, ticket.sealed, caller)
    }

    /// `origin`: of the ticket that is renewed, if one is.
    fn seal_of(&self, origin: Option<u64>, purpose: Purpose, sealed: Sealed, caller: &Caller) -> Result<Fresh, Error> {
        let expires_at_us = self.env.now_us().saturating_add(self.lifetime_us);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let message = Sealed {
            user_id: caller.user_id.as_str().to_owned(),
            effective_user: caller.effective_user().as_str().to_owned(),
            expires_at_us,
            origin: origin.unwrap_or(number),
            ..sealed
        };
        let mut body = message.encode_to_vec();
        if body.len() > self.max_bytes {
            let text = format!(
                "The statement has {} bytes with its parameters, more than flight.max_handle_bytes, which is {}. Send less, \
                 or put the rows in with a bulk ingest.",
                body.len(),
                self.max_bytes
            );
            return Err(Error::new(Reason::StatementTooLarge, text).with("limit", "flight.max_handle_bytes"));
        }
        self.key
            .seal_in_place_append_tag(nonce(number), Aad::from([VERSION, purpose.code()]), &mut body)
            .map_err(Error::internal)?;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&number.to_be_bytes());
        bytes.append(&mut body);
        Ok(Fresh { bytes: bytes.into(), expires_at_us })
    }

    /// Opens a ticket that the caller brings.
    ///
    /// # Errors
    /// TICKET_INVALID, TICKET_EXPIRED, PERMISSION_DENIED.
    pub(super) fn open_ticket(&self, bytes: &[u8], caller: &Caller) -> Result<Opened, Error> {
        self.not_expired(self.open(bytes, &Purpose::TICKETS, caller)?)
    }

    /// Opens a ticket that may have expired, to cancel what is still read of it.
    ///
    /// # Errors
    /// TICKET_INVALID, PERMISSION_DENIED.
    pub(super) fn open_old_ticket(&self, bytes: &[u8], caller: &Caller) -> Result<Opened, Error> {
        self.open(bytes, &Purpose::TICKETS, caller)
    }

    /// Opens the handle of a prepared statement that the caller brings.
    ///
    /// # Errors
    /// As [`Sealer::open_ticket`].
    pub(super) fn open_handle(&self, bytes: &[u8], caller: &Caller) -> Result<Opened, Error> {
        self.not_expired(self.open(bytes, &[Purpose::Prepared], caller)?)
    }

    fn not_expired(&self, opened: Opened) -> Result<Opened, Error> {
        if opened.sealed.expires_at_us <= self.env.now_us() {
            let text = "The ticket or prepared statement has expired: flight.ticket_lifetime_s says how long one is good. \
                        Execute or prepare the statement again.";
            return Err(Error::new(Reason::TicketExpired, text));
        }
        Ok(opened)
    }

    fn open(&self, bytes: &[u8], purposes: &[Purpose], caller: &Caller) -> Result<Opened, Error> {
        let (number, body) = split(bytes).ok_or_else(invalid)?;
        let (purpose, message) = purposes
            .iter()
            .find_map(|purpose| {
                let mut body = body.to_vec();
                let aad = Aad::from([VERSION, purpose.code()]);
                let opened = self.key.open_in_place(nonce(number), aad, &mut body).ok()?;
                Some((*purpose, Sealed::decode(&*opened)))
            })
            .ok_or_else(invalid)?;
        let sealed = message.map_err(|_| invalid())?;
        if sealed.user_id != caller.user_id.as_str() || sealed.effective_user != caller.effective_user().as_str() {
            let text = "The ticket or prepared statement was made for another user, or while acting for another. Everybody \
                        has to execute the statement for itself.";
            return Err(Error::new(Reason::PermissionDenied, text));
        }
        let origin = sealed.origin;
        Ok(Opened { purpose, sealed, origin })
    }
}

/// The number of a ticket or handle, and what it covers.
fn split(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (version, rest) = bytes.split_first()?;
    let (number, body) = rest.split_first_chunk::<NUMBER_BYTES>()?;
    (*version == VERSION).then_some((u64::from_be_bytes(*number), body))
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[NONCE_LEN - NUMBER_BYTES..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn invalid() -> Error {
    let text = "This is no ticket and no prepared statement of this server, at least not since it was started. Execute or \
                prepare the statement again.";
    Error::new(Reason::TicketInvalid, text)
}

#[cfg(test)]
mod tests;
