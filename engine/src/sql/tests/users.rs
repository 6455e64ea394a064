//! Statements about users and API keys.

use super::*;
use crate::access::Role;

fn create_user(sql: &str) -> CreateUser {
    match one(sql) {
        Statement::CreateUser(create) => *create,
        other => panic!("{sql}: {other:?}"),
    }
}

fn alter_user(sql: &str) -> AlterUser {
    match one(sql) {
        Statement::AlterUser(alter) => *alter,
        other => panic!("{sql}: {other:?}"),
    }
}

fn create_key(sql: &str) -> CreateApiKey {
    match one(sql) {
        Statement::CreateApiKey(create) => create,
        other => panic!("{sql}: {other:?}"),
    }
}

fn words(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn users_are_created() {
    let plain = create_user("CREATE USER Ana");
    assert_eq!((text(&plain.name), plain.if_not_exists, plain.user_id), ("ana", false, None));
    assert!(plain.properties.role.is_none() && plain.properties.password.is_none());
    let full = create_user(
        "create user if not exists 'Ana@x.org' with role 'Service' password 'it''s secret' id 'u-1' permissions ('a.*', \
         'b.c.d = 1') metadata '{}' disable",
    );
    assert_eq!((text(&full.name), full.if_not_exists, full.user_id.as_deref()), ("Ana@x.org", true, Some("u-1")));
    let UserProperties { role, password, permissions, metadata, disabled } = full.properties;
    assert_eq!(role, Some(Role::Service));
    assert_eq!(password.flatten().map(|password| password.as_str().to_owned()), Some("it's secret".to_owned()));
    assert_eq!(permissions, Some(words(&["a.*", "b.c.d = 1"])));
    assert_eq!((metadata, disabled), (Some(Some("{}".to_owned())), Some(true)));
    // Commas may stand between clauses; names may be keywords.
    let commas = create_user("CREATE USER \"table\" ROLE dba, PASSWORD NULL, PERMISSIONS ARRAY['a.*'], ENABLED");
    assert_eq!(text(&commas.name), "table");
    assert_eq!(commas.properties.password, Some(None));
    assert_eq!(commas.properties.permissions, Some(words(&["a.*"])));
    for none in ["()", "[]", "ARRAY[]", "NULL"] {
        let sql = format!("CREATE USER u PERMISSIONS {none}");
        assert_eq!(create_user(&sql).properties.permissions, Some(Vec::new()), "{sql}");
    }
    // A table all the same.
    create_table("CREATE USER TABLE u (id BIGINT PRIMARY KEY)");
}

#[test]
fn users_are_altered_and_dropped() {
    for sql in ["ALTER USER u SET ROLE dba", "ALTER USER u WITH ROLE dba", "ALTER USER u ROLE dba"] {
        assert_eq!(alter_user(sql).properties.role, Some(Role::Dba), "{sql}");
    }
    let alter = alter_user("ALTER USER u SET ROLE user, SET METADATA NULL ENABLE");
    assert_eq!(alter.properties.metadata, Some(None));
    assert_eq!(alter.properties.disabled, Some(false));
    assert_eq!(alter_user("ALTER USER u RENAME TO v").rename_to.as_ref().map(text), Some("v"));
    for (sql, if_exists, cascade) in [
        ("DROP USER u", false, false),
        ("DROP USER u RESTRICT", false, false),
        ("DROP USER IF EXISTS 'u' CASCADE", true, true),
    ] {
        let Statement::DropUser(drop) = one(sql) else { panic!("{sql}") };
        assert_eq!((text(&drop.name), drop.if_exists, drop.cascade), ("u", if_exists, cascade), "{sql}");
    }
}

#[test]
fn keys_are_created_and_revoked() {
    let key = create_key("CREATE API KEY FOR USER u NAME 'ci' EXPIRES IN '2 days'");
    assert_eq!((text(&key.user), key.name.as_deref()), ("u", Some("ci")));
    assert_eq!(key.expires, Some(Expiry::In(2 * 86_400_000_000)));
    let key = create_key("CREATE API KEY FOR u EXPIRES '1970-01-02T00:00:00Z'");
    assert_eq!(key.expires, Some(Expiry::At(86_400_000_000)));
    for (sql, id) in [
        ("REVOKE API KEY '0123456789abcdef'", "0123456789abcdef"),
        ("REVOKE API KEY 'kdb_0123456789abcdef_secret_secret'", "0123456789abcdef"),
        ("REVOKE API KEY 'kdb_'", ""),
    ] {
        let Statement::RevokeApiKey(revoke) = one(sql) else { panic!("{sql}") };
        assert_eq!(revoke.key_id, id, "{sql}");
    }
    assert!(matches!(one("SHOW USERS"), Statement::ShowUsers));
    assert!(matches!(one("SHOW API KEYS"), Statement::ShowApiKeys { user: None }));
    assert!(matches!(one("SHOW API KEYS FOR USER u"), Statement::ShowApiKeys { user: Some(_) }));
}

#[test]
fn what_is_wrong_is_said() {
    let (syntax, invalid) = (Reason::SyntaxError, Reason::InvalidStatement);
    refused("CREATE USER", syntax, "the name of a user");
    refused("CREATE USER 5", syntax, "the name of a user");
    refused("CREATE USER u ROLE admin", syntax, "USER, SERVICE, DBA or SYSTEM");
    refused("CREATE USER u ROL dba", syntax, "Did you mean ROLE?");
    refused("CREATE USER u PASSWORT 'x'", syntax, "Did you mean PASSWORD?");
    refused("CREATE USER u ROLE dba ROLE dba", invalid, "ROLE is said twice");
    refused("CREATE USER u ENABLE DISABLE", invalid, "DISABLE is said twice");
    refused("CREATE USER u PERMISSIONS 'a.*'", syntax, "rules in parentheses");
    refused("CREATE USER u PERMISSIONS (a)", syntax, "a rule in");
    refused("CREATE USER u PERMISSIONS ('a.*'", syntax, "a comma, or the end of the rules");
    refused("CREATE USER u PASSWORD $1", syntax, "a password in");
    refused("ALTER USER u", syntax, "ROLE, PASSWORD");
    refused("ALTER USER u SET", syntax, "ROLE, PASSWORD");
    refused("ALTER USER u SET ID 'v'", Reason::NotSupported, "cannot be changed");
    refused("DROP USER u CASCADE NOW", syntax, "the end of the statement");
    refused("CREATE API KEY u", syntax, "FOR");
    refused("CREATE API KEY FOR USER u EXPIRES tomorrow", syntax, "a time such as");
    refused("CREATE API KEY FOR USER u EXPIRES 'tomorrow'", invalid, "is not a time");
    refused("CREATE API KEY FOR USER u NAME 'a' NAME 'b'", invalid, "twice");
    refused("REVOKE API KEY x", syntax, "the id of an API key");
    refused("SHOW USERS LIKE 'x'", Reason::NotSupported, "system.users");
}

#[test]
fn passwords_and_keys_are_shown_and_kept_nowhere() {
    const SECRET: &str = "s3cr3t";
    for (sql, normalized) in [
        ("CREATE USER u PASSWORD 's3cr3t'", "create user u password"),
        ("CREATE USER u ROLE dba PASSWORD 's3cr3t' DISABLE", "create user u role dba password"),
        ("ALTER USER u SET PASSWORD 's3cr3t'", "alter user u set password"),
        ("REVOKE API KEY 'kdb_0123456789abcdef_s3cr3t'", "revoke api key"),
    ] {
        let parsed = batch(sql).remove(0);
        assert!(parsed.statement.has_secrets(), "{sql}");
        assert!(!format!("{parsed:?}").contains(SECRET), "{parsed:?}");
        assert_eq!(parsed.normalized, normalized);
    }
    for sql in [
        "INSERT INTO system.users (username, password) VALUES ('u', 's3cr3t')",
        "INSERT INTO users (username, password) VALUES ('u', 's3cr3t')",
        "INSERT INTO system.users (username, pasword) VALUES ('u', 's3cr3t')",
        "INSERT INTO system.users VALUES ('u', 's3cr3t')",
        "UPDATE system.users SET password = 's3cr3t'",
        "UPDATE system.users SET pasword = 's3cr3t'",
    ] {
        assert!(one(sql).has_secrets(), "{sql}");
    }
    for sql in ["INSERT INTO app.users (name) VALUES ('u')", "INSERT INTO users (name) VALUES ('u')", "CREATE USER u"] {
        assert!(!one(sql).has_secrets(), "{sql}");
    }
    for sql in [
        "CREATE USER u PASSWORD s3cr3t",
        "CREATE USER u PASSWORD \"s3cr3t\"",
        "CREATE USER u PASSWORD E's3cr3t'",
        "CREATE USER u PASSWORD = 's3cr3t'",
        "CREATE USER u PASSWORD 's3cr3t",
        "CREATE USER u 's3cr3t'",
        "CREATE USER u ROLE 's3cr3t'",
        "CREATE USER u PASSWORD 's3cr3t' s3cr3t",
        "ALTER USER u SET PASWORD 's3cr3t'",
        "ALTER USER u SET PASSWORD TO 's3cr3t'",
        "REVOKE API KEY kdb_s3cr3t",
        "REVOKE API KEY 'x' 's3cr3t'",
        "INSERT INTO system.users (username, password) VALUES ('u' 's3cr3t')",
        "UPDATE system.users SET password = 'x' s3cr3t",
    ] {
        let error = fails(sql);
        assert!(!format!("{error:?}").contains(SECRET), "{sql}: {error:?}");
    }
}
