//! Tests of the engine through its public API: what SQL answers, for whom, and what survives.

#![allow(clippy::unwrap_used, reason = "a test that panics fails")]

mod audit;
mod backup;
mod bad_input;
mod cold_costs;
mod cold_reads;
mod cold_statements;
mod concurrency;
mod export;
mod fake_s3;
mod faulty_storage;
mod flush;
mod harness;
mod hot_images;
mod ingest;
mod isolation;
mod job_steps;
mod limits;
mod live;
mod log_retention;
mod model;
mod names;
mod parameters;
mod queries;
mod restart;
mod row_rules;
mod storages;
mod streams;
mod system_tables;
mod tables;
mod types;
mod users;
mod writes;
