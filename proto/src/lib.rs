//! KalamDB's gRPC API, generated from `proto/kalamdb/v1/*.proto`.
//!
//! [`v1`] holds the messages and, for each service, a client and a server module. Messages implement serde's
//! traits with protobuf's JSON mapping, so that the same types serve the Connect protocol's unary JSON.
//!
//! ```
//! use kalamdb_proto::v1::{Value, value::Kind};
//!
//! let value = Value { kind: Some(Kind::IntValue(i64::MAX)) };
//! assert_eq!(serde_json::to_string(&value).unwrap(), r#"{"intValue":"9223372036854775807"}"#);
//! ```

mod redacted;

/// Version 1 of the API, package `kalamdb.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/kalamdb.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/kalamdb.v1.serde.rs"));
}

/// The compiled `FileDescriptorSet` of the API, for gRPC server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
