//! What is written for people against what is there: dependencies, links, examples, the test command.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The crates of others in `[workspace.dependencies]`.
fn dependencies() -> BTreeSet<String> {
    let manifest = read("Cargo.toml");
    let (_, rest) = manifest.split_once("[workspace.dependencies]").unwrap();
    let table = rest.split("\n[").next().unwrap();
    let names = table.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    names.map(|(name, _)| name.trim().to_owned()).filter(|name| !name.starts_with("ostler-")).collect()
}

#[test]
fn each_dependency_has_its_reason() {
    let page = read("docs/decisions/0002-dependencies.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let explained: Vec<_> = rows.map(|(name, _)| name.to_owned()).collect();
    let unique: BTreeSet<_> = explained.iter().cloned().collect();
    assert_eq!(explained.len(), unique.len(), "a crate is explained twice");
    assert_eq!(unique, dependencies(), "left: explained, right: in Cargo.toml");
}

#[test]
fn each_dependency_is_used_by_a_member() {
    // A workspace of its own uses nothing of this table.
    let other = root().join("tests/conformance/fixtures/rust/Cargo.toml");
    let manifests = files(&root(), &|path| {
        path.ends_with("Cargo.toml") && path != root().join("Cargo.toml") && path != other
    });
    let members: String = manifests.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let used = |name: &str| {
        members.lines().any(|line| {
            let rest = line.strip_prefix(name).unwrap_or_default();
            rest.starts_with(".workspace") || rest.trim_start().starts_with('=')
        })
    };
    let unused: Vec<_> = dependencies().into_iter().filter(|name| !used(name)).collect();
    assert!(unused.is_empty(), "no member uses {unused:?}; remove them from the workspace's table");
}

#[test]
fn relative_links_lead_to_files_and_headings() {
    let mut pages = files(&root().join("docs"), &|path| path.extension().is_some_and(|ext| ext == "md"));
    pages.extend(["README.md", "ARCHITECTURE.md"].map(|name| root().join(name)));
    let mut broken = Vec::new();
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text).filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let found = target.exists()
                && (heading.is_empty() || headings(&fs::read_to_string(&target).unwrap()).contains(heading));
            if !found {
                broken.push(format!("{}: {link}", page.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(broken.is_empty(), "these links lead nowhere: {broken:#?}");
}

#[test]
fn examples_are_accepted_without_a_warning() {
    let examples = files(&root().join("docs/examples"), &|_| true);
    assert!(!examples.is_empty());
    for example in examples {
        let text = fs::read(&example).unwrap();
        let judged = ostler_config::judge_text(&text)
            .unwrap_or_else(|report| panic!("{}: {report}", example.display()));
        assert_eq!(judged.warnings, [], "{}", example.display());
        let first = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned();
        let schema = first
            .strip_prefix("# yaml-language-server: $schema=")
            .unwrap_or_else(|| panic!("{} does not name its schema in its first line", example.display()));
        assert!(example.parent().unwrap().join(schema).is_file(), "{}: {schema}", example.display());
    }
}

#[test]
fn configs_in_the_guides_are_accepted() {
    let mut configs = 0;
    for page in ["README.md", "docs/quickstart.md", "docs/authentication.md"] {
        for block in read(page).split("```yaml\n").skip(1) {
            let config = block.split("```").next().unwrap();
            // Prometheus' own is no config of ours.
            if !config.starts_with("scrape_configs:") {
                configs += 1;
                let judged = ostler_config::judge_text(config.as_bytes());
                judged.unwrap_or_else(|report| panic!("{page}: {report}"));
            }
        }
    }
    assert!(configs > 0, "the guides show no config");
}

#[test]
fn the_test_command_is_the_one_that_ci_runs() {
    const COMMAND: &str = "cargo test --workspace";
    let readme = read("README.md");
    let commands: Vec<_> = readme.lines().filter(|line| line.contains("cargo test")).collect();
    assert_eq!(commands, [COMMAND]);
    assert!(read(".ci/run").lines().any(|line| line.trim() == COMMAND));
}

#[test]
fn the_tests_that_stand_against_threats_exist() {
    let tests = all_tests();
    let page = read("docs/threats.md");
    let named = page.split('`').skip(1).step_by(2).filter(|word| word.matches('_').count() > 3);
    let (there, missing): (Vec<_>, Vec<_>) = named.partition(|name| tests.contains(*name));
    assert!(missing.is_empty(), "the page names tests that do not exist: {missing:#?}");
    assert!(there.len() > 40, "{there:?}");
}

#[test]
fn each_row_of_the_recovery_page_has_its_test() {
    let page = read("docs/recovery.md");
    let tests = all_tests();
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what breaks"));
    let footnoted = page.lines().filter(|line| !line.starts_with('|')).collect::<String>();
    let footnoted = footnoted.split('`').skip(1).step_by(2).filter(|word| word.matches('_').count() > 3);
    let mut missing: Vec<_> = footnoted.filter(|name| !tests.contains(*name)).map(str::to_owned).collect();
    for row in rows {
        let named = row.trim_end_matches('|').rsplit('|').next().unwrap().trim();
        let names: Vec<_> = named.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test holds this row: {row}");
        missing.extend(names.into_iter().filter(|name| !tests.contains(*name)).map(str::to_owned));
    }
    assert!(missing.is_empty(), "the page names tests that do not exist: {missing:#?}");
}

/// The names of all tests.
fn all_tests() -> BTreeSet<String> {
    ["tests/tests", "dataplane/tests", "dataplane/src", "shared"]
        .iter()
        .flat_map(|folder| {
            files(&root().join(folder), &|path| path.extension().is_some_and(|ext| ext == "rs"))
        })
        .flat_map(|file| test_names(&fs::read_to_string(file).unwrap()))
        .collect()
}

/// Functions that are marked as tests.
fn test_names(source: &str) -> Vec<String> {
    let is_mark = |line: &str| line.starts_with("#[test]") || line.starts_with("#[tokio::test");
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let marked = lines.iter().enumerate().filter(|(_, line)| is_mark(line)).map(|(at, _)| &lines[at..]);
    let name = |lines: &[&str]| {
        let (_, rest) = lines.iter().find_map(|line| line.split_once("fn "))?;
        rest.split_once('(').map(|(name, _)| name.to_owned())
    };
    marked.filter_map(name).collect()
}

/// Targets of `[text](target)`, outside of code.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").step_by(2).flat_map(|prose| {
        prose.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
    })
}

/// Anchors of a page's headings, as they are made where this repository is read.
fn headings(text: &str) -> BTreeSet<String> {
    let titles = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |title: &str| {
        let kept = title.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    titles.map(anchor).collect()
}

/// Files below a folder, build output and installed counterparts left out.
fn files(folder: &Path, wanted: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())).flatten()
    {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if path.is_dir() {
            if !hidden && !path.ends_with("target") && !path.ends_with("node_modules") {
                found.extend(files(&path, wanted));
            }
        } else if wanted(&path) {
            found.push(path);
        }
    }
    found
}
