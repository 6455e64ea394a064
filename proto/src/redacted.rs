//! How messages with secrets are printed: without them.

use std::fmt;

use crate::v1::{AlterStorageRequest, CreateStorageRequest};

/// Whether there is a secret, and nothing else of it.
fn redacted(secret: &str) -> &'static str {
    if secret.is_empty() { "none" } else { "redacted" }
}

impl fmt::Debug for CreateStorageRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateStorageRequest")
            .field("name", &self.name)
            .field("type", &self.r#type())
            .field("uri", &self.uri)
            .field("credentials", &format_args!("{}", redacted(&self.credentials)))
            .field("if_not_exists", &self.if_not_exists)
            .finish()
    }
}

impl fmt::Debug for AlterStorageRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlterStorageRequest")
            .field("name", &self.name)
            .field("uri", &self.uri)
            .field("credentials", &self.credentials.as_deref().map(redacted))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_printed() {
        let create = CreateStorageRequest { credentials: r#"{"key":"s3cret"}"#.to_owned(), ..Default::default() };
        let alter = AlterStorageRequest { credentials: Some(create.credentials.clone()), ..Default::default() };
        for text in [format!("{create:?}"), format!("{alter:#?}")] {
            assert!(text.contains("redacted") && !text.contains("s3cret"), "{text}");
        }
    }
}
