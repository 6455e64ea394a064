//! `AdminService.Export`: an export of the engine, and how far it is as a stream.

use std::{pin::Pin, time::Duration};

use futures::{Stream, stream};
use kalamdb_engine::{Error, ExportFormat, ExportHandle, Exported, Reason, Session};
use kalamdb_proto::v1::{
    self, ExportFinished, ExportProgress, ExportRequest, ExportResponse, ExportStarted, export_response::Event,
};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status};

use super::{
    query::{requested_timeout, shorter},
    shutting_down,
};
use crate::{
    call::{CallContext, TraceId},
    convert, errors,
};

/// How often it is told how far an export is.
const TELL_INTERVAL: Duration = Duration::from_millis(250);

/// What a call is told.
pub(crate) type Events = Pin<Box<dyn Stream<Item = Result<ExportResponse, Status>> + Send>>;

/// Begins an export. It ends with the answer: whoever goes away stops it.
pub(super) async fn export(
    session: Session,
    context: &CallContext,
    request: ExportRequest,
    stopping: CancellationToken,
) -> Result<Response<Events>, Status> {
    let trace = context.trace;
    let begun_at = Instant::now();
    let begun = async {
        let request = from_request(request, context.timeout)?;
        session.export(request).await
    };
    let job = begun.await.map_err(|error| errors::to_status(&error, trace))?;
    let mut ticks = interval_at(begun_at + TELL_INTERVAL, TELL_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let following = Following { job, ticks, begun_at, stopping, trace };
    let first = Event::Started(ExportStarted { job_id: following.job.id().to_string() });
    let events = stream::unfold((Some(following), Some(first)), |(following, first)| async move {
        let mut following = following?;
        if let Some(first) = first {
            return Some((Ok(ExportResponse { event: Some(first) }), (Some(following), None)));
        }
        match following.next().await {
            Ok(event @ Event::Progress(_)) => {
                Some((Ok(ExportResponse { event: Some(event) }), (Some(following), None)))
            }
            Ok(event) => Some((Ok(ExportResponse { event: Some(event) }), (None, None))),
            Err(error) => Some((Err(errors::to_status(&error, following.trace)), (None, None))),
        }
    });
    Ok(Response::new(Box::pin(events)))
}

/// An export whose caller is told of it.
struct Following {
    job: ExportHandle,
    ticks: Interval,
    begun_at: Instant,
    stopping: CancellationToken,
    trace: TraceId,
}

impl Following {
    /// What there is to tell next.
    async fn next(&mut self) -> Result<Event, Error> {
        let ended = tokio::select! {
            ended = self.job.outcome() => ended?,
            _ = self.ticks.tick() => {
                let progress = self.job.progress();
                return Ok(Event::Progress(ExportProgress { rows: progress.rows, bytes: progress.bytes }));
            }
            () = self.stopping.cancelled() => return Err(shutting_down()),
        };
        let Exported { uri, format, rows, bytes } = ended;
        Ok(Event::Finished(ExportFinished {
            job_id: self.job.id().to_string(),
            uri,
            format: to_format(format).into(),
            rows,
            bytes,
            took_ms: self.begun_at.elapsed().as_secs_f64() * 1_000.0,
        }))
    }
}

fn from_request(request: ExportRequest, timeout: Option<Duration>) -> Result<kalamdb_engine::ExportRequest, Error> {
    let format = match v1::ExportFormat::try_from(request.format) {
        Ok(v1::ExportFormat::Unspecified) => None,
        Ok(v1::ExportFormat::Parquet) => Some(ExportFormat::Parquet),
        Ok(v1::ExportFormat::Csv) => Some(ExportFormat::Csv),
        Ok(v1::ExportFormat::Json) => Some(ExportFormat::Json),
        Err(_) => {
            let message = format!("format {} is not an ExportFormat.", request.format);
            return Err(Error::new(Reason::InvalidRequest, message).with("field", "format"));
        }
    };
    Ok(kalamdb_engine::ExportRequest {
        from: request.from,
        uri: request.uri,
        format,
        parameters: convert::to_parameters(request.parameters)?,
        namespace: (!request.namespace.is_empty()).then_some(request.namespace),
        timeout: shorter(timeout, requested_timeout(request.timeout)?),
    })
}

fn to_format(format: ExportFormat) -> v1::ExportFormat {
    match format {
        ExportFormat::Parquet => v1::ExportFormat::Parquet,
        ExportFormat::Csv => v1::ExportFormat::Csv,
        ExportFormat::Json => v1::ExportFormat::Json,
    }
}
