use std::ffi::OsString;

use super::*;

fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
}

fn load(file: Option<&str>, variables: &[(&str, &str)], flags: &[Flag]) -> Result<LoadedConfig, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    if let Some(text) = file {
        std::fs::write(&path, text).unwrap();
    }
    LoadedConfig::load(file.map(|_| path.as_path()), environment(variables), flags)
        .map_err(|errors| errors.to_string().replace(&path.display().to_string(), "config.toml"))
}

#[test]
fn defaults_are_valid_and_are_the_engines() {
    let loaded = load(None, &[], &[]).unwrap();
    assert_eq!(loaded.config.server.listen, "127.0.0.1:2900");
    assert_eq!(loaded.source("server.listen"), Source::Default);
    let expected = kalamdb_engine::EngineSettings {
        storage: kalamdb_engine::StorageSettings::Directory("kalamdb-data".into()),
        ..Default::default()
    };
    assert_eq!(loaded.config.engine_settings(), expected);
}

#[test]
fn every_key_is_described_and_every_description_has_a_key() {
    let values = layers::flatten_config(&Config::default());
    let mut described: Vec<_> = keys::KEYS.iter().map(|key| key.name.to_owned()).collect();
    described.sort();
    assert_eq!(values.keys().cloned().collect::<Vec<_>>(), described);
}

#[test]
fn later_layers_win_and_the_source_is_known() {
    let file = "[server]\nlisten = \"127.0.0.1:1\"\nmax_connections = 5\n[storage]\ndata_dir = \"f\"\n[limits]\n";
    let loaded = load(
        Some(file),
        &[("KALAMDB__SERVER__LISTEN", "127.0.0.1:2"), ("KALAMDB__STORAGE__DATA_DIR", "123"), ("PATH", "x")],
        &[Flag::new("--listen", "server.listen", "127.0.0.1:3")],
    )
    .unwrap();
    assert_eq!(loaded.config.server.listen, "127.0.0.1:3");
    assert_eq!(loaded.source("server.listen"), Source::Flag("--listen".to_owned()));
    assert_eq!(loaded.config.server.max_connections, 5);
    assert_eq!(loaded.source("server.max_connections").kind(), "file");
    assert_eq!(loaded.config.storage.data_dir, "123");
    assert_eq!(loaded.source("storage.data_dir"), Source::Environment("KALAMDB__STORAGE__DATA_DIR".to_owned()));
    let settings = loaded.settings();
    let listen = settings.iter().find(|setting| setting.name == "server.listen").unwrap();
    assert_eq!((listen.value.as_str(), listen.source.as_str()), ("127.0.0.1:3", "flag"));
    assert!(settings.is_sorted_by_key(|setting| setting.name.clone()));
}

#[test]
fn texts_of_variables_are_read_as_the_key_needs_them() {
    let loaded = load(
        None,
        &[
            ("KALAMDB__SERVER__DEV", "true"),
            ("KALAMDB__LIMITS__MAX_RESULT_ROWS", "18446744073709551615"),
            ("KALAMDB__CORS__ALLOWED_ORIGINS", "https://a.example, http://localhost:3000"),
            ("KALAMDB__STORAGE__DURABILITY", "async"),
        ],
        &[],
    )
    .unwrap();
    assert!(loaded.config.server.dev);
    assert_eq!(loaded.config.limits.max_result_rows, u64::MAX);
    assert_eq!(loaded.config.cors.allowed_origins, ["https://a.example", "http://localhost:3000"]);
    assert_eq!(loaded.config.storage.durability, DurabilityName::Async);
}

#[test]
fn unknown_keys_are_refused_with_the_nearest() {
    let error = load(Some("[server]\nlisen = \"x\"\n[storage]\nlisten = \"y\"\n"), &[], &[]).unwrap_err();
    assert_eq!(
        error,
        "configuration: server.lisen (file config.toml): unknown key; did you mean server.listen?\n\
         configuration: storage.listen (file config.toml): unknown key; did you mean server.listen?"
    );
    let error = load(None, &[("KALAMDB__SEVER__DEV", "true")], &[]).unwrap_err();
    assert_eq!(
        error,
        "configuration: sever.dev (environment variable KALAMDB__SEVER__DEV): unknown key; did you mean server.dev?"
    );
    let error = load(None, &[], &[Flag::new("--set", "qqq.zzzzzz", "1")]).unwrap_err();
    assert!(error.contains("`kalamdb-server config print` shows all of them"), "{error}");
    let error = load(Some("server = 3\n"), &[], &[]).unwrap_err();
    assert!(error.contains("server (file config.toml): is a section"), "{error}");
}

