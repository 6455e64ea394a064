//! Object stores from definitions.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::SpawnedReqwestConnector;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, RetryConfig, StaticCredentialProvider};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};

use super::definition::Place;
use super::{DurableFileSystem, FolderRoots, ObjectError, StoreDefinition, StoreKind, summary};

/// How patient a storage's client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreSettings {
    /// How long one request may take, with its body.
    pub request_timeout: Duration,
    /// How often a request is repeated that failed for a reason that can pass.
    pub max_retries: usize,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { request_timeout: Duration::from_secs(30), max_retries: 5 }
    }
}

/// Opens storages. Their network traffic runs on a thread of its own: neither long queries nor the end of a caller's
/// runtime hold up a request.
pub struct StoreOpener {
    roots: FolderRoots,
    settings: StoreSettings,
    /// Started for the first storage that needs the network.
    network: Mutex<Option<Runtime>>,
}

impl StoreOpener {
    /// Opens FILESYSTEM storages below `roots`, and others with these settings.
    pub fn new(roots: FolderRoots, settings: StoreSettings) -> Self {
        Self { roots, settings, network: Mutex::new(None) }
    }

    /// The store of a definition, rooted at its uri. Sends nothing yet. A FILESYSTEM storage's folder must exist.
    ///
    /// # Errors
    /// When the definition, or the folder, cannot be used.
    pub fn open(&self, definition: &StoreDefinition) -> Result<Arc<dyn ObjectStore>, ObjectError> {
        match &definition.place {
            Place::Folder(path) => {
                let folder = self.roots.existing(path)?;
                let store = DurableFileSystem::new(folder).map_err(|error| {
                    ObjectError::Unreachable(format!(
                        "The folder of the storage cannot be opened: {}.",
                        summary(&error)
                    ))
                })?;
                Ok(Arc::new(store))
            }
            Place::Bucket { name, account, prefix } => {
                let client = self.client(definition)?;
                let store = match definition.kind {
                    StoreKind::Gcs => client.gcs(name),
                    StoreKind::Azure => client.azure(name, account.as_deref()),
                    StoreKind::S3 | StoreKind::FileSystem => client.s3(name),
                };
                // The builder's own message can repeat what it was given.
                let store = store.map_err(|_| {
                    ObjectError::Invalid(format!(
                        "The uri or the credentials of the {} storage cannot be used: a key, an account or an endpoint is \
                         not in the form it must have.",
                        definition.kind
                    ))
                })?;
                Ok(rooted(store, prefix))
            }
        }
    }

    /// As [`StoreOpener::open`], and makes the folder of a FILESYSTEM storage where it is missing.
    ///
    /// # Errors
    /// As [`StoreOpener::open`].
    pub fn create(&self, definition: &StoreDefinition) -> Result<Arc<dyn ObjectStore>, ObjectError> {
        if let Place::Folder(path) = &definition.place {
            self.roots.make(path)?;
        }
        self.open(definition)
    }

    /// How patient the clients are.
    pub fn settings(&self) -> StoreSettings {
        self.settings
    }

    fn client<'a>(&self, definition: &'a StoreDefinition) -> Result<Client<'a>, ObjectError> {
        let StoreSettings { request_timeout, max_retries } = self.settings;
        let options = ClientOptions::new()
            .with_timeout(request_timeout)
            .with_connect_timeout(request_timeout.min(Duration::from_secs(5)))
            .with_allow_http(definition.options.is_set("allow_http"));
        let tries = u32::try_from(max_retries).unwrap_or(u32::MAX).saturating_add(1);
        let retry = RetryConfig {
            max_retries,
            // object_store repeats a request as it was signed, which services accept for some minutes.
            retry_timeout: request_timeout.saturating_mul(tries).min(Duration::from_secs(240)),
            ..RetryConfig::default()
        };
        Ok(Client { definition, options, retry, network: self.network()? })
    }

    fn network(&self) -> Result<Handle, ObjectError> {
        let mut network = self.network.lock();
        if let Some(runtime) = network.as_ref() {
            return Ok(runtime.handle().clone());
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("kalamdb-storage")
            .enable_all()
            .build()
            .map_err(|error| ObjectError::Failed(format!("The server cannot start a thread: {}.", error.kind())))?;
        Ok(network.insert(runtime).handle().clone())
    }
}

