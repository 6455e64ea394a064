//! Compiles `kalamdb/v1/*.proto` with protox (no protoc needed) into messages, gRPC stubs, JSON and reflection data.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

const PROTOS: [&str; 14] = [
    "kalamdb/v1/admin.proto",
    "kalamdb/v1/auth.proto",
    "kalamdb/v1/backup.proto",
    "kalamdb/v1/errors.proto",
    "kalamdb/v1/export.proto",
    "kalamdb/v1/flush.proto",
    "kalamdb/v1/job.proto",
    "kalamdb/v1/live.proto",
    "kalamdb/v1/query.proto",
    "kalamdb/v1/segment.proto",
    "kalamdb/v1/storage.proto",
    "kalamdb/v1/subscribe.proto",
    "kalamdb/v1/user.proto",
    "kalamdb/v1/value.proto",
];
/// Messages with secrets: `src/redacted.rs` says how they are printed.
const SECRET: [&str; 8] = [
    ".kalamdb.v1.CreateStorageRequest",
    ".kalamdb.v1.AlterStorageRequest",
    ".kalamdb.v1.LoginRequest",
    ".kalamdb.v1.RefreshRequest",
    ".kalamdb.v1.Tokens",
    ".kalamdb.v1.CreateUserRequest",
    ".kalamdb.v1.AlterUserRequest",
    ".kalamdb.v1.CreateApiKeyResponse",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=kalamdb");
    let descriptors = protox::compile(PROTOS, ["."])?;
    let encoded = descriptors.encode_to_vec();
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("descriptor.bin"), &encoded)?;

    tonic_prost_build::configure()
        .compile_well_known_types(true)
        .extern_path(".google.protobuf", "::pbjson_types")
        .bytes(".kalamdb.v1.Rows.arrow_ipc")
        .bytes(".kalamdb.v1.RowBatch.arrow_ipc")
        .skip_debug(SECRET)
        .compile_fds(descriptors)?;
    pbjson_build::Builder::new()
        .register_descriptors(&encoded)?
        .extern_path(".google.protobuf", "::pbjson_types")
        .build(&[".kalamdb.v1"])?;
    Ok(())
}
