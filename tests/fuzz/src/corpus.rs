//! The inputs that are kept with the sources: hand-written seeds, what the fuzzer found worth keeping, and each finding.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the inputs of a target are kept.
pub fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// Name and content of every input, in the order of their names, so that a run is the same everywhere.
///
/// # Panics
/// When the folder or a file in it cannot be read.
pub fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = folder(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("the folder can be listed").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let content = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (name, content)
        })
        .collect();
    inputs.sort();
    inputs
}
