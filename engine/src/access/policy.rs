//! The rules: which role may do what with which table.

use crate::{
    access::{Viewer, Visible},
    catalog::Table,
    error::{Error, Reason, Result},
    sql::{TableKind, TableScope},
};

/// Checks that a caller may read or write `table` under `scope`, and answers what of it.
///
/// # Errors
/// PERMISSION_DENIED, with what would be needed.
pub(crate) fn may_use_table(viewer: &Viewer, table: &Table, scope: TableScope) -> Result<Visible> {
    let caller = viewer.caller();
    match (table.kind(), scope) {
        (TableKind::User | TableKind::Stream, TableScope::Caller) => Ok(Visible::Everything),
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
            Ok(Visible::Everything)
        }
        (TableKind::User | TableKind::Stream, TableScope::AllUsers) => {
            if caller.role.crosses_users() {
                Ok(Visible::Everything)
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
        (TableKind::Shared, TableScope::Caller) => match viewer.sees(table)? {
            Visible::Nothing => Err(Error::new(
                Reason::PermissionDenied,
                format!(
                    "The access of table {} is {}; role {} may not use it.",
                    table.full_name(),
                    table.access().as_str(),
                    caller.role
                ),
            )),
            visible => Ok(visible),
        },
        (TableKind::Shared, TableScope::ActingUser | TableScope::AllUsers) => Err(Error::new(
            Reason::InvalidStatement,
            format!("Table {0} is SHARED and has no partitions of users; name it as {0}.", table.full_name()),
        )),
    }
}

/// The error of somebody who asks how many rows a table has, of which its rules show it only some.
pub(crate) fn counts_hidden_rows(table: &Table) -> Error {
    let message = format!(
        "The statistics of table {0} count rows that your permissions do not show. Count those that they show: SELECT count(*) \
         FROM {0}.",
        table.full_name()
    );
    Error::new(Reason::PermissionDenied, message).with("table", table.full_name())
}

/// Whether the existence of `table` concerns a caller; not if its rules cannot be read.
pub(crate) fn may_see_table(viewer: &Viewer, table: &Table) -> bool {
    match table.kind() {
        TableKind::User | TableKind::Stream => true,
        TableKind::Shared => viewer.sees(table).is_ok_and(|visible| visible != Visible::Nothing),
    }
}
