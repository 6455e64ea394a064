//! Names and namespaces.

use super::*;

#[test]
fn identifiers_fold_unless_quoted() {
    let Statement::CreateNamespace(create) = one("CREATE NAMESPACE Chat") else { panic!() };
    assert_eq!(create.name, Name { text: "chat".to_owned(), position: place(1, 18) });
    let Statement::CreateNamespace(create) = one("CREATE NAMESPACE \"Chat\"") else { panic!() };
    assert_eq!(text(&create.name), "Chat");
    let Statement::CreateNamespace(create) = one("CREATE NAMESPACE `Chat`") else { panic!() };
    assert_eq!(text(&create.name), "Chat");
    let create = create_table("CREATE USER TABLE NS.\"T\" (Id BIGINT, \"Id\" TEXT)");
    assert_eq!(create.table.namespace.as_ref().map(text), Some("ns"));
    assert_eq!(text(&create.table.table), "T");
    assert_eq!(create.columns.iter().map(|column| text(&column.name)).collect::<Vec<_>>(), ["id", "Id"]);
    assert_eq!(create.columns[1].name.position, place(1, 38));
}

#[test]
fn table_names_tell_their_scope() {
    let table = |sql: &str| match one(&format!("DELETE FROM {sql}")) {
        Statement::Delete(delete) => delete.table,
        other => panic!("{other:?}"),
    };
    assert_eq!((table("t").scope, table("t").namespace), (TableScope::Caller, None));
    assert_eq!(table("system.x").namespace.as_ref().map(text), Some("system"));
    assert_eq!(table("ns.user.t").scope, TableScope::ActingUser);
    assert_eq!(table("ns.ALL_USERS.t").scope, TableScope::AllUsers);
    assert_eq!(text(&table("ns.user.t").table), "t");
    refused("DELETE FROM ns.other.t", Reason::InvalidName, "namespace.user.table");
    refused("DELETE FROM a.b.user.t", Reason::InvalidName, "namespace.user.table");
    refused("DELETE FROM 'text'", Reason::InvalidName, "not by a string");
    assert_eq!(fails("DELETE FROM ns.other.t").position(), place(1, 13));
    for sql in [
        "CREATE USER TABLE ns.user.t (id BIGINT)",
        "DROP TABLE ns.all_users.t",
        "ALTER TABLE ns.user.t DROP COLUMN a",
        "DESCRIBE ns.user.t",
    ] {
        refused(sql, Reason::InvalidName, "namespace.table");
    }
}

#[test]
fn user_is_a_name_in_queries() {
    let Statement::Query(query) = one("SELECT user, t.user FROM ns.user.t WHERE user = 'a'") else { panic!() };
    assert_eq!(query.to_string(), "SELECT user, t.user FROM ns.user.t WHERE user = 'a'");
}

#[test]
fn namespace_statements() {
    let sql = "CREATE NAMESPACE IF NOT EXISTS n WITH OPTIONS (A = 'x', \"B\" = -1.5, 'c' = TRUE, d = false)";
    let Statement::CreateNamespace(create) = one(sql) else { panic!() };
    assert!(create.if_not_exists);
    let options: Vec<_> = create.options.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(options, [("a", "x"), ("B", "-1.5"), ("c", "true"), ("d", "false")]);

    let Statement::AlterNamespace(alter) = one("alter namespace n set options (a = 1)") else { panic!() };
    assert_eq!((text(&alter.name), alter.options.len()), ("n", 1));
    let Statement::DropNamespace(drop) = one("DROP NAMESPACE IF EXISTS n") else { panic!() };
    assert!(drop.if_exists);
    assert!(matches!(one("SHOW NAMESPACES;"), Statement::ShowNamespaces));

    refused("CREATE NAMESPACE n WITH OPTIONS (a = 1, A = 2)", Reason::InvalidStatement, "given twice");
    refused("CREATE NAMESPACE n WITH OPTIONS ()", Reason::SyntaxError, "the name of an option");
    refused("CREATE NAMESPACE n WITH OPTIONS (a = NULL)", Reason::SyntaxError, "a string");
    refused("CREATE NAMESPACE a.b", Reason::SyntaxError, "the end of the statement");
    refused("CREATE NAMESPACE 'n'", Reason::SyntaxError, "the name of a namespace");
    refused("CREATE NAMESPACE", Reason::SyntaxError, "the end of the statement");
    refused("DROP NAMESPACE n CASCADE", Reason::NotSupported, "CASCADE");
    refused("ALTER NAMESPACE n RENAME TO m", Reason::NotSupported, "renamed");
}