impl Drop for StoreOpener {
    fn drop(&mut self) {
        if let Some(runtime) = self.network.get_mut().take() {
            // The last owner can be a task, which must not wait.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for StoreOpener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOpener")
            .field("roots", &self.roots)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// What the clients of all services are made with.
struct Client<'a> {
    definition: &'a StoreDefinition,
    options: ClientOptions,
    retry: RetryConfig,
    network: Handle,
}

type Built = object_store::Result<Arc<dyn ObjectStore>>;

impl Client<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.definition.options.get(key)
    }

    fn is_set(&self, key: &str) -> bool {
        self.definition.options.is_set(key)
    }

    /// Without keys it is the machine's own identity that asks.
    fn s3(self, bucket: &str) -> Built {
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(self.get("region").unwrap_or("us-east-1"))
            .with_skip_signature(self.is_set("anonymous"))
            .with_http_connector(SpawnedReqwestConnector::new(self.network.clone()));
        if let (Some(id), Some(secret)) = (self.get("access_key_id"), self.get("secret_access_key")) {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        }
        if let Some(token) = self.get("session_token") {
            builder = builder.with_token(token);
        }
        let in_host = self.get("path_style") == Some("false");
        builder = builder.with_virtual_hosted_style_request(in_host);
        if let Some(endpoint) = self.get("endpoint") {
            builder = builder.with_endpoint(match endpoint.split_once("://") {
                Some((scheme, host)) if in_host => format!("{scheme}://{bucket}.{host}"),
                _ => endpoint.to_owned(),
            });
        }
        Ok(Arc::new(builder.with_client_options(self.options).with_retry(self.retry).build()?))
    }

    /// Without a key, and unless requests are anonymous, each one first needs a token of Google's metadata server,
    /// whatever the endpoint is.
    fn gcs(self, bucket: &str) -> Built {
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(bucket)
            .with_skip_signature(self.is_set("anonymous"))
            .with_http_connector(SpawnedReqwestConnector::new(self.network.clone()));
        if self.is_set("anonymous") {
            // Writes ask for a token even where nothing is to be signed.
            let nobody = GcpCredential { bearer: String::new() };
            builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(nobody)));
        } else if let Some(account) = self.get("service_account") {
            builder = builder.with_service_account_key(account);
        }
        if let Some(endpoint) = self.get("endpoint") {
            builder = builder.with_base_url(endpoint);
        }
        Ok(Arc::new(builder.with_client_options(self.options).with_retry(self.retry).build()?))
    }

    fn azure(self, container: &str, account: Option<&str>) -> Built {
        let mut builder = MicrosoftAzureBuilder::new()
            .with_container_name(container)
            .with_account(account.or(self.get("account_name")).unwrap_or_default())
            .with_skip_signature(self.is_set("anonymous"))
            .with_http_connector(SpawnedReqwestConnector::new(self.network.clone()));
        for (key, config) in [
            ("account_key", AzureConfigKey::AccessKey),
            ("sas_token", AzureConfigKey::SasKey),
            ("tenant_id", AzureConfigKey::AuthorityId),
            ("client_id", AzureConfigKey::ClientId),
            ("client_secret", AzureConfigKey::ClientSecret),
            ("endpoint", AzureConfigKey::Endpoint),
        ] {
            if let Some(value) = self.get(key) {
                builder = builder.with_config(config, value);
            }
        }
        Ok(Arc::new(builder.with_client_options(self.options).with_retry(self.retry).build()?))
    }
}

fn rooted(store: Arc<dyn ObjectStore>, prefix: &Path) -> Arc<dyn ObjectStore> {
    if prefix.as_ref().is_empty() { store } else { Arc::new(PrefixStore::new(store, prefix.clone())) }
}

#[cfg(test)]
mod tests;
