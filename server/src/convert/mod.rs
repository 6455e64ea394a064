//! Conversions between protobuf messages and the engine's values; protobuf types go no deeper than this and
//! [`crate::services`].

mod ipc;
mod parameters;
mod rows;
mod types;

#[cfg(test)]
mod tests;

pub(crate) use ipc::{IpcStream, split_for_messages, to_ipc, without_views};
pub(crate) use parameters::to_parameters;
pub(crate) use rows::to_rows;
pub(crate) use types::{to_column, to_columns, to_timestamp};
