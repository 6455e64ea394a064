//! KalamDB's SQL functions, and the binding of parameters to plans.
//!
//! DataFusion brings most functions. This module adds `snowflake_id()`, `uuid_v7()`, `ulid()` and `current_user()`, and
//! replaces those that would read the real clock or random numbers, and `sum`, which would wrap around. Functions that
//! reveal files are taken away.
//!
//! Two kinds of values are filled in apart from the rows: the statement's `$1…$n`, and what is the same all over one
//! statement (`now()`, `current_user()`, …). So that a plan can be cached and used for other statements, it holds
//! placeholders for both:
//!
//! ```text
//! SQL text ─▶ plan ─▶ bind_statement_values: now() becomes the placeholder $now() ─▶ optimise ─▶ cache
//! cached plan ─▶ bind_parameters: $1, $now(), … become constants ─▶ execute
//! ```

mod bind;
mod checked;
mod fold;
mod generated;
mod statement_value;
mod sum;
mod version;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::{
    error::DataFusionError,
    execution::SessionStateDefaults,
    logical_expr::{AggregateUDF, ScalarUDF},
};

pub(crate) use bind::{Bindings, bind_expr, bind_parameters};
pub(crate) use checked::CheckedArithmetic;
use generated::{Generated, Generator};
use statement_value::StatementFunction;
pub(crate) use statement_value::{
    bind_statement_values, current_user, is_statement_parameter, is_time_of_statement, names_current_user,
};
use sum::CheckedSum;
use version::Version;

use crate::{error::Error, ids::IdSource};

/// Functions of DataFusion that tell where rows are stored.
const REMOVED: [&str; 2] = ["input_file_name", "file_row_index"];

/// All scalar functions of KalamDB: DataFusion's without those that are unsafe here, and ours. To be given to a
/// `SessionStateBuilder` after its default features.
pub(crate) fn scalar_functions(ids: &Arc<IdSource>) -> Vec<Arc<ScalarUDF>> {
    let ours = our_functions(ids);
    let replaced = |theirs: &ScalarUDF| {
        let names = || std::iter::once(theirs.name()).chain(theirs.aliases().iter().map(String::as_str));
        names().any(|name| REMOVED.contains(&name) || ours.iter().any(|our| our.name() == name))
    };
    let mut functions = SessionStateDefaults::default_scalar_functions();
    functions.retain(|theirs| !replaced(theirs));
    functions.extend(ours);
    functions
}

/// All aggregate functions: DataFusion's, with a `sum` of integers that fails on overflow.
pub(crate) fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    let ours = AggregateUDF::new_from_impl(CheckedSum::default());
    let mut functions = SessionStateDefaults::default_aggregate_functions();
    functions.retain(|theirs| theirs.name() != ours.name());
    functions.push(Arc::new(ours));
    functions
}

fn our_functions(ids: &Arc<IdSource>) -> Vec<Arc<ScalarUDF>> {
    let generated = Generator::ALL.into_iter().map(|g| ScalarUDF::new_from_impl(Generated::new(g, Arc::clone(ids))));
    let of_statement = StatementFunction::all().map(ScalarUDF::new_from_impl);
    let version = std::iter::once(ScalarUDF::new_from_impl(Version::new()));
    generated.chain(of_statement).chain(version).map(Arc::new).collect()
}

/// Carries an error of ours through DataFusion's tree traversals.
pub(crate) fn into_datafusion(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The error of ours in what a traversal returned.
fn from_datafusion(error: DataFusionError) -> Error {
    match error.find_root() {
        DataFusionError::External(inner) => inner.downcast_ref::<Error>().cloned(),
        _ => None,
    }
    .unwrap_or_else(|| Error::internal(error))
}
