//! From connections to calls: one port for gRPC, gRPC-web, Connect's unary JSON, and plain HTTP for operators.

mod app;
mod body;
mod connect;
mod json;
mod listener;
mod liveness;
mod methods;
mod operations;
mod tls;

pub(crate) use app::{App, AppParts};
pub(crate) use listener::{ConnectionSettings, Listener};
pub(crate) use liveness::Peer;
pub(crate) use methods::METHODS;
pub(crate) use tls::Tls;
