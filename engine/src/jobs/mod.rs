//! Background work of an engine.

mod expiry;

pub(crate) use expiry::Expiry;