#[test]
fn bad_values_are_refused_all_at_once() {
    let file = "[server]\nmax_connections = \"many\"\n[storage]\ndurability = \"synk\"\nwrite_buffer_mb = -1\n";
    let error = load(Some(file), &[("KALAMDB__SERVER__DEV", "maybe")], &[]).unwrap_err();
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines.len(), 4, "{error}");
    assert!(lines[0].contains("server.dev (environment variable KALAMDB__SERVER__DEV): expected true or false"));
    assert!(lines[1].contains("server.max_connections (file config.toml): expected a whole number"), "{error}");
    assert!(lines[2].contains("\"synk\" is not one of sync, async; did you mean \"sync\"?"), "{error}");
    assert!(lines[3].contains("storage.write_buffer_mb"), "{error}");
}

#[test]
fn ranges_and_combinations_are_checked() {
    for (key, value, expected) in [
        ("server.listen", "2900", "is not an address with a port"),
        ("server.node_id", "1024", "it may be 0 to 1023"),
        ("server.dev_user", "", "must not be empty"),
        ("storage.data_dir", "", "must not be empty"),
        ("storage.roots", "/srv/cold,cold", "\"cold\" is not an absolute path"),
        ("storage.secret_key", "c2hvcnQ=", "32 random bytes in base64"),
        ("storage.request_timeout_s", "0", "it may be 1 to 300"),
        ("query.memory_mb", "4096", "more than query.total_memory_mb"),
        ("log.level", "loud", "is not a level"),
        ("cors.allowed_origins", "example.com", "is not an origin"),
        ("limits.max_request_bytes", "1", "out of range"),
    ] {
        let error = load(None, &[], &[Flag::new("--set", key, value)]).unwrap_err();
        assert!(error.contains(expected) && error.contains(key), "{key}={value}: {error}");
    }
    for (key, value) in [
        ("server.listen", "0.0.0.0:2900"),
        ("server.listen", "[::]:2900"),
        ("server.listen", "localhost:0"),
        ("server.listen", "[::1]:1"),
        ("log.level", "info,hyper=off"),
    ] {
        load(None, &[], &[Flag::new("--set", key, value)]).unwrap();
    }
}

#[test]
fn what_others_can_reach_is_not_open_to_everybody() {
    let listen = Flag::new("--listen", "server.listen", "0.0.0.0:2900");
    let dev = Flag::new("--dev", "server.dev", "true");
    let error = load(None, &[], &[listen.clone(), dev]).unwrap_err();
    assert!(error.contains("server.listen") && error.contains("leave --dev out"), "{error}");
    let required = Flag::new("--set", "tls.required", "true");
    let error = load(None, &[], &[listen, required.clone()]).unwrap_err();
    assert!(error.contains("tls.required") && error.contains("tls.cert_file"), "{error}");
    load(None, &[], &[required]).unwrap();
}

