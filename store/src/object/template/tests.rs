use std::collections::HashMap;

use object_store::path::Path;
use proptest::prelude::*;

use super::*;

const NAMES: PathNames<'static> = PathNames { namespace: "chat", table: "messages", user: Some("ana") };

fn expanded(text: &str) -> String {
    PathTemplate::parse(text, true).unwrap().expand(&NAMES)
}

fn refused(text: &str, per_user: bool) -> String {
    PathTemplate::parse(text, per_user).unwrap_err().to_string()
}

#[test]
fn variables_stand_for_names() {
    for (template, path) in [
        (USER_TEMPLATE, "chat/users/ana/messages"),
        ("{storageLocation}/{namespace}/users/{userId}/{tableName}/", "chat/users/ana/messages"),
        ("{storageLocation}/{userId}", "ana"),
        ("${storageLocation}/${user_id}", "ana"),
        ("cold/{shard}/{user_id}/{namespace}.{tableName}", "cold/a/ana/chat.messages"),
        ("{shard:hash(16)}/{userId}", "10/ana"),
        ("{shard:alphabetic}/u-{userId}", "a/u-ana"),
        ("year=2026/{userId}", "year=2026/ana"),
    ] {
        assert_eq!(expanded(template), path, "{template}");
    }
    let shared = PathNames { user: None, ..NAMES };
    for (template, path) in [(SHARED_TEMPLATE, "chat/messages"), ("{shard}/{tableName}", "m/messages")] {
        assert_eq!(PathTemplate::parse(template, false).unwrap().expand(&shared), path, "{template}");
    }
    for per_user in [true, false] {
        let text = if per_user { USER_TEMPLATE } else { SHARED_TEMPLATE };
        assert_eq!(PathTemplate::parse(text, per_user).unwrap(), PathTemplate::default_of(per_user));
    }
}

#[test]
fn shards_are_letters_or_a_stable_hash() {
    let shard = |user| Shards::Alphabetic.of(user);
    for (user, expected) in
        [("ana", "a"), ("Zed", "z"), ("7up", "other"), ("éva", "other"), ("", "other"), ("_a", "other")]
    {
        assert_eq!(shard(user), expected, "{user:?}");
    }
    // Fixed for ever: a table's folders must not move with a new version.
    let hashes: Vec<_> = ["ana", "bob", "éva"].map(|user| Shards::Hash(1_000).of(user)).into();
    assert_eq!(hashes, ["18", "650", "578"]);
    assert_eq!(Shards::Hash(1).of("ana"), "0");
}

#[test]
fn what_is_wrong_is_said() {
    for (template, said) in [
        ("{namespace}/{tableName}", "needs {userId}"),
        ("{userid}/x", "Did you mean {userId}?"),
        ("{namspace}/{userId}", "Did you mean {namespace}?"),
        ("{qqqqqqq}/{userId}", "which does not exist. Variables are {storageLocation}"),
        ("../{userId}", "dot"),
        ("{userId}/..", "dot"),
        ("{userId}/./x", "dot"),
        (".{userId}", "dot"),
        ("a//{userId}", "two slashes"),
        ("/data/{userId}", "begins with a slash"),
        ("{storageLocation}//{userId}", "begins with a slash"),
        ("{storageLocation}{userId}", "slash must follow"),
        ("x/{storageLocation}/{userId}", "only at the beginning"),
        ("{userId", "not closed"),
        ("userId}", "character '}'"),
        ("a b/{userId}", "character ' '"),
        ("a\\b/{userId}", "character '\\\\'"),
        ("a!2e/{userId}", "character '!'"),
        ("%2e%2e/{userId}", "character '%'"),
        ("{userId}{shard}", "folder of their own"),
        ("{shard}1{userId}", "folder of their own"),
        ("{namespace}_{userId}", "folder of their own"),
        ("{shard:hash(0)}/{userId}", "n from 1"),
        ("{shard:random}/{userId}", "alphabetic or hash(n)"),
        ("", "names no folder"),
        ("{storageLocation}", "names no folder"),
        ("{storageLocation}/", "names no folder"),
    ] {
        let error = refused(template, true);
        assert!(error.contains(said), "{template}: {error}");
    }
    assert!(refused(&format!("{}{{userId}}", "x".repeat(120)), true).contains("a name of 270 bytes"));
    assert!(refused(&["{userId}"; 5].join("/"), true).contains("can have 755 bytes"));
    assert!(refused("{userId}/x", false).contains("leave {userId} out"));
    assert!(refused(&"{".repeat(100_000), true).contains("not closed"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_two_users_share_a_folder_and_none_leaves_its_own(
        users in proptest::collection::vec(prop_oneof![any::<String>(), "[ab./!1_-]{0,6}", "[a-z]{140,256}"], 2..12),
        template in prop_oneof![
            Just(USER_TEMPLATE),
            Just("{shard}/{userId}"),
            Just("s-{shard:hash(12)}/1{userId}/{tableName}"),
            Just("{namespace}-{tableName}/{userId}x"),
        ],
    ) {
        let template = PathTemplate::parse(template, true).unwrap();
        let mut folders: HashMap<String, String> = HashMap::new();
        for user in users {
            let path = template.expand(&PathNames { user: Some(&user), ..NAMES });
            let parsed = Path::parse(&path).unwrap();
            prop_assert_eq!(parsed.as_ref(), path.as_str());
            prop_assert_eq!(parsed.parts().count(), template.folders.len());
            prop_assert!(path.split('/').all(|name| name.len() <= 255 && name != ".." && name != "."));
            let before = folders.insert(path, user.clone());
            prop_assert!(before.is_none_or(|before| before == user));
        }
    }

    #[test]
    fn a_template_reads_as_it_displays(text in "[{}$/a.]{0,12}|(\\{(userId|shard|shard:hash\\(7\\)|tableName|namespace)\\}/){1,4}x?") {
        if let Ok(template) = PathTemplate::parse(&text, true) {
            prop_assert_eq!(PathTemplate::parse(&template.to_string(), true).unwrap(), template);
        }
    }
}
