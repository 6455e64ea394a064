//! The KalamDB server as a library: what the `kalamdb-server` binary runs.
//!
//! It turns bytes into calls and errors into statuses; SQL and storage are [`kalamdb_engine`]'s.
//!
//! ```text
//! transport ─▶ identity, limits ─▶ services ─▶ convert ─▶ engine
//!     │                                │
//!     └── telemetry                    └── errors (the one map to gRPC statuses)
//! ```
//!
//! [`main`] is the whole program. [`Server::start`] runs a server inside another program, such as a test.

mod call;
mod cli;
pub mod config;
mod convert;
mod errors;
mod failpoint;
mod flight;
mod identity;
mod limits;
mod run;
mod server;
mod services;
mod telemetry;
mod transport;

pub use run::main;
pub use server::{Server, StartError};
pub use telemetry::build::{GIT_BRANCH, GIT_COMMIT, VERSION};
