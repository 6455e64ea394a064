use proptest::prelude::*;

use super::*;

fn key(seed: u8) -> SecretKey {
    let bytes: Vec<u8> = (0..32).map(|i: u8| i.wrapping_mul(7).wrapping_add(seed)).collect();
    SecretKey::from_base64(&STANDARD.encode(bytes)).unwrap()
}

proptest! {
    #[test]
    fn what_is_sealed_opens_under_the_same_key_and_context_only(
        secret in proptest::collection::vec(any::<u8>(), 0..200),
        context in proptest::collection::vec(any::<u8>(), 0..20),
        nonce in any::<[u8; NONCE_LEN]>(),
        flip in any::<proptest::sample::Index>(),
    ) {
        let sealed = key(1).seal(nonce, &context, &secret).unwrap();
        prop_assert_eq!(key(1).open(&context, &sealed).unwrap(), secret.clone());
        prop_assert_eq!(key(2).open(&context, &sealed), Err(NotOpened));
        prop_assert_eq!(key(1).open(&[&context[..], b"x"].concat(), &sealed), Err(NotOpened));
        prop_assert!(secret.len() < 8 || !sealed.windows(secret.len()).any(|part| part == secret));
        let mut changed = sealed.clone();
        let at = flip.index(changed.len());
        changed[at] ^= 1;
        prop_assert_eq!(key(1).open(&context, &changed), Err(NotOpened));
        prop_assert_eq!(key(1).open(&context, &sealed[..at]), Err(NotOpened));
    }
}

#[test]
fn the_format_is_fixed() {
    let sealed = key(1).seal([9; NONCE_LEN], b"storage 7", b"hush").unwrap();
    assert_eq!(sealed.len(), 1 + 12 + 4 + 16);
    assert_eq!((sealed[0], &sealed[1..13]), (1, &[9; 12][..]));
}

#[test]
fn keys_are_checked_and_never_shown() {
    for text in ["", "abc", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "not base64 at all!", &"QUJD".repeat(20)] {
        assert_eq!(SecretKey::from_base64(text), Err(InvalidSecretKey), "{text}");
    }
    assert!(SecretKey::from_base64(&format!(" {}\n", STANDARD.encode((0..32).collect::<Vec<u8>>()))).is_ok());
    assert_eq!(format!("{:?}", key(3)), "SecretKey(redacted)");
}
