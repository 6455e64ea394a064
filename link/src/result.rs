//! What one statement answered.

use crate::{
    column::Columns,
    row::{ColumnIndex, Row, Rows},
    value::{ConversionError, FromValue},
};

/// What one statement answered: rows, or a number of affected rows with a short message.
///
/// `R` is [`Rows`], or with the feature `arrow` [`ArrowRows`](crate::ArrowRows) on request.
#[derive(Clone, Debug, PartialEq)]
pub struct StatementResult<R = Rows> {
    pub(crate) rows: R,
    pub(crate) row_count: u64,
    pub(crate) message: Option<String>,
    pub(crate) took_ms: f64,
    pub(crate) commit_seq: u64,
}

impl<R> StatementResult<R> {
    /// The rows; empty for a statement that returns none.
    pub fn rows(&self) -> &R {
        &self.rows
    }

    /// Takes the rows out.
    pub fn into_rows(self) -> R {
        self.rows
    }

    /// Number of rows returned, or inserted, updated or deleted.
    pub fn row_count(&self) -> u64 {
        self.row_count
    }

    /// Whether the statement is one that returns rows.
    pub fn returns_rows(&self) -> bool {
        self.message.is_none()
    }

    /// Short text for a person, such as `INSERT 0 3`; none for a statement that returns rows.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// Time the server took, in milliseconds.
    pub fn took_ms(&self) -> f64 {
        self.took_ms
    }

    /// Of a write, the commit sequence at which it is visible; 0 for reads and writes that changed nothing. Give it
    /// to [`Query::min_commit_seq`](crate::Query::min_commit_seq) to read your write through any connection.
    pub fn commit_seq(&self) -> u64 {
        self.commit_seq
    }
}

impl StatementResult {
    /// The columns; empty for a statement that returns no rows.
    pub fn columns(&self) -> &Columns {
        self.rows.columns()
    }

    /// The only row.
    ///
    /// # Errors
    /// [`ConversionError::NotOneRow`] when there are none or several.
    pub fn one(&self) -> Result<&Row, ConversionError> {
        self.rows.one()
    }

    /// One value of the only row.
    ///
    /// # Errors
    /// As [`StatementResult::one`] and [`Row::get`].
    pub fn value<'a, T: FromValue<'a>>(&'a self, column: impl ColumnIndex) -> Result<T, ConversionError> {
        self.one()?.get(column)
    }
}
