//! How messages with secrets are printed: without them.

use std::fmt;

use crate::v1::{
    AlterStorageRequest, AlterUserRequest, CreateApiKeyResponse, CreateStorageRequest, CreateUserRequest, LoginRequest,
    RefreshRequest, Tokens,
};

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

impl fmt::Debug for LoginRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginRequest")
            .field("username", &self.username)
            .field("password", &format_args!("{}", redacted(&self.password)))
            .finish()
    }
}

impl fmt::Debug for RefreshRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshRequest")
            .field("refresh_token", &format_args!("{}", redacted(&self.refresh_token)))
            .finish()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("access_token", &format_args!("{}", redacted(&self.access_token)))
            .field("access_token_expires_at", &self.access_token_expires_at)
            .field("refresh_token", &format_args!("{}", redacted(&self.refresh_token)))
            .field("refresh_token_expires_at", &self.refresh_token_expires_at)
            .finish()
    }
}

impl fmt::Debug for CreateUserRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateUserRequest")
            .field("username", &self.username)
            .field("user_id", &self.user_id)
            .field("role", &self.role())
            .field("password", &format_args!("{}", redacted(&self.password)))
            .field("permissions", &self.permissions)
            .field("metadata", &self.metadata)
            .field("disabled", &self.disabled)
            .field("if_not_exists", &self.if_not_exists)
            .finish()
    }
}

impl fmt::Debug for AlterUserRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlterUserRequest")
            .field("user", &self.user)
            .field("username", &self.username)
            .field("role", &self.role())
            .field("password", &self.password.as_deref().map(redacted))
            .field("permissions", &self.permissions)
            .field("metadata", &self.metadata)
            .field("disabled", &self.disabled)
            .finish()
    }
}

impl fmt::Debug for CreateApiKeyResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateApiKeyResponse")
            .field("api_key", &self.api_key)
            .field("key", &format_args!("{}", redacted(&self.key)))
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

    #[test]
    fn passwords_and_keys_of_users_are_not_printed() {
        let secret = || "s3cret".to_owned();
        let create = CreateUserRequest { password: secret(), ..Default::default() };
        let alter = AlterUserRequest { password: Some(secret()), ..Default::default() };
        let key = CreateApiKeyResponse { key: secret(), ..Default::default() };
        for text in [format!("{create:?}"), format!("{alter:#?}"), format!("{key:?}")] {
            assert!(text.contains("redacted") && !text.contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn passwords_and_tokens_are_not_printed() {
        let secret = || "s3cret".to_owned();
        let login = LoginRequest { username: "ana".to_owned(), password: secret() };
        let refresh = RefreshRequest { refresh_token: secret() };
        let tokens = Tokens { access_token: secret(), refresh_token: secret(), ..Default::default() };
        let answer = crate::v1::LoginResponse { tokens: Some(tokens.clone()), ..Default::default() };
        for text in [format!("{login:?}"), format!("{refresh:?}"), format!("{tokens:#?}"), format!("{answer:?}")] {
            assert!(text.contains("redacted") && !text.contains("s3cret"), "{text}");
        }
    }
}
