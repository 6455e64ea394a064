//! What this binary was built from.

/// Version of the server.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Git branch it was built from; `unknown` without git.
pub const GIT_BRANCH: &str = env!("KALAMDB_BUILD_GIT_BRANCH");
/// Git commit it was built from; `unknown` without git.
pub const GIT_COMMIT: &str = env!("KALAMDB_BUILD_GIT_COMMIT");

/// What `--version` shows.
pub(crate) const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (branch ",
    env!("KALAMDB_BUILD_GIT_BRANCH"),
    ", commit ",
    env!("KALAMDB_BUILD_GIT_COMMIT"),
    ")"
);
