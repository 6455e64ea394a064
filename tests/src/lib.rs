//! What the end-to-end tests of KalamDB are made of.
//!
//! * [`server`] starts, stops and kills the real `kalamdb-server`.
//! * [`access`] starts a server that takes no call without a credential, and keeps all that a caller receives of it.
//! * [`client`] calls it over gRPC and shows every field of an answer and of an error.
//! * [`http`] speaks plain HTTP/1.1, for what a browser or curl would send.
//! * [`issuer`] makes tokens as others do, right and wrong ones, and publishes keys.
//! * [`tls`] makes certificates and encrypted connections.
//! * [`oracle`] knows which rows must exist after a crash, from acknowledgements alone.
//! * [`python`] runs scripts with the Arrow clients of Python.
//! * [`s3`] starts a real S3 server.
//! * [`slt`] runs sqllogictest files, with rows in either tier.
//!
//! The tests themselves are one binary, `tests/tests/end_to_end/main.rs`. They need the workspace's binaries: `make test` builds
//! them first. With `KALAMDB_TEST_SERVER=http://host:port` the suites that need no control over the process run
//! against that server instead of one of their own.

pub mod access;
pub mod client;
pub mod http;
pub mod issuer;
pub mod oracle;
pub mod python;
pub mod s3;
pub mod server;
pub mod slt;
pub mod tls;
pub mod values;
