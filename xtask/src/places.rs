//! Where things are in this work tree.

use std::path::PathBuf;

/// The work tree's root: the folder above this crate's.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(|| PathBuf::from("."), PathBuf::from)
}

/// Where downloaded and built tools live; git ignores it.
pub(crate) fn tools() -> PathBuf {
    root().join(".test-tools")
}

/// A command of the Python venv.
pub(crate) fn venv(command: &str) -> PathBuf {
    tools().join("venv").join("bin").join(command)
}
