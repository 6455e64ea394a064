//! Printing facts, times and small tables.

use std::time::{Duration, Instant};

use kalam_link::{Client, StatementResult};

/// The widest a column is shown.
const MAX_COLUMN_WIDTH: usize = 56;

pub(crate) struct Show {
    styled: bool,
}

impl Show {
    /// With colours or without.
    pub(crate) fn new(styled: bool) -> Self {
        Show { styled }
    }

    pub(crate) fn heading(&self, text: &str) {
        println!("\n{}", self.style("1;36", text));
    }

    pub(crate) fn text(&self, text: &str) {
        println!("  {text}");
    }

    pub(crate) fn fact(&self, name: &str, value: &str) {
        println!("  {name:<12}{value}");
    }

    pub(crate) fn timed(&self, what: &str, took: Duration) {
        println!("  {what}: {}", self.style("32", &milliseconds(took)));
    }

    /// Runs a statement and shows it, its rows or message, and its times.
    pub(crate) async fn statement(&self, client: &Client, sql: &str) -> kalam_link::Result<StatementResult> {
        let shown: Vec<_> = sql.lines().collect();
        println!("  {}", self.style("2", &shown.join("\n  ")));
        let started = Instant::now();
        let result = client.execute(sql, ()).await?;
        let took = started.elapsed();
        let outcome = match result.message() {
            Some(message) => message.to_owned(),
            None => {
                self.table(&result);
                if result.row_count() == 1 { "1 row".to_owned() } else { format!("{} rows", result.row_count()) }
            }
        };
        let times = format!("{}, {:.2} ms on the server", milliseconds(took), result.took_ms());
        println!("  {outcome} ({})", self.style("32", &times));
        Ok(result)
    }

    fn table(&self, result: &StatementResult) {
        let header: Vec<String> = result.columns().iter().map(|column| column.name.clone()).collect();
        let numeric: Vec<bool> = result.columns().iter().map(|column| column.sql_type.is_numeric()).collect();
        let cells: Vec<Vec<String>> = result
            .rows()
            .iter()
            .map(|row| row.values().iter().map(|value| shorten(&value.to_string())).collect())
            .collect();
        let widths: Vec<usize> = header
            .iter()
            .enumerate()
            .map(|(index, name)| {
                let column = cells.iter().filter_map(|row| row.get(index)).map(|cell| cell.chars().count());
                column.max().unwrap_or_default().max(name.chars().count())
            })
            .collect();
        let line = |row: &[String]| {
            let cells = row.iter().zip(&widths).zip(&numeric).map(|((cell, &width), right)| {
                if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        println!("    {}", self.style("1", &line(&header)));
        let rules: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
        println!("    {}", line(&rules));
        for row in &cells {
            println!("    {}", line(row));
        }
    }

    fn style(&self, code: &str, text: &str) -> String {
        if self.styled { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1_000.0)
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= MAX_COLUMN_WIDTH {
        return text.to_owned();
    }
    text.chars().take(MAX_COLUMN_WIDTH - 1).chain(['…']).collect()
}
