//! The arrows between crates, and the page that explains the tree, against the tree itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Crate → crates of this workspace that it may link.
fn allowed() -> BTreeMap<&'static str, Vec<&'static str>> {
    let shared = [
        "ostler-core",
        "ostler-mcp",
        "ostler-policy",
        "ostler-audit",
        "ostler-config",
        "ostler-tls",
        "ostler-telemetry",
        "ostler-watch",
    ];
    let with = |more: &[&'static str]| shared.iter().chain(more).copied().collect::<Vec<_>>();
    BTreeMap::from([
        ("ostler-proto", vec![]),
        ("ostler-core", vec![]),
        ("ostler-mcp", vec!["ostler-core"]),
        ("ostler-policy", vec!["ostler-core"]),
        ("ostler-audit", vec!["ostler-core"]),
        ("ostler-config", vec!["ostler-core", "ostler-mcp", "ostler-policy"]),
        ("ostler-tls", vec!["ostler-core"]),
        ("ostler-telemetry", vec!["ostler-core"]),
        ("ostler-watch", vec!["ostler-core"]),
        ("ostler-control", with(&["ostler-proto"])),
        ("ostler-dataplane", with(&["ostler-proto"])),
        ("ostler-cli", with(&["ostler-control", "ostler-dataplane"])),
        // Measures the product's programs from without.
        ("ostler-bench", vec!["ostler-core"]),
        // Counts what the request path takes, from within.
        ("ostler-budget", with(&["ostler-dataplane"])),
        ("ostler-fuzz", with(&["ostler-proto", "ostler-control", "ostler-dataplane"])),
        (
            "ostler-tests",
            with(&["ostler-proto", "ostler-control", "ostler-dataplane", "ostler-cli", "ostler-fuzz"]),
        ),
    ])
}

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Names of the crates that a package links; those of its tests do not count.
fn linked(package: &Value) -> Vec<String> {
    let dependencies = package["dependencies"].as_array().unwrap().iter();
    let linked = dependencies.filter(|dependency| dependency["kind"] != "dev");
    linked.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn crates_link_only_along_the_arrows() {
    let allowed = allowed();
    let packages = packages();
    assert_eq!(packages.len(), allowed.len(), "a crate without arrows, or arrows without a crate");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let may = &allowed[name];
        for dependency in linked(&package).iter().filter(|dependency| dependency.starts_with("ostler-")) {
            assert!(may.contains(&dependency.as_str()), "{name} must not link {dependency}");
        }
    }
}

#[test]
fn the_data_plane_links_no_store_and_no_web_framework() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", "ostler-dataplane", "--edges", "normal", "--prefix", "none"])
        .current_dir(root())
        .output()
        .unwrap();
    let tree = String::from_utf8_lossy(&output.stdout);
    assert!(tree.contains("hyper "), "{tree}");
    for banned in ["redb ", "axum ", "utoipa ", "clap_complete "] {
        assert!(!tree.lines().any(|line| line.starts_with(banned)), "the data plane links {banned}");
    }
}

#[test]
fn wire_types_stop_at_the_sync_modules() {
    for (folder, home) in [("dataplane/src", "sync"), ("control/src", "distribution")] {
        for file in rust_files(&root().join(folder)) {
            let inside = file.strip_prefix(root().join(folder)).unwrap().starts_with(home);
            let text = fs::read_to_string(&file).unwrap();
            assert!(inside || !text.contains("ostler_proto"), "{} names wire types", file.display());
        }
    }
}

#[test]
fn pipeline_stages_do_not_import_each_other() {
    let folder = root().join("dataplane/src/pipeline");
    // What carries a refusal or a record is no stage.
    let stages = ["route", "body", "session"];
    for stage in stages {
        let text = fs::read_to_string(folder.join(format!("{stage}.rs"))).unwrap();
        for other in stages.iter().filter(|other| **other != stage) {
            assert!(!text.contains(&format!("super::{other}")), "{stage} imports {other}");
        }
    }
}

#[test]
fn the_architecture_page_has_a_line_for_each_folder() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut folders: Vec<_> = packages()
        .iter()
        .map(|package| PathBuf::from(package["manifest_path"].as_str().unwrap()).parent().unwrap().to_owned())
        .collect();
    for crate_folder in folders.clone() {
        folders.extend(source_folders(&crate_folder.join("src")));
    }
    for folder in folders {
        let name = folder.strip_prefix(root()).unwrap().display().to_string();
        assert!(page.contains(&format!("`{name}/`")), "ARCHITECTURE.md has no line for `{name}/`");
    }
    let named =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("/`").map(|(name, _)| name));
    for name in named {
        assert!(root().join(name).is_dir(), "ARCHITECTURE.md names `{name}/`, which is no folder");
    }
}

#[test]
fn every_source_file_says_what_it_owns() {
    for folder in ["proto", "shared", "control", "dataplane", "tests"] {
        for file in rust_files(&root().join(folder)) {
            if file.components().any(|part| part.as_os_str() == "generated" || part.as_os_str() == "target") {
                continue;
            }
            let text = fs::read_to_string(&file).unwrap();
            assert!(text.starts_with("//!"), "{} does not say at its top what it owns", file.display());
        }
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with(".env") && !path.ends_with("node_modules") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// A folder beside a module that holds nothing but the module's tests.
fn holds_only_tests(folder: &Path) -> bool {
    let is_test = |path: &Path| path.starts_with(folder.join("tests")) || path.ends_with("tests.rs");
    folder.ends_with("tests") || rust_files(folder).iter().all(|file| is_test(file))
}

fn source_folders(folder: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !holds_only_tests(&path) {
            folders.extend(source_folders(&path));
            folders.push(path);
        }
    }
    folders
}
