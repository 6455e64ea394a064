//! Users: created, changed and dropped by statements, rows and calls, with their credentials, and by whom.

mod credentials;
mod dropping;
mod lookups;
mod passwords;
mod rows;
mod statements;

use kalamdb_engine::{Caller, EngineSettings, Role, UserSettings};

use crate::harness::{Client, Db, small, user_id};

/// Hashes of passwords that cost little.
fn cheap() -> EngineSettings {
    let users = UserSettings { password_memory_kib: 64, password_iterations: 1, ..UserSettings::default() };
    EngineSettings { users, ..small() }
}

async fn db() -> Db {
    Db::with(cheap()).await
}

/// The caller that a user of this role is.
fn caller(db: &Db, id: &str, role: Role) -> Client {
    db.caller(Caller::new(user_id(id), role))
}
