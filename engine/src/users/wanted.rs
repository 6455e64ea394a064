//! Which users a condition can be about, so that few are read where few are meant.

use std::collections::BTreeSet;

use datafusion::{
    common::ScalarValue,
    logical_expr::{Expr, Operator, expr::Like},
};

use super::{list::Wanted, name_start::NameStart};

impl Wanted {
    /// The users for which conditions, all of which must hold, can be true. `value_of` knows constants and parameters.
    pub(crate) fn by<'a>(
        conditions: impl IntoIterator<Item = &'a Expr>,
        value_of: impl Fn(&Expr) -> Option<ScalarValue>,
    ) -> Self {
        let text_of = |expr: &Expr| value_of(expr).and_then(|value| text(&value));
        conditions
            .into_iter()
            .filter_map(|condition| one(condition, &text_of))
            .min_by_key(Wanted::cost)
            .unwrap_or(Self::All)
    }

    fn cost(&self) -> usize {
        match self {
            Wanted::Ids(ids) => ids.len(),
            Wanted::Names(names) => names.len(),
            Wanted::NamesLike(_) => usize::MAX - 1,
            Wanted::All => usize::MAX,
        }
    }
}

/// The user whose id a condition names, and nothing else: `user_id = 'x'`.
pub(super) fn single_id(condition: &Expr, value_of: impl Fn(&Expr) -> Option<ScalarValue>) -> Option<String> {
    match one(condition, &|expr: &Expr| value_of(expr).and_then(|value| text(&value)))? {
        Wanted::Ids(ids) if ids.len() == 1 => ids.into_iter().next(),
        _ => None,
    }
}

/// `text_of` answers the text that an expression is; within it `None` for NULL, which nothing equals.
fn one(condition: &Expr, text_of: &impl Fn(&Expr) -> Option<Option<String>>) -> Option<Wanted> {
    match condition {
        Expr::Alias(alias) => one(&alias.expr, text_of),
        // How the optimiser writes short lists.
        Expr::BinaryExpr(binary) if binary.op == Operator::Or => {
            match (one(&binary.left, text_of)?, one(&binary.right, text_of)?) {
                (Wanted::Ids(left), Wanted::Ids(right)) => Some(Wanted::Ids(left.into_iter().chain(right).collect())),
                (Wanted::Names(left), Wanted::Names(right)) => {
                    Some(Wanted::Names(left.into_iter().chain(right).collect()))
                }
                _ => None,
            }
        }
        Expr::BinaryExpr(binary) if binary.op == Operator::And => {
            let both = [one(&binary.left, text_of), one(&binary.right, text_of)];
            both.into_iter().flatten().min_by_key(Wanted::cost)
        }
        Expr::BinaryExpr(binary) if binary.op == Operator::Eq => {
            let (column, value) = match (column(&binary.left), column(&binary.right)) {
                (Some(column), None) => (column, text_of(&binary.right)?),
                (None, Some(column)) => (column, text_of(&binary.left)?),
                _ => return None,
            };
            of(column, value.into_iter().collect())
        }
        Expr::InList(list) if !list.negated => {
            let values = list.list.iter().map(text_of).collect::<Option<Vec<_>>>()?;
            of(column(&list.expr)?, values.into_iter().flatten().collect())
        }
        Expr::Like(Like { negated: false, expr, pattern, escape_char, case_insensitive: false }) => {
            if column(expr)? != "username" || escape_char.is_some_and(|c| c != '\\') {
                return None;
            }
            let pattern = text_of(pattern)??;
            Some(Wanted::NamesLike(NameStart::of_pattern(&pattern)))
        }
        _ => None,
    }
}

fn of(column: &str, values: BTreeSet<String>) -> Option<Wanted> {
    match column {
        "user_id" => Some(Wanted::Ids(values)),
        "username" => Some(Wanted::Names(values)),
        _ => None,
    }
}

fn column(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Column(column) => Some(&column.name),
        _ => None,
    }
}

/// `None` for what is no text: how it is compared with one is not known here.
fn text(value: &ScalarValue) -> Option<Option<String>> {
    if value.is_null() {
        return Some(None);
    }
    value.try_as_str().flatten().map(|text| Some(text.to_owned()))
}

#[cfg(test)]
mod tests;
