//! Whether a storage can be used as a flush will use it.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use super::{ObjectError, StoreKind, Trouble, summary};

const CONTENT: &[u8] = b"KalamDB wrote this to see whether it can, and removes it at once.";

/// Writes an object below `.kalamdb-probe-<random>`, reads it back, lists it and deletes it.
///
/// # Errors
/// What went wrong and what to do, when it did or was not over within `limit`.
pub async fn check_access(
    store: &dyn ObjectStore,
    kind: StoreKind,
    random: u64,
    limit: Duration,
) -> Result<(), ObjectError> {
    let folder = Path::from(format!(".kalamdb-probe-{random:016x}"));
    let object = folder.clone().join("object");
    match tokio::time::timeout(limit, probe(store, &folder, &object)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(failure)) => Err(failure.told(kind)),
        Err(_) => Err(ObjectError::Unreachable(format!(
            "The storage did not answer within {} seconds. Check its uri, its endpoint and the network.",
            limit.as_secs()
        ))),
    }
}

struct Failure {
    doing: &'static str,
    /// `None`: it answered, but not with what was written.
    error: Option<Error>,
}

async fn probe(store: &dyn ObjectStore, folder: &Path, object: &Path) -> Result<(), Failure> {
    let step = |doing| move |error| Failure { doing, error: Some(error) };
    write(store, object).await.map_err(step("written"))?;
    let checked = read_back(store, folder, object).await;
    // Also when it could not be read: nothing of the check is to stay.
    let deleted = store.delete(object).await.map_err(step("deleted"));
    checked.and(deleted)
}

/// Like a segment: only where nothing is, if the store can see to that.
async fn write(store: &dyn ObjectStore, object: &Path) -> Result<(), Error> {
    let content = || Bytes::from_static(CONTENT).into();
    let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    match store.put_opts(object, content(), create).await {
        Err(error) if Trouble::of(&error) == Trouble::Unsupported => store.put(object, content()).await.map(|_| ()),
        outcome => outcome.map(|_| ()),
    }
}

async fn read_back(store: &dyn ObjectStore, folder: &Path, object: &Path) -> Result<(), Failure> {
    let step = |doing| move |error| Failure { doing, error: Some(error) };
    let whole = store.get(object).await.map_err(step("read"))?.bytes().await.map_err(step("read"))?;
    let part = store.get_range(object, 8..13).await.map_err(step("read"))?;
    if whole != CONTENT || part != CONTENT[8..13] {
        return Err(Failure { doing: "read", error: None });
    }
    let listed: Vec<_> = store.list(Some(folder)).try_collect().await.map_err(step("listed"))?;
    if listed.iter().any(|meta| meta.location == *object) {
        Ok(())
    } else {
        Err(Failure { doing: "listed", error: None })
    }
}

impl Failure {
    fn told(self, kind: StoreKind) -> ObjectError {
        let doing = self.doing;
        let Some(error) = self.error else {
            return ObjectError::Failed(format!(
                "The storage does not answer with what was written to it: an object could not be {doing}."
            ));
        };
        let said = summary(&error);
        let (place, who) = match kind {
            StoreKind::FileSystem => ("folder", "Give the server's user the right to it."),
            StoreKind::Azure => ("container", "Check the credentials and what they allow."),
            StoreKind::S3 | StoreKind::Gcs => ("bucket", "Check the credentials and what they allow."),
        };
        match Trouble::of(&error) {
            Trouble::Missing if doing == "written" => ObjectError::Invalid(format!(
                "The {place} does not exist ({said}). Create it first, or correct the uri."
            )),
            Trouble::Denied => {
                ObjectError::Denied(format!("The storage refuses: an object could not be {doing} ({said}). {who}"))
            }
            Trouble::Unreachable => ObjectError::Unreachable(format!(
                "The storage cannot be reached: {said}. Check its uri, its endpoint and the network."
            )),
            Trouble::Full => ObjectError::Full(format!("The storage is full ({said}). Free some room and try again.")),
            Trouble::Elsewhere => ObjectError::Invalid(format!(
                "The {place} is of another region or at another address ({said}). Correct \"region\" or \"endpoint\" in the \
                 credentials."
            )),
            Trouble::Missing | Trouble::Unsupported | Trouble::Other => {
                ObjectError::Failed(format!("The storage cannot be used: an object could not be {doing} ({said})."))
            }
        }
    }
}

#[cfg(test)]
mod tests;
