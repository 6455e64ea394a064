//! Acting for another user: the header `x-user-id`, and who may be named in it.

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::HeaderMap;
use kalamdb_engine::{Caller, Error, Reason, Role, UserId};

/// The user that a call acts for.
pub(super) const USER_ID: &str = "x-user-id";
/// The same, base64 as gRPC does for names ending in `-bin`: for ids that no header can carry, such as with NUL.
pub(super) const USER_ID_BIN: &str = "x-user-id-bin";

/// Both padded and unpadded base64 are in use for `-bin` headers.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The user that headers name, if they name one.
///
/// # Errors
/// INVALID_USER_ID.
pub(super) fn named_user(headers: &HeaderMap) -> Result<Option<UserId>, Error> {
    let invalid = |reason: &str| Error::new(Reason::InvalidUserId, format!("x-user-id {reason}."));
    let mut named: Option<UserId> = None;
    // Header values may be any bytes: most clients send UTF-8 as it is, the rest use `-bin`.
    let plain = headers.get_all(USER_ID).iter().map(|value| Ok(value.as_bytes().to_vec()));
    let binary = headers
        .get_all(USER_ID_BIN)
        .iter()
        .map(|value| BASE64.decode(value.as_bytes()).map_err(|_| invalid("is not base64, as x-user-id-bin has to be")));
    for bytes in plain.chain(binary) {
        let bytes = bytes?;
        let text = std::str::from_utf8(&bytes).map_err(|_| invalid("is not UTF-8"))?;
        let user =
            UserId::new(text).map_err(|error| Error::new(Reason::InvalidUserId, format!("x-user-id: {error}.")))?;
        if named.as_ref().is_some_and(|other| *other != user) {
            return Err(invalid("is given twice, with two different users"));
        }
        named = Some(user);
    }
    Ok(named)
}

/// Whether a role may name somebody else at all.
///
/// # Errors
/// PERMISSION_DENIED.
pub(super) fn may_name(caller: &Caller, user: &UserId) -> Result<(), Error> {
    if caller.role < Role::Service && *user != caller.user_id {
        return Err(Error::new(
            Reason::PermissionDenied,
            "Only roles service, dba and system may act for another user; leave x-user-id out.",
        ));
    }
    Ok(())
}
