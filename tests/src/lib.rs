//! What the end-to-end tests of KalamDB are made of.
//!
//! * [`server`] starts, stops and kills the real `kalamdb-server`.
//! * [`client`] calls it over gRPC and shows every field of an answer and of an error.
//! * [`http`] speaks plain HTTP/1.1, for what a browser or curl would send.
//! * [`oracle`] knows which rows must exist after a crash, from acknowledgements alone.
//! * [`s3`] starts a real S3 server.
//! * [`slt`] runs sqllogictest files, with rows in either tier.
//!
//! The tests themselves are one binary, `tests/tests/end_to_end/main.rs`. They need the workspace's binaries: `make test` builds
//! them first. With `KALAMDB_TEST_SERVER=http://host:port` the suites that need no control over the process run
//! against that server instead of one of their own.

pub mod client;
pub mod http;
pub mod oracle;
pub mod s3;
pub mod server;
pub mod slt;
pub mod values;
