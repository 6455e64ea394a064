//! `[tls]`.

use crate::{
    config::{ClientAuth, ClientIdentity, TlsSection},
    transport::Tls,
};

/// Checks the section, and that its files can be read and fit.
pub(super) fn validate(tls: &TlsSection, failed: &mut impl FnMut(&str, String)) {
    if !tls.is_on() {
        let needs = |key: &str| format!("{key} needs tls.cert_file and tls.key_file");
        if !tls.key_file.is_empty() {
            failed("tls.key_file", needs("tls.key_file"));
        }
        if tls.client_auth != ClientAuth::None {
            failed("tls.client_auth", needs("tls.client_auth"));
        }
        return;
    }
    if tls.key_file.is_empty() {
        failed("tls.key_file", "must be given with tls.cert_file".to_owned());
        return;
    }
    if tls.client_auth == ClientAuth::None {
        if tls.client_identity != ClientIdentity::None {
            failed("tls.client_identity", "needs tls.client_auth = \"optional\" or \"required\"".to_owned());
        }
    } else if tls.client_ca_file.is_empty() {
        failed("tls.client_ca_file", "must be given with tls.client_auth".to_owned());
        return;
    }
    if let Err(reason) = Tls::check(tls) {
        failed("tls.cert_file", reason);
    }
}