#[test]
fn keys_and_certificates_are_read_when_the_configuration_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    for (name, text) in [
        ("cert.pem", made.cert.pem()),
        ("key.pem", made.signing_key.serialize_pem()),
        ("other.pem", other.signing_key.serialize_pem()),
        ("public.pem", made.signing_key.public_key_pem()),
        ("junk.pem", "junk".to_owned()),
        ("set.json", "{\"keys\":[]}".to_owned()),
    ] {
        std::fs::write(path(name), text).unwrap();
    }
    let set = |settings: &[(&str, String)]| {
        let flags: Vec<_> = settings.iter().map(|(key, value)| Flag::new("--set", *key, value.clone())).collect();
        load(None, &[], &flags)
    };
    let tls = |cert: &str, key: &str| [("tls.cert_file", path(cert)), ("tls.key_file", path(key))];
    set(&tls("cert.pem", "key.pem")).unwrap();
    set(&[("auth.jwt_keys", format!("ES256:one={}", path("public.pem")))]).unwrap();
    for (settings, expected) in [
        (tls("cert.pem", "other.pem").to_vec(), "do not fit"),
        (tls("cert.pem", "none.pem").to_vec(), "cannot be read"),
        (tls("junk.pem", "key.pem").to_vec(), "has no certificate"),
        (tls("cert.pem", "key.pem")[..1].to_vec(), "tls.key_file"),
        (
            [tls("cert.pem", "key.pem").to_vec(), vec![("tls.client_auth", "required".to_owned())]].concat(),
            "tls.client_ca_file",
        ),
        (vec![("tls.client_auth", "optional".to_owned())], "needs tls.cert_file"),
        (vec![("auth.jwt_secret", "short".to_owned())], "has 5 bytes"),
        (vec![("auth.jwt_keys", "ES256".to_owned())], "write it as"),
        (vec![("auth.jwt_keys", format!("HS256={}", path("public.pem")))], "auth.jwt_secret"),
        (vec![("auth.jwt_keys", format!("PS256={}", path("public.pem")))], "is not an algorithm"),
        (vec![("auth.jwt_keys", format!("RS256={}", path("public.pem")))], "is not a public key of RS256"),
        (vec![("auth.jwt_keys", format!("ES256={}", path("key.pem")))], "is not a public key of ES256"),
        (vec![("auth.jwt_keys", format!("EdDSA={}", path("none.pem")))], "cannot be read"),
        (vec![("auth.jwks_file", path("set.json"))], "no key for any"),
        (vec![("auth.jwks_file", path("junk.pem"))], "not a JSON Web Key Set"),
        (vec![("auth.jwks_url", "http://idp.example.com/keys".to_owned())], "neither https nor http on this machine"),
        (vec![("auth.jwks_algorithms", "HS256".to_owned())], "auth.jwks_algorithms"),
        (vec![("auth.jwks_algorithms", "RS257".to_owned())], "is not one of"),
    ] {
        let error = set(&settings).unwrap_err();
        assert!(error.contains(expected), "{settings:?}: {error}");
    }
    let secret = "a text that has more than 32 bytes, all told";
    let loaded = set(&[("auth.jwt_secret", secret.to_owned())]).unwrap();
    assert!(!format!("{loaded:?}{}", loaded.to_toml()).contains("32 bytes, all"));
}

#[test]
fn secrets_are_taken_and_never_shown() {
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let loaded = load(None, &[("KALAMDB__STORAGE__SECRET_KEY", key)], &[]).unwrap();
    let expected = kalamdb_engine::SecretKey::from_base64(key).unwrap();
    assert_eq!(loaded.config.engine_settings().storage_secret_key, Some(expected));
    let shown = loaded.settings().into_iter().find(|setting| setting.name == "storage.secret_key").unwrap();
    assert_eq!((shown.value.as_str(), shown.source.as_str()), ("redacted", "environment"));
    let printed = loaded.to_toml();
    assert!(printed.contains("# secret_key = \"redacted\""), "{printed}");
    for text in [printed.clone(), format!("{loaded:?}"), format!("{:?}", loaded.config.engine_settings())] {
        assert!(!text.contains("AAECAw"), "{text}");
    }
    let without = load(Some(&printed), &[], &[]).unwrap();
    assert_eq!(without.config.engine_settings().storage_secret_key, None);
    let unset = load(None, &[], &[]).unwrap();
    assert!(unset.settings().iter().any(|s| s.name == "storage.secret_key" && s.value.is_empty()));
}

#[test]
fn files_that_cannot_be_read_say_so() {
    let error = load(Some("[server\n"), &[], &[]).unwrap_err();
    assert!(error.starts_with("configuration: file config.toml: is not TOML"), "{error}");
    let missing = std::path::Path::new("/nonexistent/kalamdb.toml");
    let error = LoadedConfig::load(Some(missing), [], &[]).unwrap_err().to_string();
    assert!(error.contains("cannot be read"), "{error}");
}

#[test]
fn what_is_printed_is_a_configuration_file() {
    let flags = [
        Flag::new("--set", "cors.allowed_origins", "https://a.example,*"),
        Flag::new("--data-dir", "storage.data_dir", "a \"quoted\" \\ folder"),
    ];
    let loaded = load(None, &[], &flags).unwrap();
    let text = loaded.to_toml();
    assert!(text.contains("(flag --data-dir)"), "{text}");
    assert_eq!(load(Some(&text), &[], &[]).unwrap().config, loaded.config);
}
