use std::collections::HashMap;
use std::path::{Component, Path as FilePath};

use object_store::path::Path;
use proptest::prelude::*;

use super::*;

/// Ids as people and attackers choose them.
fn id() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9_.@-]{1,20}",
        any::<String>(),
        proptest::collection::vec(any::<char>(), 1..256).prop_map(String::from_iter),
        proptest::collection::vec(prop_oneof![Just('.'), Just('/'), Just('!'), Just('\0'), Just('a')], 1..300)
            .prop_map(String::from_iter),
        (1..256usize).prop_map(|n| "\u{10FFFF}".repeat(n)),
        (80..200usize).prop_map(|n| "x".repeat(n)),
        // What looks like another value's encoding.
        any::<String>().prop_map(|value| encode(&value)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_name_is_one_folder_that_every_store_keeps(value in id()) {
        let name = encode(&value);
        prop_assert!(!name.is_empty() && name.len() <= MAX_ENCODED_BYTES);
        prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!-_.".contains(&b)), "{}", name);
        prop_assert!(!name.starts_with(['.', '-', '_']) && !name.ends_with('.'));
        // Local file systems: one plain component.
        let components: Vec<_> = FilePath::new(&name).components().collect();
        prop_assert!(matches!(components.as_slice(), [Component::Normal(_)]));
        // Object stores: neither form of Path changes it.
        let parsed = Path::parse(&name).unwrap();
        prop_assert_eq!(parsed.as_ref(), name.as_str());
        let from = Path::from(name.as_str());
        prop_assert_eq!(from.as_ref(), name.as_str());
        let parts = Path::from_iter([name.as_str(), name.as_str()]);
        prop_assert_eq!(parts.as_ref(), format!("{name}/{name}"));
    }

    #[test]
    fn two_values_never_share_a_name(values in proptest::collection::vec(id(), 2..20)) {
        let mut names = HashMap::new();
        for value in values {
            let name = encode(&value);
            let before = names.insert(name.clone(), value.clone());
            prop_assert!(before.is_none_or(|before| before == value), "{} twice", name);
            // Nor does a value share the name of what its own name says.
            prop_assert!(name == value || encode(&name) != name);
        }
    }
}

#[test]
fn names_are_stable() {
    for (value, name) in [
        ("ana", "ana"),
        ("", "!"),
        (".", "!2e"),
        ("..", "!2e!2e"),
        ("../x", "!2e.!2fx"),
        ("a.b.", "a.b!2e"),
        ("_a-_", "!5fa-_"),
        ("-rf", "!2drf"),
        ("a!b", "a!21b"),
        ("ana@example.com", "ana!40example.com"),
        ("é", "!c3!a9"),
        ("\0", "!00"),
        ("user:42", "user!3a42"),
    ] {
        assert_eq!(encode(value), name, "{value:?}");
    }
    let digest = "8eb827e6964db1e28caafb07b408d441efc804c8da30e3bad83a70dd3566a88b";
    assert_eq!(encode(&"x".repeat(151)), format!("{}!!{digest}", "x".repeat(84)));
}

#[test]
fn long_values_differ_where_their_beginnings_do_not() {
    let (a, b) = (format!("{}a", "é".repeat(255)), format!("{}b", "é".repeat(255)));
    assert_ne!(encode(&a), encode(&b));
    assert!(encode(&a).starts_with("!c3!a9") && encode(&a)[78..].starts_with("!c3!a9!!"), "{}", encode(&a));
    assert_eq!(encode(&"x".repeat(150)), "x".repeat(150));
    assert_eq!(encode(&"x".repeat(151)).len(), 150);
}
