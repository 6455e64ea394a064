//! Rows, and access to their values.

use std::{ops::Index, sync::Arc, vec};

use crate::{
    column::Columns,
    value::{ConversionError, FromValue, Value},
};

/// One row of a result.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    columns: Arc<Columns>,
    values: Vec<Value>,
}

/// Rows of one statement, with their columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    columns: Arc<Columns>,
    rows: Vec<Row>,
}

impl Row {
    /// The value of a column, by position (from 0) or by name.
    ///
    /// ```no_run
    /// # fn example(row: &kalam_link::Row) -> Result<(), kalam_link::Error> {
    /// let id = row.get::<i64>(0)?;
    /// let note: Option<&str> = row.get("note")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// No such column, NULL for a type other than `Option`, or a value that is not of the type or does not fit it.
    pub fn get<'a, T: FromValue<'a>>(&'a self, column: impl ColumnIndex) -> Result<T, ConversionError> {
        let index = column.position(&self.columns)?;
        let value = self.values.get(index).ok_or_else(|| no_such_column(&index.to_string(), &self.columns))?;
        T::from_value(value).map_err(|source| ConversionError::Column {
            column: self.columns.get(index).map(|column| column.name.clone()).unwrap_or_default(),
            source: Box::new(source),
        })
    }

    pub(crate) fn from_values(columns: Arc<Columns>, values: Vec<Value>) -> Result<Self, ConversionError> {
        if values.len() == columns.len() {
            Ok(Row { columns, values })
        } else {
            Err(ConversionError::RowWidth { found: values.len(), expected: columns.len() })
        }
    }

    /// The values in the order of the columns.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// Takes the values out.
    pub fn into_values(self) -> Vec<Value> {
        self.values
    }

    /// The columns of the result.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }
}

impl Rows {
    /// Rows of given values, for example as a test's expectation.
    ///
    /// # Errors
    /// [`ConversionError::RowWidth`] when a row has not as many values as there are columns.
    pub fn from_values(columns: impl Into<Arc<Columns>>, rows: Vec<Vec<Value>>) -> Result<Self, ConversionError> {
        let columns = columns.into();
        let mut checked = Vec::with_capacity(rows.len());
        for values in rows {
            checked.push(Row::from_values(Arc::clone(&columns), values)?);
        }
        Ok(Rows { columns, rows: checked })
    }

    /// The columns of the result.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// One row, by position from 0.
    pub fn get(&self, index: usize) -> Option<&Row> {
        self.rows.get(index)
    }

    /// The first row.
    pub fn first(&self) -> Option<&Row> {
        self.rows.first()
    }

    /// The rows in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Row> {
        self.rows.iter()
    }

    /// The only row.
    ///
    /// # Errors
    /// [`ConversionError::NotOneRow`] when there are none or several.
    pub fn one(&self) -> Result<&Row, ConversionError> {
        match self.rows.as_slice() {
            [row] => Ok(row),
            rows => Err(ConversionError::NotOneRow { found: rows.len() }),
        }
    }
}

/// Panics, as slices do, when there is no such row; [`Rows::get`] does not.
impl Index<usize> for Rows {
    type Output = Row;

    fn index(&self, index: usize) -> &Row {
        &self.rows[index]
    }
}

impl IntoIterator for Rows {
    type Item = Row;
    type IntoIter = vec::IntoIter<Row>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.into_iter()
    }
}

impl<'a> IntoIterator for &'a Rows {
    type Item = &'a Row;
    type IntoIter = std::slice::Iter<'a, Row>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.iter()
    }
}

/// What names a column: its position from 0, or its name.
pub trait ColumnIndex {
    /// The position among the columns.
    ///
    /// # Errors
    /// [`ConversionError::NoSuchColumn`].
    fn position(&self, columns: &Columns) -> Result<usize, ConversionError>;
}

impl ColumnIndex for usize {
    fn position(&self, columns: &Columns) -> Result<usize, ConversionError> {
        if *self < columns.len() { Ok(*self) } else { Err(no_such_column(&self.to_string(), columns)) }
    }
}

impl ColumnIndex for &str {
    fn position(&self, columns: &Columns) -> Result<usize, ConversionError> {
        columns.position(self).ok_or_else(|| no_such_column(self, columns))
    }
}

fn no_such_column(column: &str, columns: &Columns) -> ConversionError {
    let names: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
    ConversionError::NoSuchColumn { column: column.to_owned(), columns: names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::{Row, Rows};
    use crate::{Column, Columns, SqlType, Value};

    fn rows() -> Rows {
        let column = |name: &str, sql_type| Column { name: name.into(), sql_type, nullable: true };
        let columns = Columns::from(vec![column("id", SqlType::BigInt), column("note", SqlType::Text)]);
        let data = vec![vec![Value::Int(1), Value::Null], vec![Value::Int(2), Value::Text("x".into())]];
        Rows::from_values(columns, data).unwrap()
    }

    #[test]
    fn values_are_found_by_position_and_name() {
        let rows = rows();
        assert_eq!(rows.iter().map(|row| row.get::<i64>(0).unwrap()).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(rows[1].get::<&str>("note").unwrap(), "x");
        assert_eq!(rows[0].get::<Option<String>>("note").unwrap(), None);
    }

    #[test]
    fn errors_name_the_column() {
        let rows = rows();
        let text = |row: &Row, name: &str| row.get::<i64>(name).unwrap_err().to_string();
        assert_eq!(text(&rows[0], "nope"), "there is no column nope; the columns are: id, note");
        assert_eq!(text(&rows[1], "note"), "column note: a value of type TEXT is not a i64");
        assert_eq!(text(&rows[0], "note"), "column note: a value of type NULL is not a i64");
        assert!(rows[0].get::<i64>(2).is_err());
    }

    #[test]
    fn one_row_means_exactly_one() {
        assert_eq!(rows().one().unwrap_err().to_string(), "exactly one row was expected, 2 were returned");
        assert!(Rows::default().one().is_err());
    }
}
