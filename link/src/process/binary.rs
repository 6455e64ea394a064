//! Finding the server's binary.

use std::{
    env,
    path::{Path, PathBuf},
};

use super::{ProcessError, SERVER};

/// Environment variable with the path of the server's binary.
const VARIABLE: &str = "KALAMDB_SERVER_BIN";

/// Finds a binary of this name in the folder of the running program or the one above it.
pub fn find_binary(name: &str) -> Option<PathBuf> {
    candidates(name).into_iter().find(|path| path.is_file())
}

pub(super) fn resolve(given: Option<&Path>) -> Result<PathBuf, ProcessError> {
    let named = given.map(Path::to_path_buf).or_else(|| env::var_os(VARIABLE).map(PathBuf::from));
    let tried = match named {
        Some(path) => vec![path],
        None => candidates(SERVER),
    };
    match tried.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(ProcessError::NoBinary { tried }),
    }
}

fn candidates(name: &str) -> Vec<PathBuf> {
    let file = format!("{name}{}", env::consts::EXE_SUFFIX);
    let Ok(program) = env::current_exe() else { return Vec::new() };
    program.ancestors().skip(1).take(2).map(|folder| folder.join(&file)).collect()
}
