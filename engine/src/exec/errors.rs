//! Errors of DataFusion and of the store, said in the engine's terms.

use datafusion::{
    arrow::error::ArrowError, common::SchemaError, error::DataFusionError, sql::sqlparser::parser::ParserError,
};
use kalamdb_store::{commit::CommitError, kv::KvError, segment::SegmentError};

use crate::{
    catalog::{did_you_mean, nearest},
    error::{Error, Position, Reason},
};

/// Says a DataFusion error in the engine's terms. One of ours that went through DataFusion comes back as it was.
pub(crate) fn from_datafusion(error: DataFusionError) -> Error {
    if let Some(segment) = SegmentError::find(&error) {
        return from_segment(segment);
    }
    let position =
        error.diagnostic().and_then(|d| d.span).map(|s| Position { line: s.start.line, column: s.start.column });
    let translated = translate(&error);
    match position {
        Some(position) if position.line > 0 => translated.at(position),
        _ => translated,
    }
}

fn translate(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::External(inner) => match inner.downcast_ref::<Error>() {
            Some(ours) => ours.clone(),
            None => match inner.downcast_ref::<DataFusionError>() {
                Some(nested) => translate(nested),
                None => Error::internal(inner),
            },
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => translate(inner),
        DataFusionError::Shared(inner) => translate(inner),
        DataFusionError::Collection(errors) => {
            errors.first().map_or_else(|| Error::internal("an empty collection of errors"), translate)
        }
        DataFusionError::SchemaError(schema, _) => from_schema(schema),
        DataFusionError::ArrowError(arrow, _) => from_arrow(arrow),
        DataFusionError::SQL(parser, _) => match parser.as_ref() {
            ParserError::RecursionLimitExceeded => nesting(),
            other => Error::new(Reason::SyntaxError, other.to_string()),
        },
        DataFusionError::Plan(text) => from_plan(first_paragraph(text)),
        DataFusionError::NotImplemented(text) => {
            Error::new(Reason::NotSupported, format!("Not supported: {}", sentence(first_paragraph(text))))
        }
        DataFusionError::Execution(text) | DataFusionError::Configuration(text) => {
            Error::new(Reason::InvalidStatement, sentence(first_paragraph(text)))
        }
        DataFusionError::ResourcesExhausted(text) => out_of_memory(text),
        // DataFusion says so as an I/O error when there is no room left for spilling.
        DataFusionError::IoError(io) if io.to_string().contains(SPILL_LIMIT) => out_of_memory(io),
        DataFusionError::ExecutionJoin(join) => Error::internal(join),
        DataFusionError::ParquetError(parquet) => {
            from_row_filter(&parquet.to_string()).unwrap_or_else(|| Error::internal(parquet))
        }
        other => Error::internal(other.strip_backtrace()),
    }
}

fn from_schema(error: &SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let near = nearest(&field.name, valid_fields.iter().map(|f| f.name.as_str()));
            let message = format!("Column \"{}\" does not exist.{}", field.flat_name(), did_you_mean(near));
            let error = Error::new(Reason::ColumnNotFound, message).with("column", field.name.as_str());
            match near {
                Some(near) => error.with("nearest", near),
                None => error,
            }
        }
        SchemaError::AmbiguousReference { field } => Error::new(
            Reason::InvalidStatement,
            format!(
                "Column \"{}\" is ambiguous: several tables have it. Write it with its table, as t.{}.",
                field.name, field.name
            ),
        )
        .with("column", field.name.as_str()),
        other => Error::new(Reason::InvalidStatement, sentence(&other.to_string())),
    }
}

/// What DataFusion names when spilled rows exceed their disk space.
const SPILL_LIMIT: &str = "max_temp_directory_size";

fn out_of_memory(detail: impl std::fmt::Display) -> Error {
    Error::new(
        Reason::QueryMemoryExceeded,
        "The query needs more memory than query.memory_mb allows, and more disk space than query.max_spill_mb. Read fewer \
         rows or columns, add a filter or a LIMIT, or raise the limits.",
    )
    .with("limit", "query.memory_mb")
    .with_detail(detail)
}

fn from_arrow(error: &ArrowError) -> Error {
    match error {
        ArrowError::IoError(text, _) if text.contains(SPILL_LIMIT) => out_of_memory(text),
        ArrowError::ExternalError(inner) => match inner.downcast_ref::<DataFusionError>() {
            Some(nested) => translate(nested),
            None => Error::internal(inner),
        },
        ArrowError::DivideByZero => division_by_zero(),
        ArrowError::ArithmeticOverflow(text) => {
            Error::new(Reason::InvalidValue, format!("A value is out of range: {}", sentence(text)))
        }
        ArrowError::ComputeError(text) | ArrowError::ParquetError(text) if text.contains(ROW_FILTER_FAILED) => {
            from_row_filter(text).unwrap_or_else(|| Error::internal(text))
        }
        ArrowError::CastError(text)
        | ArrowError::ComputeError(text)
        | ArrowError::ParseError(text)
        | ArrowError::InvalidArgumentError(text) => Error::new(Reason::InvalidValue, sentence(text)),
        ArrowError::NotYetImplemented(text) => {
            Error::new(Reason::NotSupported, format!("Not supported: {}", sentence(text)))
        }
        other => Error::internal(other),
    }
}

fn division_by_zero() -> Error {
    Error::new(Reason::InvalidValue, "Division by zero.")
}

/// How the Parquet reader begins to say that a condition failed. What follows is all that it keeps of the error: its
/// form for debugging.
const ROW_FILTER_FAILED: &str = "Error evaluating filter predicate: ";

