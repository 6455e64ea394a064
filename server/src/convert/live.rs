//! Live queries as protobuf.

use std::{sync::Arc, time::Duration};

use arrow::array::RecordBatch;
use bytes::Bytes;
use kalamdb_engine::{
    ChangeKind, CommitChanges, Error, InitialRows, LiveOptions, LiveQueryId, LiveQueryInfo, LiveQueryRequest, Reason,
    ResultColumn, RowImage, SlowConsumer,
};
use kalamdb_proto::v1;
use prost::Message;

use super::{jobs::unknown, to_parameters, to_rows, to_timestamp};

/// The longest that changes may be held back.
const MAX_BATCH_DELAY: Duration = Duration::from_secs(10);

/// What a client asks for, and how long its changes may be held back to be sent together.
///
/// # Errors
/// INVALID_REQUEST when a field is out of range.
pub(crate) fn to_live_request(query: v1::LiveQuery, namespace: &str) -> Result<(LiveQueryRequest, Duration), Error> {
    let v1::LiveQuery { sql, parameters, initial_rows, before_images, slow_consumer, max_batch_delay, resume_token } =
        query;
    let delay = to_batch_delay(max_batch_delay)?;
    let options = LiveOptions {
        initial_rows: to_initial_rows(initial_rows)?,
        before_images: before_images.unwrap_or(true),
        slow_consumer: to_slow_consumer(slow_consumer)?,
        max_batch_delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
    };
    let request = LiveQueryRequest {
        sql,
        parameters: to_parameters(parameters)?,
        namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
        options,
        resume_token: (!resume_token.is_empty()).then_some(resume_token),
    };
    Ok((request, delay))
}

fn to_initial_rows(rows: Option<v1::InitialRows>) -> Result<InitialRows, Error> {
    use v1::initial_rows::Kind;

    Ok(match rows.and_then(|rows| rows.kind) {
        None | Some(Kind::All(_)) => InitialRows::All,
        Some(Kind::None(_)) => InitialRows::None,
        Some(Kind::LastRows(rows)) => InitialRows::Last(u64::try_from(rows).map_err(|_| {
            let text = format!("initial_rows.last_rows {rows} is negative; it is a number of rows, 0 for none.");
            Error::new(Reason::InvalidRequest, text).with("field", "initial_rows.last_rows")
        })?),
    })
}

fn to_slow_consumer(number: i32) -> Result<SlowConsumer, Error> {
    use v1::SlowConsumerPolicy as Policy;

    match Policy::try_from(number).map_err(|_| unknown("slow_consumer", "SlowConsumerPolicy", number))? {
        Policy::Unspecified | Policy::Disconnect => Ok(SlowConsumer::Disconnect),
        Policy::Coalesce => Ok(SlowConsumer::Coalesce),
    }
}

fn to_batch_delay(delay: Option<pbjson_types::Duration>) -> Result<Duration, Error> {
    let Some(delay) = delay else { return Ok(Duration::ZERO) };
    match Duration::try_from(delay) {
        Ok(delay) if delay <= MAX_BATCH_DELAY => Ok(delay),
        _ => {
            let text = format!("max_batch_delay must be from 0 to {} seconds.", MAX_BATCH_DELAY.as_secs());
            Err(Error::new(Reason::InvalidRequest, text).with("field", "max_batch_delay"))
        }
    }
}

/// A commit's changes as the field `commits` of `LiveChanges`, with tag and length: messages are made by putting such
/// bytes one behind the other.
///
/// # Errors
/// As [`to_rows`].
pub(crate) fn to_encoded_commit(commit: &CommitChanges, columns: &[ResultColumn]) -> Result<Bytes, Error> {
    let images = || commit.changes.iter().flat_map(|change| [&change.new, &change.old]);
    let mut rows = to_image_rows(images().flatten(), columns)?.into_iter();
    let mut next = |image: &Option<RowImage>| image.as_ref().and_then(|_| rows.next());
    let changes = commit
        .changes
        .iter()
        .map(|change| v1::LiveChange {
            r#type: to_change_type(change.kind).into(),
            new_row: next(&change.new),
            old_row: next(&change.old),
        })
        .collect();
    let commit = v1::LiveCommit {
        commit_seq: commit.commit_seq.get(),
        commit_time_us: commit.commit_time_us,
        changes,
        resume_token: commit.token.clone(),
        merged: commit.merged,
    };
    Ok(v1::LiveChanges { commits: vec![commit] }.encode_to_vec().into())
}

/// The rows of images, in their order. Images that follow one another in a batch are converted together.
fn to_image_rows<'a>(
    images: impl Iterator<Item = &'a RowImage>,
    columns: &[ResultColumn],
) -> Result<Vec<v1::Row>, Error> {
    // New and old rows take turns, but each kind is one run of its batch, so that the last two are looked at.
    let mut runs: Vec<Run<'a>> = Vec::new();
    let mut places = Vec::new();
    for image in images {
        let last = runs.len().saturating_sub(2);
        let known = runs[last..].iter().position(|run| run.continues_with(image));
        let run = known.map(|place| last + place).unwrap_or_else(|| {
            runs.push(Run { batch: &image.batch, from: image.row, length: 0 });
            runs.len() - 1
        });
        runs[run].length += 1;
        places.push(run);
    }
    let mut converted = runs
        .iter()
        .map(|run| Ok(to_rows(&run.batch.slice(run.from, run.length), columns)?.into_iter()))
        .collect::<Result<Vec<_>, Error>>()?;
    let rows = places.into_iter().map(|run| converted[run].next());
    rows.collect::<Option<Vec<_>>>().ok_or_else(|| Error::internal("an image of a row is not in its batch"))
}

/// Images whose rows follow one another in a batch.
struct Run<'a> {
    batch: &'a Arc<RecordBatch>,
    from: usize,
    length: usize,
}

impl Run<'_> {
    fn continues_with(&self, image: &RowImage) -> bool {
        image.row == self.from + self.length && Arc::ptr_eq(self.batch, &image.batch)
    }
}

fn to_change_type(kind: ChangeKind) -> v1::ChangeType {
    match kind {
        ChangeKind::Insert => v1::ChangeType::Insert,
        ChangeKind::Update => v1::ChangeType::Update,
        ChangeKind::Delete => v1::ChangeType::Delete,
    }
}

/// An active live query.
pub(crate) fn to_live_query_info(info: LiveQueryInfo) -> v1::LiveQueryInfo {
    v1::LiveQueryInfo {
        live_id: info.id.to_string(),
        user_id: info.user_id.as_str().to_owned(),
        namespace: info.namespace,
        table: info.table,
        query: info.query,
        options: info.options,
        node_id: u32::from(info.node_id),
        created_at: Some(to_timestamp(info.created_at_us)),
        changes: info.changes,
        bytes_sent: info.bytes_sent,
        bytes_per_second: info.bytes_per_second,
        position: info.position.get(),
        queued_commits: info.queued_commits,
        queued_bytes: info.queued_bytes,
    }
}

/// The id that a request names.
///
/// # Errors
/// INVALID_REQUEST when it cannot be one.
pub(crate) fn to_live_query_id(text: &str) -> Result<LiveQueryId, Error> {
    text.parse().map(LiveQueryId).map_err(|_| {
        let text = "live_id is the number of a live query, as its subscriber and ListLiveQueries are told it.";
        Error::new(Reason::InvalidRequest, text).with("field", "live_id")
    })
}
