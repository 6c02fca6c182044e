//! A watch against a real folder. Deadlines are coarse: they only keep a defect from hanging the run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it fails")]

use std::fs;
use std::time::Duration;

use ostler_watch::FileWatch;
use tokio::time::timeout;

async fn next(watch: &mut FileWatch) -> Result<Vec<u8>, String> {
    timeout(Duration::from_secs(30), watch.changed()).await.expect("no change was seen")
}

#[tokio::test]
async fn known_content_is_not_reported_and_a_replacement_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ostler.yaml");
    fs::write(&path, "one").unwrap();
    let mut watch = FileWatch::new(&path, Some(b"one"));
    let replacement = dir.path().join("new");
    fs::write(&replacement, "two").unwrap();
    fs::rename(&replacement, &path).unwrap();
    assert_eq!(next(&mut watch).await.unwrap(), b"two");
}

#[tokio::test]
async fn a_write_in_place_is_seen_after_a_replacement() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ostler.yaml");
    fs::write(&path, "one").unwrap();
    let mut watch = FileWatch::new(&path, None);
    assert_eq!(next(&mut watch).await.unwrap(), b"one");
    fs::rename(&path, dir.path().join("old")).unwrap();
    fs::write(&path, "two").unwrap();
    assert_eq!(next(&mut watch).await.unwrap(), b"two");
    fs::write(&path, "three").unwrap();
    assert_eq!(next(&mut watch).await.unwrap(), b"three");
}

#[tokio::test]
async fn a_missing_file_is_told_once_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ostler.yaml");
    let mut watch = FileWatch::new(&path, None);
    assert_eq!(next(&mut watch).await.unwrap_err(), "it does not exist");
    fs::write(&path, "back").unwrap();
    assert_eq!(next(&mut watch).await.unwrap(), b"back");
}

#[cfg(unix)]
#[tokio::test]
async fn a_symlink_swap_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("v1")).unwrap();
    fs::create_dir(dir.path().join("v2")).unwrap();
    fs::write(dir.path().join("v1/ostler.yaml"), "one").unwrap();
    fs::write(dir.path().join("v2/ostler.yaml"), "two").unwrap();
    std::os::unix::fs::symlink("v1", dir.path().join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/ostler.yaml", dir.path().join("ostler.yaml")).unwrap();
    let mut watch = FileWatch::new(dir.path().join("ostler.yaml"), Some(b"one"));
    std::os::unix::fs::symlink("v2", dir.path().join("..data_tmp")).unwrap();
    fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
    assert_eq!(next(&mut watch).await.unwrap(), b"two");
}

#[tokio::test]
async fn content_that_was_not_taken_is_handed_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ostler.yaml");
    fs::write(&path, "one").unwrap();
    let mut watch = FileWatch::new(&path, None);
    assert_eq!(next(&mut watch).await.unwrap(), b"one");
    watch.try_again();
    assert_eq!(next(&mut watch).await.unwrap(), b"one");
}
