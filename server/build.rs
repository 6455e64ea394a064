//! Records the git branch and commit that the server is built from, for `--version`, the log and `GetServerInfo`.

use std::process::Command;

fn main() {
    let branch = from_environment("KALAMDB_GIT_BRANCH").or_else(|| git(&["symbolic-ref", "--short", "HEAD"]));
    let commit = from_environment("KALAMDB_GIT_COMMIT").or_else(|| git(&["rev-parse", "--short=12", "HEAD"]));
    let unknown = || "unknown".to_owned();
    println!("cargo::rustc-env=KALAMDB_BUILD_GIT_BRANCH={}", branch.unwrap_or_else(unknown));
    println!("cargo::rustc-env=KALAMDB_BUILD_GIT_COMMIT={}", commit.unwrap_or_else(unknown));

    println!("cargo::rerun-if-changed=build.rs");
    // HEAD changes with the branch, the references with every commit.
    for file in ["HEAD", "refs/heads", "packed-refs"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file])
            && std::path::Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

/// A value given by a build that has no git at hand, such as one in a container.
fn from_environment(name: &str) -> Option<String> {
    println!("cargo::rerun-if-env-changed={name}");
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}
