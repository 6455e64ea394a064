//! Exports whose progress is followed.

use std::{sync::Arc, time::Duration};

use crate::{
    error::{Error, Reason, Result},
    exec::{self, Invocation, Parameter},
    jobs::{ExportJob, Exported, JobId, JobProgress},
    session::{Session, deadline, parsed},
    sql::{ExportFormat, Statement},
};

/// What to export, and where to.
#[derive(Debug, Clone, Default)]
pub struct ExportRequest {
    /// The name of a table, or a query in parentheses: what follows EXPORT FROM.
    pub from: String,
    /// Where the file is made.
    pub uri: String,
    /// What it is; `None`: what the end of its name says.
    pub format: Option<ExportFormat>,
    /// Values of `$1`, `$2`, … of the query.
    pub parameters: Vec<Parameter>,
    /// Namespace of unqualified table names.
    pub namespace: Option<String>,
    /// The longest time it may take; `None`, and more than `statement_timeout_ms`: that.
    pub timeout: Option<Duration>,
}

/// An export under way. Dropping it stops it, and then nothing is left of it.
#[derive(Debug)]
pub struct ExportHandle {
    job: ExportJob,
}

impl Session {
    /// Begins an export, as the statement EXPORT does.
    ///
    /// # Errors
    /// As of the query; PATH_NOT_ALLOWED, STORAGE_NOT_FOUND, INVALID_STATEMENT, TOO_MANY_REQUESTS.
    pub async fn export(&self, request: ExportRequest) -> Result<ExportHandle> {
        let ExportRequest { from, uri, format, parameters, namespace, timeout } = request;
        let shared = self.shared();
        let quoted = uri.replace('\'', "''");
        let format = format.map(|format| format!(" FORMAT {}", format.as_str())).unwrap_or_default();
        // On lines of their own: a comment at the end of the query ends there.
        let sql = format!("EXPORT FROM {from}\nTO '{quoted}'{format}");
        let batch = parsed(shared, &sql, parameters.len())?;
        let statement = match batch.statements.as_slice() {
            [statement] if matches!(&statement.parsed.statement, Statement::Export(export) if export.uri == uri) => {
                statement
            }
            _ => {
                let message = "What is exported is one table, or one query in parentheses.";
                return Err(Error::new(Reason::InvalidStatement, message));
            }
        };
        let invocation = Invocation {
            caller: self.caller().clone(),
            namespace: namespace.filter(|n| !n.is_empty()).map(Arc::from),
            parameters: parameters.into(),
            deadline: deadline(timeout, shared.settings.statement_timeout_ms),
        };
        let job = exec::begin_export(shared, &invocation, statement).await?;
        Ok(ExportHandle { job })
    }
}

impl ExportHandle {
    /// The id of its job.
    pub fn id(&self) -> JobId {
        self.job.id()
    }

    /// What was written so far.
    pub fn progress(&self) -> JobProgress {
        self.job.progress()
    }

    /// What became of it; to be asked until it has answered, and not again. It can be dropped while it waits.
    ///
    /// # Errors
    /// What made it fail: then nothing is left of it.
    pub async fn outcome(&mut self) -> Result<Exported> {
        self.job.outcome().await
    }
}
