//! The rules: which role may do what with which table.

use crate::{
    access::{Caller, Role},
    catalog::Table,
    error::{Error, Reason, Result},
    sql::{Access, TableKind, TableScope},
};

/// Checks that `caller` may read or write `table` under `scope`.
///
/// # Errors
/// PERMISSION_DENIED, with what would be needed.
pub(crate) fn may_use_table(caller: &Caller, table: &Table, scope: TableScope) -> Result<()> {
    match (table.kind(), scope) {
        (TableKind::User | TableKind::Stream, TableScope::Caller) => Ok(()),
        (TableKind::User | TableKind::Stream, TableScope::ActingUser) => {
            if caller.role.crosses_users() && caller.acting_as.is_none() {
                return Err(Error::new(
                    Reason::PermissionDenied,
                    format!(
                        "{}.user.{} names the partition of the user acted for; send x-user-id with the call.",
                        table.namespace(),
                        table.name()
                    ),
                ));
            }
            Ok(())
        }
        (TableKind::User | TableKind::Stream, TableScope::AllUsers) => {
            if caller.role.crosses_users() {
                Ok(())
            } else {
                Err(Error::new(
                    Reason::PermissionDenied,
                    format!(
                        "Reading {}.all_users.{} needs role service, dba or system.",
                        table.namespace(),
                        table.name()
                    ),
                ))
            }
        }
        (TableKind::Shared, TableScope::Caller) => {
            if shared_access(caller, table) {
                Ok(())
            } else {
                Err(Error::new(
                    Reason::PermissionDenied,
                    format!(
                        "The access of table {} is {}; role {} may not use it.",
                        table.full_name(),
                        table.access().as_str(),
                        caller.role
                    ),
                ))
            }
        }
        (TableKind::Shared, TableScope::ActingUser | TableScope::AllUsers) => Err(Error::new(
            Reason::InvalidStatement,
            format!("Table {0} is SHARED and has no partitions of users; name it as {0}.", table.full_name()),
        )),
    }
}

/// Whether the existence of `table` concerns `caller`.
pub(crate) fn may_see_table(caller: &Caller, table: &Table) -> bool {
    match table.kind() {
        TableKind::User | TableKind::Stream => true,
        TableKind::Shared => shared_access(caller, table),
    }
}

/// Whether `caller` may change the catalog.
pub(crate) fn may_define(caller: &Caller) -> bool {
    caller.role >= Role::Dba
}

/// Checks that `caller` may change the catalog.
///
/// # Errors
/// PERMISSION_DENIED.
pub(crate) fn require_definer(caller: &Caller, statement: &str) -> Result<()> {
    if may_define(caller) { Ok(()) } else { Err(needs_dba(caller, statement)) }
}

/// Checks that `caller` may see how the server is set up.
///
/// # Errors
/// PERMISSION_DENIED.
pub(crate) fn require_operator(caller: &Caller, what: &str) -> Result<()> {
    if caller.role >= Role::Dba { Ok(()) } else { Err(needs_dba(caller, what)) }
}

fn needs_dba(caller: &Caller, what: &str) -> Error {
    Error::new(
        Reason::PermissionDenied,
        format!("{what} needs role dba or system; the caller's role is {}.", caller.role),
    )
}

fn shared_access(caller: &Caller, table: &Table) -> bool {
    match table.access() {
        Access::Public => true,
        Access::Restricted | Access::Private => caller.role.crosses_users(),
    }
}
