//! Who a call comes from and whom it acts for, as gRPC metadata.

use std::sync::Arc;

use tonic::metadata::{AsciiMetadataValue, BinaryMetadataValue, MetadataMap};

use crate::{
    credential::{self, Credential, TokenSource},
    error::Result,
};

/// Credential and user together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    pub(crate) credential: Credential,
    pub(crate) user: Option<String>,
}

impl Identity {
    /// The metadata that every call carries. A token that expires is not part of it: it is added at each call.
    pub(crate) fn metadata(&self) -> Result<MetadataMap> {
        let mut metadata = MetadataMap::new();
        match &self.credential {
            Credential::None | Credential::Renewed(_) => {}
            Credential::Token(token) => {
                metadata.insert("authorization", credential::bearer(token)?);
            }
            Credential::ApiKey(key) => {
                metadata.insert("x-api-key", credential::header(key.expose(), "API key")?);
            }
        }
        if let Some(user) = &self.user {
            // Any text can be a user id, but a header value is visible ASCII: the rest travels as `-bin`.
            match AsciiMetadataValue::try_from(user.as_str()) {
                Ok(value) if user.bytes().all(|byte| byte.is_ascii_graphic()) => {
                    metadata.insert("x-user-id", value);
                }
                _ => {
                    metadata.insert_bin("x-user-id-bin", BinaryMetadataValue::from_bytes(user.as_bytes()));
                }
            }
        }
        Ok(metadata)
    }

    /// The same for another server, which must not get the tokens of this one.
    pub(crate) fn elsewhere(&self) -> Identity {
        let credential = match &self.credential {
            Credential::Renewed(source) => Credential::Renewed(source.elsewhere()),
            same => same.clone(),
        };
        Identity { credential, user: self.user.clone() }
    }

    /// Where the tokens come from, if they are not always the same.
    pub(crate) fn token_source(&self) -> Option<&Arc<TokenSource>> {
        match &self.credential {
            Credential::Renewed(source) => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Credential, Identity};

    fn for_user(user: &str) -> tonic::metadata::MetadataMap {
        Identity { user: Some(user.to_owned()), ..Identity::default() }.metadata().unwrap()
    }

    #[test]
    fn a_visible_ascii_user_travels_as_text_and_any_other_as_bytes() {
        assert_eq!(for_user("../../etc").get("x-user-id").unwrap(), "../../etc");
        assert_eq!(for_user("").get("x-user-id").unwrap(), "");
        for odd in ["a b", " lead", "é", "\u{1f600}", "a\0b", "tab\t"] {
            let metadata = for_user(odd);
            assert!(metadata.get("x-user-id").is_none(), "{odd:?}");
            let bytes = metadata.get_bin("x-user-id-bin").unwrap().to_bytes().unwrap();
            assert_eq!(bytes, odd.as_bytes());
        }
    }

    #[test]
    fn secrets_are_neither_printed_nor_sent_malformed() {
        let identity = Identity { credential: Credential::Token("s3cret\n".into()), user: None };
        assert!(!format!("{identity:?}").contains("s3cret"));
        assert!(!identity.metadata().unwrap_err().to_string().contains("s3cret"));

        let identity = Identity { credential: Credential::ApiKey("key".into()), user: None };
        let metadata = identity.metadata().unwrap();
        assert_eq!(metadata.get("x-api-key").unwrap(), "key");
        assert!(!format!("{metadata:?}").contains("\"key\""));
    }
}
