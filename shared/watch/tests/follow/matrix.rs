//! Each thing that may happen to a file, by events alone and by polling alone.

use super::*;

/// One test for each way of noticing.
macro_rules! by_events_and_by_polling {
    ($($name:ident)*) => {
        mod by_events {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::By::Events).await;
            })*
        }

        mod by_polling {
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name(super::By::Polling).await;
            })*
        }
    };
}

by_events_and_by_polling! {
    a_replacement_is_seen
    a_write_in_place_is_seen
    a_swapped_symlink_is_seen
    a_file_that_is_deleted_is_told_once_and_found_again
    a_file_that_cannot_be_read_for_a_while_is_found_again
    a_folder_in_its_place_is_told_and_a_file_is_found_again
    a_pipe_in_its_place_is_not_waited_for
    a_file_that_is_too_large_is_told_and_a_smaller_one_is_found
    an_empty_file_is_not_handed_out_while_something_may_come
    a_reload_hands_out_the_same_again
}

async fn a_replacement_is_seen(by: By) {
    let mut scene = Scene::new(by);
    for content in ["two", "three"] {
        scene.replace(content);
        assert_eq!(scene.next().await.unwrap(), content);
    }
}

async fn a_write_in_place_is_seen(by: By) {
    let mut scene = Scene::new(by);
    fs::rename(scene.path(), scene.folder().join("old")).unwrap();
    for content in ["two", "three", "three and more"] {
        fs::write(scene.path(), content).unwrap();
        assert_eq!(scene.next().await.unwrap(), content);
    }
}

/// As Kubernetes lays out a mounted config map, and changes it.
async fn a_swapped_symlink_is_seen(by: By) {
    let dir = tempfile::tempdir().unwrap();
    let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, dir.path().join(name)).unwrap();
    for (folder, content) in [("..1", "one"), ("..2", "two"), ("..3", "three")] {
        fs::create_dir(dir.path().join(folder)).unwrap();
        fs::write(dir.path().join(folder).join("ostler.yaml"), content).unwrap();
    }
    link("..1", "..data");
    link("..data/ostler.yaml", "ostler.yaml");
    let watch = watch(&dir.path().join("ostler.yaml"), by);
    let mut scene = Scene { dir, watch };
    for (folder, content) in [("..2", "two"), ("..3", "three")] {
        let new = scene.dir.path().join("..data_tmp");
        std::os::unix::fs::symlink(folder, &new).unwrap();
        fs::rename(&new, scene.dir.path().join("..data")).unwrap();
        assert_eq!(scene.next().await.unwrap(), content);
    }
}

async fn a_file_that_is_deleted_is_told_once_and_found_again(by: By) {
    let mut scene = Scene::new(by);
    fs::remove_file(scene.path()).unwrap();
    assert_eq!(scene.next().await.unwrap_err(), "it does not exist");
    fs::write(scene.path(), "two").unwrap();
    assert_eq!(scene.next().await.unwrap(), "two");
    // What was there before counts as a change after another was handed out.
    fs::write(scene.path(), "one").unwrap();
    assert_eq!(scene.next().await.unwrap(), "one");
}

/// A link into nowhere: what permissions are to others also keeps out a user who may do anything.
async fn a_file_that_cannot_be_read_for_a_while_is_found_again(by: By) {
    let mut scene = Scene::new(by);
    let loop_name = scene.folder().join(".loop");
    std::os::unix::fs::symlink(scene.path(), &loop_name).unwrap();
    fs::remove_file(scene.path()).unwrap();
    fs::rename(&loop_name, scene.path()).unwrap();
    assert!(scene.next().await.unwrap_err().contains("symbolic link"));
    scene.replace("two");
    assert_eq!(scene.next().await.unwrap(), "two");
}

