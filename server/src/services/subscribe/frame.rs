//! Messages of `Subscribe` on their way to bytes.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use kalamdb_engine::ResumeToken;
use kalamdb_proto::v1::{SubscribeResponse, subscribe_response::Event};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len, uint32, uint64},
};

/// Field numbers of `SubscribeResponse`.
const QUERY_INDEX: u32 = 1;
const CHANGES: u32 = 5;
const PROGRESS: u32 = 6;
/// And of `LiveProgress`.
const COMMIT_SEQ: u32 = 1;
const RESUME_TOKEN: u32 = 2;

/// gRPC's header of a message: no compression, and the length.
const HEADER_BYTES: usize = 5;

/// Bytes that are not copied: it takes longer than sending them by themselves.
const SHARED_BYTES: usize = 16 * 1024;

/// A `SubscribeResponse`.
#[derive(Debug)]
pub(super) enum Frame {
    /// Any event, and its length.
    Event(Box<SubscribeResponse>, usize),
    /// Changes, from bytes that others send too.
    Changes {
        query_index: u32,
        /// Each is one field `commits` of `LiveChanges`, with tag and length. Concatenated fields are a message.
        commits: Vec<Bytes>,
    },
    /// A progress. Of all idle queries there is one each second, so it is written without any memory of its own.
    Progress { query_index: u32, commit_seq: u64, token: ResumeToken },
}

impl Frame {
    pub(super) fn event(query_index: u32, event: Event) -> Self {
        let event = Box::new(SubscribeResponse { query_index, event: Some(event) });
        let length = event.encoded_len();
        Self::Event(event, length)
    }

    /// Length of the message, without gRPC's header.
    pub(super) fn message_len(&self) -> usize {
        match self {
            Self::Event(_, length) => *length,
            Self::Changes { query_index, commits } => {
                let changes = length_of(commits);
                index_len(*query_index) + key_len(CHANGES) + encoded_len_varint(changes as u64) + changes
            }
            Self::Progress { query_index, commit_seq, token } => {
                let progress = progress_len(*commit_seq, token);
                index_len(*query_index) + key_len(PROGRESS) + encoded_len_varint(progress as u64) + progress
            }
        }
    }

    /// Writes gRPC's header and the message behind what is in `written`.
    ///
    /// False: the message is longer than gRPC's header can say, and nothing was written.
    pub(super) fn write(self, written: &mut Written) -> bool {
        let length = self.message_len();
        let Ok(header) = u32::try_from(length) else { return false };
        match self {
            Self::Event(event, _) => {
                let buffer = written.reserve(HEADER_BYTES + length);
                put_header(buffer, header);
                event.encode_raw(buffer);
            }
            Self::Changes { query_index, commits } => {
                let changes = length_of(&commits);
                let head = HEADER_BYTES + length - changes;
                let copied = commits.iter().map(Bytes::len).filter(|len| *len < SHARED_BYTES).sum::<usize>();
                let buffer = written.reserve(head + copied);
                put_header(buffer, header);
                put_index(buffer, query_index);
                encode_key(CHANGES, WireType::LengthDelimited, buffer);
                encode_varint(changes as u64, buffer);
                commits.into_iter().for_each(|commit| written.put(commit));
            }
            Self::Progress { query_index, commit_seq, token } => {
                let buffer = written.reserve(HEADER_BYTES + length);
                put_header(buffer, header);
                put_index(buffer, query_index);
                encode_key(PROGRESS, WireType::LengthDelimited, buffer);
                encode_varint(progress_len(commit_seq, &token) as u64, buffer);
                if commit_seq != 0 {
                    uint64::encode(COMMIT_SEQ, &commit_seq, buffer);
                }
                encode_key(RESUME_TOKEN, WireType::LengthDelimited, buffer);
                encode_varint(token.as_str().len() as u64, buffer);
                buffer.put_slice(token.as_str().as_bytes());
            }
        }
        true
    }
}

fn length_of(commits: &[Bytes]) -> usize {
    commits.iter().map(Bytes::len).sum()
}

/// Fields with the default value are left out.
fn index_len(query_index: u32) -> usize {
    if query_index == 0 { 0 } else { uint32::encoded_len(QUERY_INDEX, &query_index) }
}

fn put_index(buffer: &mut BytesMut, query_index: u32) {
    if query_index != 0 {
        uint32::encode(QUERY_INDEX, &query_index, buffer);
    }
}

fn progress_len(commit_seq: u64, token: &ResumeToken) -> usize {
    let seq = if commit_seq == 0 { 0 } else { uint64::encoded_len(COMMIT_SEQ, &commit_seq) };
    let token = token.as_str().len();
    seq + key_len(RESUME_TOKEN) + encoded_len_varint(token as u64) + token
}

fn put_header(buffer: &mut BytesMut, length: u32) {
    buffer.put_u8(0);
    buffer.put_u32(length);
}

/// Bytes to be sent, in pieces. Keeps no memory once they are taken.
#[derive(Debug, Default)]
pub(super) struct Written {
    pieces: VecDeque<Bytes>,
    /// The last piece, which grows.
    buffer: BytesMut,
    bytes: usize,
}

impl Written {
    /// How many bytes there are.
    pub(super) fn len(&self) -> usize {
        self.bytes + self.buffer.len()
    }

    /// Takes the next piece.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        self.close_piece();
        let piece = self.pieces.pop_front()?;
        self.bytes -= piece.len();
        Some(piece)
    }

    fn reserve(&mut self, bytes: usize) -> &mut BytesMut {
        self.buffer.reserve(bytes);
        &mut self.buffer
    }

    fn put(&mut self, bytes: Bytes) {
        if bytes.len() < SHARED_BYTES {
            self.buffer.extend_from_slice(&bytes);
            return;
        }
        self.close_piece();
        self.bytes += bytes.len();
        self.pieces.push_back(bytes);
    }

    fn close_piece(&mut self) {
        if !self.buffer.is_empty() {
            let piece = std::mem::take(&mut self.buffer).freeze();
            self.bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }
}
