//! Storages: where segments are kept.

use std::fmt;

use kalamdb_proto::v1;

use super::{Admin, PAGE_SIZE, present};
use crate::{
    convert,
    error::{Error, Result},
};

/// What kind of place a storage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StorageType {
    /// A folder of the server's file system.
    Filesystem,
    /// A bucket of S3, or of a server that speaks its protocol.
    S3,
    /// A bucket of Google Cloud Storage.
    Gcs,
    /// A container of Azure Blob Storage.
    Azure,
    /// A type that this version of the client does not know.
    Unknown,
}

/// A place for segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Its name; `local` is there from the start.
    pub name: String,
    /// What kind of place it is.
    pub storage_type: StorageType,
    /// Where it is, such as `s3://bucket/prefix`.
    pub uri: String,
    /// Whether it has credentials. They themselves are never shown.
    pub has_credentials: bool,
    /// When it was created, in microseconds since 1970-01-01T00:00:00Z.
    pub created_at_us: i64,
    /// Number of tables that keep segments in it.
    pub usage_count: u32,
    /// Those tables, each as `namespace.table`; the first 100 by name.
    pub tables: Vec<String>,
}

/// A storage to be, for [`Admin::create_storage`].
#[derive(Clone, PartialEq, Eq)]
pub struct NewStorage {
    /// Its name.
    pub name: String,
    /// What kind of place it is.
    pub storage_type: StorageType,
    /// Where it is: `file:///folder`, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`.
    pub uri: String,
    /// A JSON object, as in SQL's CREDENTIALS; none: what the server's environment gives.
    pub credentials: Option<String>,
}

/// Changes of a storage, for [`Admin::alter_storage`]. What is `None` stays as it is.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StorageChanges {
    /// The new place for tables created from now on.
    pub uri: Option<String>,
    /// The new credentials, a JSON object; empty: none.
    pub credentials: Option<String>,
}

impl Admin {
    /// Every storage, by name.
    ///
    /// # Errors
    /// Those of the server, such as `PERMISSION_DENIED`.
    pub async fn list_storages(&self) -> Result<Vec<Storage>> {
        self.pages(async |page_token| {
            let request = v1::ListStoragesRequest { page_size: PAGE_SIZE, page_token };
            let page = self.read(request, |mut client, request| async move { client.list_storages(request).await });
            let page = page.await?;
            Ok((page.storages.into_iter().map(storage).collect(), page.next_page_token))
        })
        .await
    }

    /// Creates a storage, once the server has written a file to it, read it back and deleted it. Answers whether it was
    /// created: false when it existed and `if_not_exists` is set.
    ///
    /// ```no_run
    /// use kalam_link::{NewStorage, StorageType};
    ///
    /// # async fn example(client: kalam_link::Client) -> Result<(), kalam_link::Error> {
    /// let archive = NewStorage {
    ///     name: "archive".into(),
    ///     storage_type: StorageType::S3,
    ///     uri: "s3://my-bucket/kalamdb".into(),
    ///     credentials: Some(std::fs::read_to_string("credentials.json").unwrap_or_default()),
    /// };
    /// client.admin().create_storage(archive, true).await?;
    /// client.execute("CREATE USER TABLE chat.letters (id BIGINT PRIMARY KEY) STORAGE archive", ()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the server, such as `STORAGE_EXISTS` and `STORAGE_UNREACHABLE`;
    /// [`Error::Configuration`] for [`StorageType::Unknown`].
    pub async fn create_storage(&self, new: NewStorage, if_not_exists: bool) -> Result<bool> {
        let storage_type = match new.storage_type {
            StorageType::Filesystem => v1::StorageType::Filesystem,
            StorageType::S3 => v1::StorageType::S3,
            StorageType::Gcs => v1::StorageType::Gcs,
            StorageType::Azure => v1::StorageType::Azure,
            StorageType::Unknown => return Err(Error::configuration("a storage to be created needs a type")),
        };
        if new.credentials.is_some() {
            self.client.check_private("the credentials of a storage")?;
        }
        let request = v1::CreateStorageRequest {
            name: new.name,
            r#type: storage_type.into(),
            uri: new.uri,
            credentials: new.credentials.unwrap_or_default(),
            if_not_exists,
        };
        let answer = self.write(request, |mut client, request| async move { client.create_storage(request).await });
        Ok(answer.await?.created)
    }

    /// Changes where tables created from now on keep their segments, or the credentials.
    ///
    /// # Errors
    /// Those of the server, such as `STORAGE_NOT_FOUND` and `STORAGE_UNREACHABLE`.
    pub async fn alter_storage(&self, name: impl Into<String>, changes: StorageChanges) -> Result<Storage> {
        let StorageChanges { uri, credentials } = changes;
        if credentials.is_some() {
            self.client.check_private("the credentials of a storage")?;
        }
        let request = v1::AlterStorageRequest { name: name.into(), uri, credentials };
        let answer = self.write(request, |mut client, request| async move { client.alter_storage(request).await });
        present(answer.await?.storage, "storage").map(storage)
    }

    /// Drops a storage that no table uses. Answers whether it was dropped: false when it did not exist and `if_exists`
    /// is set.
    ///
    /// # Errors
    /// Those of the server, such as `STORAGE_IN_USE`.
    pub async fn drop_storage(&self, name: impl Into<String>, if_exists: bool) -> Result<bool> {
        let request = v1::DropStorageRequest { name: name.into(), if_exists };
        let answer = self.write(request, |mut client, request| async move { client.drop_storage(request).await });
        Ok(answer.await?.dropped)
    }
}

fn storage(storage: v1::Storage) -> Storage {
    let storage_type = match storage.r#type() {
        v1::StorageType::Filesystem => StorageType::Filesystem,
        v1::StorageType::S3 => StorageType::S3,
        v1::StorageType::Gcs => StorageType::Gcs,
        v1::StorageType::Azure => StorageType::Azure,
        v1::StorageType::Unspecified => StorageType::Unknown,
    };
    Storage {
        storage_type,
        created_at_us: convert::micros(storage.created_at.map(|time| (time.seconds, time.nanos))),
        name: storage.name,
        uri: storage.uri,
        has_credentials: storage.has_credentials,
        usage_count: storage.usage_count,
        tables: storage.tables,
    }
}

/// Credentials are not printed.
impl fmt::Debug for NewStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewStorage")
            .field("name", &self.name)
            .field("storage_type", &self.storage_type)
            .field("uri", &self.uri)
            .field("credentials", &self.credentials.as_ref().map(|_| "…"))
            .finish()
    }
}

/// Credentials are not printed.
impl fmt::Debug for StorageChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageChanges")
            .field("uri", &self.uri)
            .field("credentials", &self.credentials.as_ref().map(|_| "…"))
            .finish()
    }
}
