//! Tests of the engine through its public API: what SQL answers, for whom, and what survives.

mod harness;
mod model;