/// Says the error of a condition that the Parquet reader evaluated as the same condition says it elsewhere.
fn from_row_filter(text: &str) -> Option<Error> {
    let (_, failure) = text.split_once(ROW_FILTER_FAILED)?;
    if failure.contains("DivideByZero") {
        return Some(division_by_zero());
    }
    let message = first_quoted(failure).unwrap_or_else(|| "a condition cannot be evaluated for a row".to_owned());
    Some(Error::new(Reason::InvalidValue, sentence(&message)).with_detail(failure))
}

/// The first text in quotes, as Rust writes texts for debugging.
fn first_quoted(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('"')?;
    let mut quoted = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return Some(quoted),
            '\\' => quoted.push(chars.next()?),
            other => quoted.push(other),
        }
    }
}

fn from_plan(text: &str) -> Error {
    if let Some(rest) = text.strip_prefix("Invalid function '") {
        let name = rest.split('\'').next().unwrap_or_default();
        let error = Error::new(Reason::FunctionNotFound, sentence(&text.replace('\n', " "))).with("function", name);
        let near = rest.split("Did you mean '").nth(1).and_then(|near| near.split('\'').next());
        return match near {
            Some(near) => error.with("nearest", near),
            None => error,
        };
    }
    if text.contains("recursion limit") || text.contains("RecursionLimit") {
        return nesting();
    }
    Error::new(Reason::InvalidStatement, sentence(text))
}

fn nesting() -> Error {
    Error::new(Reason::NestingTooDeep, "The statement is nested too deeply.").with("limit", "limits.max_nesting_depth")
}

/// DataFusion appends hints, lists of candidates and backtraces after a blank line.
fn first_paragraph(text: &str) -> &str {
    text.split("\n\n").next().unwrap_or(text).trim()
}

fn sentence(text: &str) -> String {
    let text = first_paragraph(text);
    let mut out = String::with_capacity(text.len() + 1);
    let mut chars = text.chars();
    if let Some(first) = chars.next() {
        out.extend(first.to_uppercase());
        out.push_str(chars.as_str());
    }
    if !out.ends_with(['.', '?', '!']) {
        out.push('.');
    }
    out
}

/// Says an error of reading the store in the engine's terms.
pub(crate) fn from_store(error: KvError) -> Error {
    match error {
        KvError::DiskFull(_) => disk_full(),
        KvError::Corruption(_) => {
            Error::new(Reason::Corruption, "Stored data is damaged; restore it from a backup.").with_detail(error)
        }
        other => Error::internal(other),
    }
}

/// Says an error of reading a segment in the engine's terms. The file is named, but not the folder that it is in.
pub(crate) fn from_segment(error: &SegmentError) -> Error {
    let named = |reason, file: &str, what: &str| {
        let name = file.rsplit('/').next().unwrap_or_default();
        Error::new(reason, format!("Segment file {name} {what}")).with("segment", name).with_detail(error)
    };
    match error {
        SegmentError::Corrupt { file, .. } => named(Reason::Corruption, file, "is damaged; restore it from a backup."),
        SegmentError::NotFound { file } => named(Reason::Corruption, file, "is missing; restore it from a backup."),
        SegmentError::Unreachable { file, .. } => named(
            Reason::StorageUnreachable,
            file,
            "cannot be read, because its storage cannot be reached. Try again later.",
        ),
        SegmentError::Other { file, .. } => named(
            Reason::StorageUnreachable,
            file,
            "cannot be read, because its storage failed. Try again later; the server's log has the details.",
        ),
        SegmentError::Denied { file, .. } => named(
            Reason::StorageDenied,
            file,
            "cannot be read, because its storage denies access. Check the storage's credentials and permissions.",
        ),
        SegmentError::Store(error) => from_store(error.clone()),
        SegmentError::Codec(error) => {
            Error::new(Reason::Corruption, "Stored data is damaged; restore it from a backup.").with_detail(error)
        }
        SegmentError::UnknownStorage(_)
        | SegmentError::Full { .. }
        | SegmentError::Exists { .. }
        | SegmentError::Unsupported { .. }
        | SegmentError::Rows(_) => Error::internal(error),
    }
}

/// Says an error of the committer in the engine's terms. Conflicts are handled before: see [`super::write`].
pub(crate) fn from_commit(error: CommitError) -> Error {
    match error {
        CommitError::DiskFull => disk_full(),
        CommitError::Poisoned(detail) => Error::new(
            Reason::StorePoisoned,
            "A write to disk failed and the server refuses further writes until it is restarted; reads go on.",
        )
        .with_detail(detail),
        CommitError::TooLarge { limit } => Error::new(
            Reason::WriteTooLarge,
            format!("The statement writes more than {limit} bytes at once. Split it into several."),
        )
        .with("limit", "limits.max_write_bytes"),
        CommitError::Closed => Error::new(Reason::ShuttingDown, "The server is shutting down. Connect again."),
        CommitError::TableDropped { table } => {
            Error::new(Reason::TableNotFound, "The table was dropped while the statement ran.")
                .with("table_id", table.to_string())
        }
        CommitError::OwnerLeft { .. } => Error::new(
            Reason::UserNotFound,
            "The user whose rows the statement would write was dropped while it ran. Nothing of it was written.",
        ),
        CommitError::KeyExists { .. }
        | CommitError::VersionChanged { .. }
        | CommitError::SegmentsChanged { .. }
        | CommitError::LogTrimmed { .. } => {
            Error::new(Reason::WriteConflict, "Other writers kept changing the same rows. Run the statement again.")
        }
        CommitError::Storage(error) => from_store(error),
    }
}

fn disk_full() -> Error {
    Error::new(
        Reason::DiskFull,
        "The disk is full; nothing of the statement was written. Free some space and run it again.",
    )
}
