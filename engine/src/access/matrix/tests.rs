use std::collections::HashSet;

use kalamdb_store::ids::UserId;

use super::*;
use crate::system::TABLES;

fn caller(role: Role) -> Caller {
    Caller::new(UserId::new("ana").unwrap(), role)
}

#[test]
fn every_system_table_has_a_line_and_every_line_a_table() {
    let named: HashSet<_> = SYSTEM_TABLES.iter().map(|line| (line.namespace, line.table)).collect();
    let there: HashSet<_> = TABLES.iter().map(|table| (table.namespace, table.name)).collect();
    assert_eq!(named, there);
    assert_eq!(named.len(), SYSTEM_TABLES.len(), "a table has two lines");
}

#[test]
fn a_table_without_a_line_is_closed() {
    for role in Role::ALL {
        assert!(may_read_system_table(&caller(role), SYSTEM, "forgotten").is_err());
        assert!(may_write_system_table(&caller(role), "forgotten").is_err());
    }
}

#[test]
fn a_greater_role_may_never_do_less() {
    let statements = StatementKind::ALL.iter().map(|kind| kind.rights());
    let tables = SYSTEM_TABLES.iter().flat_map(|line| [line.read, line.write]);
    for rights in statements.chain(tables) {
        for pair in Role::ALL.windows(2) {
            assert!(rights.of(pair[0]) <= rights.of(pair[1]), "{rights:?}");
        }
    }
}

#[test]
fn a_refusal_names_the_roles_that_may() {
    let message = |rights: Rights, role| rights.check(&caller(role), "FLUSH TABLE").unwrap_err().message().to_owned();
    assert_eq!(
        message(Rights::OPERATOR, Role::Service),
        "FLUSH TABLE needs role dba or system; the caller's role is service."
    );
    let service = Rights::new(Grant::No, Grant::All, Grant::All, Grant::All);
    assert_eq!(
        message(service, Role::User),
        "FLUSH TABLE needs role service, dba or system; the caller's role is user."
    );
    assert_eq!(message(Rights::NOBODY, Role::System), "FLUSH TABLE is not possible for any role.");
    Rights::OWN.check(&caller(Role::User), "SELECT").unwrap();
    assert!(Rights::OWN.check_all(&caller(Role::User), "SELECT").is_err());
}

#[test]
fn administration_is_audited_and_rows_are_not() {
    for kind in StatementKind::ALL {
        let for_operators = kind.rights().of(Role::Service) == Grant::No;
        assert!(!for_operators || kind.is_audited(), "{}: what only operators may do is audited", kind.as_sql());
    }
    assert!(!StatementKind::Query.is_audited() && !StatementKind::Insert.is_audited());
}

#[test]
fn statements_have_different_words() {
    let words: HashSet<_> = StatementKind::ALL.iter().map(|kind| kind.as_sql()).collect();
    assert_eq!(words.len(), StatementKind::ALL.len());
}
