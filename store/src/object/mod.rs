//! Storages: where the files of segments are, and under which paths.
//!
//! * [`StoreDefinition`]: what a storage is, checked; [`StoreOpener`] makes an
//!   [`ObjectStore`](object_store::ObjectStore) of it, rooted at its uri.
//! * [`check_access`]: whether it can be written to and read from.
//! * [`DurableFileSystem`]: files that are on disk when a PUT is acknowledged.
//! * [`ReplaceableStore`]: a store whose keys can change while it is in use.
//! * [`PathTemplate`]: the folder of a partition; [`encode`]: any text as the name of a folder.
//! * [`SecretKey`]: seals credentials.
//! * [`Trouble`]: what an object store's error means.

mod definition;
mod encoding;
mod failure;
mod file_system;
mod folders;
mod open;
mod options;
mod probe;
mod replaceable;
mod seal;
mod template;

pub use definition::{StoreDefinition, StoreKind, canonical_uri};
pub use encoding::encode;
pub use failure::{ObjectError, Trouble, summary};
pub use file_system::DurableFileSystem;
pub use folders::FolderRoots;
pub use open::{StoreOpener, StoreSettings};
pub use probe::check_access;
pub use replaceable::ReplaceableStore;
pub use seal::{InvalidSecretKey, NotOpened, SecretKey};
pub use template::{PathNames, PathTemplate, SHARED_TEMPLATE, Shards, TemplateError, USER_TEMPLATE};
