//! The end-to-end tests, one binary because each binary of this workspace is a long link step. A module is a suite:
//! `cargo test --workspace --test end_to_end crash::` runs one.

#![allow(unreachable_pub, missing_docs, clippy::unwrap_used, reason = "a test binary has no API")]

mod support;

mod audit;
mod auth;
mod backup;
mod bad_input;
mod bulk;
mod catalog;
mod cli;
mod client_credentials;
mod crash;
mod crash_flush;
mod crash_steps;
mod damaged_segments;
mod export;
mod flight;
mod flush;
mod full_disk;
mod identity;
mod isolation;
mod limits;
mod link;
mod live;
mod operation;
mod python;
mod raw_bytes;
mod roles;
mod rows;
mod s3;
mod secrets;
mod select;
mod shares;
mod slt;
mod stream_tables;
mod streaming;
mod system_tables;
mod transport;
mod types;
