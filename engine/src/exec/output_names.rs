//! Names of result columns.
//!
//! DataFusion names a column that the query does not name after its plan, such as `Int64(1)`, and refuses two columns of
//! one name. Here the items of the outermost SELECT get aliases: their own text, and where it would be there twice
//! another one in its place, which is taken away again from the result.

use std::collections::{HashMap, HashSet};

use datafusion::{
    arrow::datatypes::{Schema, SchemaRef},
    sql::sqlparser::ast,
};

use crate::sql::fold_identifier;

/// Names to show, by the aliases that stand for them.
#[derive(Debug, Default)]
pub(crate) struct OutputNames {
    shown: HashMap<String, String>,
}

impl OutputNames {
    /// Gives aliases to the columns of a query, or of one that is explained.
    pub(crate) fn give(statement: &mut ast::Statement) -> Self {
        let mut names = Self::default();
        match statement {
            ast::Statement::Query(query) => names.in_query(query),
            ast::Statement::Explain { statement, .. } => return Self::give(statement),
            _ => {}
        }
        names
    }

    /// The schema with the names to show, if they are not those it has.
    pub(crate) fn shown(&self, schema: &Schema) -> Option<SchemaRef> {
        if !schema.fields().iter().any(|f| self.shown.contains_key(f.name())) {
            return None;
        }
        let names = schema.fields().iter().map(|f| self.shown.get(f.name()).unwrap_or(f.name()).as_str());
        Some(with_names(schema, names))
    }

    fn in_query(&mut self, query: &mut ast::Query) {
        let ast::SetExpr::Select(select) = query.body.as_mut() else { return self.in_body(&mut query.body) };
        let aliased = self.in_select(select);
        // DataFusion does not see that an item with an alias is the same as what DISTINCT is ordered by.
        if let (Some(ast::Distinct::Distinct), Some(order)) = (&select.distinct, &mut query.order_by)
            && let ast::OrderByKind::Expressions(expressions) = &mut order.kind
        {
            // A number is the place of an item.
            for order in expressions.iter_mut().filter(|order| !matches!(order.expr, ast::Expr::Value(_))) {
                if let Some((_, alias)) = aliased.iter().find(|(item, _)| is_same(item, &order.expr)) {
                    order.expr = ast::Expr::Identifier(alias.clone());
                }
            }
        }
    }

    fn in_body(&mut self, body: &mut ast::SetExpr) {
        match body {
            ast::SetExpr::Select(select) => {
                self.in_select(select);
            }
            ast::SetExpr::Query(query) => self.in_query(query),
            ast::SetExpr::SetOperation { left, right, .. } => {
                self.in_body(left);
                self.in_body(right);
            }
            _ => {}
        }
    }

    /// Answers the items that had no alias before, and those that they have now.
    fn in_select(&mut self, select: &mut ast::Select) -> Vec<(ast::Expr, ast::Ident)> {
        use ast::SelectItem::{ExprWithAlias, QualifiedWildcard, UnnamedExpr, Wildcard};
        // What columns `*` stands for is not known here: any could have the name of another item.
        let with_wildcard = select.projection.iter().any(|i| matches!(i, Wildcard(_) | QualifiedWildcard(..)));
        let mut used = Used::default();
        let mut aliased = Vec::new();
        for item in &mut select.projection {
            let (expr, name, is_named, is_free) = match item {
                ExprWithAlias { expr, alias } => {
                    let name = fold_identifier(alias).text;
                    let is_free = used.name(&name);
                    (expr, name, true, is_free)
                }
                UnnamedExpr(expr) if is_unnest(expr) => continue,
                UnnamedExpr(expr) => match column_path(expr) {
                    Some(path) => {
                        let name = path.last().cloned().unwrap_or_default();
                        let is_free = used.column(path) && !with_wildcard;
                        (expr, name, true, is_free)
                    }
                    None => {
                        let name = text_of(expr);
                        let is_free = used.name(&name) && !with_wildcard;
                        (expr, name, false, is_free)
                    }
                },
                _ => continue,
            };
            if is_named && is_free {
                continue;
            }
            let alias = if is_free { name } else { self.in_place_of(name, &mut used) };
            let (expr, alias) = (expr.clone(), ast::Ident::with_quote('"', alias));
            if matches!(item, UnnamedExpr(_)) {
                aliased.push((expr.clone(), alias.clone()));
            }
            *item = ExprWithAlias { expr, alias };
        }
        aliased
    }