async fn a_folder_in_its_place_is_told_and_a_file_is_found_again(by: By) {
    let mut scene = Scene::new(by);
    fs::remove_file(scene.path()).unwrap();
    fs::create_dir(scene.path()).unwrap();
    assert_eq!(scene.next().await.unwrap_err(), "it is not a regular file");
    fs::remove_dir(scene.path()).unwrap();
    fs::write(scene.path(), "two").unwrap();
    assert_eq!(scene.next().await.unwrap(), "two");
}

async fn a_pipe_in_its_place_is_not_waited_for(by: By) {
    let mut scene = Scene::new(by);
    let pipe = scene.folder().join(".pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::rename(&pipe, scene.path()).unwrap();
    assert_eq!(scene.next().await.unwrap_err(), "it is not a regular file");
    scene.replace("two");
    assert_eq!(scene.next().await.unwrap(), "two");
}

async fn a_file_that_is_too_large_is_told_and_a_smaller_one_is_found(by: By) {
    let mut scene = Scene::new(by);
    let large = fs::File::create(scene.folder().join(".large")).unwrap();
    large.set_len(50_000_000).unwrap();
    fs::rename(scene.folder().join(".large"), scene.path()).unwrap();
    assert_eq!(scene.next().await.unwrap_err(), "it is larger than 16777216 bytes");
    scene.replace("two");
    assert_eq!(scene.next().await.unwrap(), "two");
}

async fn an_empty_file_is_not_handed_out_while_something_may_come(by: By) {
    let mut scene = Scene::new(by);
    fs::write(scene.path(), "").unwrap();
    let early = timeout(Duration::from_secs(3), scene.watch.changed()).await;
    assert!(early.is_err(), "{early:?}");
    fs::write(scene.path(), "two").unwrap();
    assert_eq!(scene.next().await.unwrap(), "two");
    // One that stays empty is what its owner means.
    fs::write(scene.path(), "").unwrap();
    assert_eq!(scene.next().await.unwrap(), "");
}

async fn a_reload_hands_out_the_same_again(by: By) {
    let reload = ostler_watch::Reload::default();
    let Scene { dir, watch } = Scene::new(by);
    let mut scene = Scene { dir, watch: watch.reloaded_by(&reload) };
    for _ in 0..2 {
        reload.ask();
        assert_eq!(scene.next().await.unwrap(), "one");
    }
    let quiet = timeout(Duration::from_secs(1), scene.watch.changed()).await;
    assert!(quiet.is_err(), "asked once, answered twice: {quiet:?}");
}

/// Through its other name nothing happens in the folder: only polling sees it.
#[tokio::test(start_paused = true)]
async fn a_write_through_a_hard_link_is_seen() {
    let mut scene = Scene::new(By::Polling);
    let elsewhere = scene.dir.path().join("elsewhere");
    fs::hard_link(scene.path(), &elsewhere).unwrap();
    fs::write(&elsewhere, "two").unwrap();
    assert_eq!(scene.next().await.unwrap(), "two");
}

#[tokio::test(start_paused = true)]
async fn a_first_look_hands_out_what_is_there_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut watch = FileWatch::new(dir.path().join("ostler.yaml"), None);
    assert_eq!(watch.changed().await.unwrap_err(), "it does not exist");
}

#[tokio::test(start_paused = true)]
async fn content_that_was_not_taken_is_handed_out_again() {
    let mut scene = Scene::new(By::Polling);
    scene.replace("two");
    assert_eq!(scene.next().await.unwrap(), "two");
    scene.watch.try_again();
    assert_eq!(scene.next().await.unwrap(), "two");
}

#[tokio::test(start_paused = true)]
async fn polling_sees_a_change_within_its_step_and_a_rest() {
    let mut scene = Scene::new(By::Polling);
    let settled = tokio::time::timeout(WATCH_POLL, scene.watch.changed()).await;
    assert!(settled.is_err());
    scene.replace("two");
    let changed = tokio::time::Instant::now();
    assert_eq!(scene.next().await.unwrap(), "two");
    assert!(changed.elapsed() <= WATCH_POLL + Duration::from_millis(600), "{:?}", changed.elapsed());
}
