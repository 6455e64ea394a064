//! Segments: their records in the manifest, their files, reads by key, and damage.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "shared with the tests of rows, which use all of it")]
mod common;

mod codec;
mod counting;
mod damage;
mod file_format;
mod files;
mod lookup;
mod storing;
mod types;