    fn in_place_of(&mut self, name: String, used: &mut Used) -> String {
        let other = used.another(&name);
        self.shown.insert(other.clone(), name);
        other
    }
}

/// The names that the items of one SELECT have so far.
#[derive(Debug, Default)]
struct Used {
    names: HashSet<String>,
    /// Columns with their qualifiers, by their names.
    columns: HashMap<String, Vec<Vec<String>>>,
    others: usize,
}

impl Used {
    /// Notes a name; false if it is there already.
    fn name(&mut self, name: &str) -> bool {
        self.names.insert(name.to_owned())
    }

    /// Notes a column; false if it can be one that is there already. `a.x` and `b.x` are two.
    fn column(&mut self, path: Vec<String>) -> bool {
        let same_name = self.columns.entry(path.last().cloned().unwrap_or_default()).or_default();
        let is_new = !same_name.iter().any(|other| is_same_column(other, &path));
        if is_new {
            same_name.push(path);
        }
        is_new
    }

    /// A name that no item has; nor has a column of a table, as their names have no colon.
    fn another(&mut self, name: &str) -> String {
        loop {
            self.others += 1;
            let other = format!("{name}:{}", self.others);
            if self.names.insert(other.clone()) {
                return other;
            }
        }
    }
}

/// Whether two expressions of one query are the same, as written or as columns: `a` and `t.a`.
fn is_same(a: &ast::Expr, b: &ast::Expr) -> bool {
    match (column_path(a), column_path(b)) {
        (Some(a), Some(b)) => is_same_column(&a, &b),
        (None, None) => text_of(a) == text_of(b),
        _ => false,
    }
}

fn is_same_column(a: &[String], b: &[String]) -> bool {
    a.ends_with(b) || b.ends_with(a)
}

fn column_path(expr: &ast::Expr) -> Option<Vec<String>> {
    let parts = match expr {
        ast::Expr::Identifier(column) => std::slice::from_ref(column),
        ast::Expr::CompoundIdentifier(parts) => parts,
        _ => return None,
    };
    Some(parts.iter().map(|part| fold_identifier(part).text).collect())
}

/// `unnest` of a struct becomes several columns, which have names of their own.
fn is_unnest(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("unnest"))
}

/// The text of an expression, as a name: what stands outside quotes is in lower case, as the names of columns are, so
/// that statements with one plan have one result.
pub(crate) fn text_of(expr: &ast::Expr) -> String {
    let text = expr.to_string();
    let mut name = String::with_capacity(text.len());
    let mut quote = None;
    let mut escapes = false;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match quote {
            // As in E'\''.
            Some(_) if escapes && character == '\\' => {
                name.push(character);
                name.extend(characters.next());
                continue;
            }
            Some(open) if character == open => quote = None,
            Some(_) => {}
            None if matches!(character, '\'' | '"') => {
                escapes = name.ends_with('e') && !name.trim_end_matches('e').ends_with(char::is_alphanumeric);
                quote = Some(character);
            }
            None => {
                name.push(character.to_ascii_lowercase());
                continue;
            }
        }
        name.push(character);
    }
    name
}

/// The same fields with other names.
pub(crate) fn with_names<'a>(schema: &Schema, names: impl Iterator<Item = &'a str>) -> SchemaRef {
    let fields = schema.fields().iter().zip(names).map(|(field, name)| field.as_ref().clone().with_name(name));
    SchemaRef::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}
