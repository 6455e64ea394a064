//! Tests of the engine through its public API: what SQL answers, for whom, and what survives.

#![allow(clippy::unwrap_used, reason = "a test that panics fails")]

mod bad_input;
mod concurrency;
mod harness;
mod isolation;
mod limits;
mod model;
mod parameters;
mod queries;
mod restart;
mod streams;
mod system_tables;
mod tables;
mod types;
mod writes;
