use super::*;
use crate::env::FixedEnv;

#[test]
fn a_secret_is_read_as_it_was_written() {
    let env = FixedEnv::new(0, 7);
    let (secret, other) = (Secret::new(&env), Secret::new(&env));
    let text = secret.text();
    assert_eq!(text.len(), SECRET_CHARS);
    let read = Secret::parse(&text).unwrap();
    assert!(secret.hash().is_of(&read));
    assert!(!other.hash().is_of(&read));
    for wrong in ["", "a", &text[1..], &format!("{text}a"), &text.replace(&text[..1], "!"), &"é".repeat(43)] {
        assert!(Secret::parse(wrong).is_none(), "{wrong}");
    }
}

#[test]
fn one_changed_character_is_another_secret() {
    let env = FixedEnv::new(0, 1);
    let secret = Secret::new(&env);
    let (hash, text) = (secret.hash(), secret.text());
    for place in 0..text.len() {
        let mut changed = text.clone().into_bytes();
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(Secret::parse(&changed).is_none_or(|changed| !hash.is_of(&changed)), "{changed}");
    }
}

#[test]
fn hashes_are_stored_and_not_shown() {
    let hash = Secret::new(&FixedEnv::new(0, 3)).hash();
    let json = serde_json::to_string(&hash).unwrap();
    assert_eq!(serde_json::from_str::<SecretHash>(&json).unwrap(), hash);
    assert_eq!(format!("{hash:?}"), "SecretHash(redacted)");
    assert!(serde_json::from_str::<SecretHash>("\"abc\"").is_err());
}

#[test]
fn ids_are_sixteen_hexadecimal_digits() {
    assert!(is_id(&random_id(&FixedEnv::new(0, 5))));
    for wrong in ["", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", "0123456789abcdeg"] {
        assert!(!is_id(wrong), "{wrong}");
    }
}
