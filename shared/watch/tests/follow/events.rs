//! What only events know, and what happens when there are none for a while.

use std::ffi::OsStr;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ostler_core::limits::WATCH_DEBOUNCE;
use ostler_watch::{Events, Hints};

use super::*;

/// Its writer pauses for longer than the rest that is waited for: only its end tells that the file is whole.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_that_is_written_slowly_is_handed_out_when_its_writer_is_done() {
    let mut scene = Scene::new(By::Events);
    let path = scene.path();
    let writer = tokio::spawn(async move {
        let mut file = fs::File::create(&path).unwrap();
        for part in ["two", " and", " all", " the rest"] {
            file.write_all(part.as_bytes()).unwrap();
            tokio::time::sleep(2 * WATCH_DEBOUNCE).await;
        }
    });
    assert_eq!(scene.next().await.unwrap(), "two and all the rest");
    writer.await.unwrap();
}

/// A writer that never closes its file is waited for as long as any other that does not rest.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_that_is_never_closed_is_taken_in_the_end() {
    let mut scene = Scene::new(By::Events);
    let mut file = fs::File::create(scene.path()).unwrap();
    file.write_all(b"two").unwrap();
    assert_eq!(scene.next().await.unwrap(), "two");
}

#[tokio::test]
async fn a_folder_that_is_renamed_and_made_again_is_watched_again() {
    let mut scene = Scene::new(By::Events);
    scene.watch = FileWatch::new(scene.path(), Some(b"one"));
    for content in ["two", "three"] {
        fs::rename(scene.folder(), scene.dir.path().join(content)).unwrap();
        assert_eq!(scene.next().await.unwrap_err(), "it does not exist");
        fs::create_dir(scene.folder()).unwrap();
        fs::write(scene.path(), content).unwrap();
        assert_eq!(scene.next().await.unwrap(), content);
        // The old one means nothing any more.
        fs::write(scene.dir.path().join(content).join("ostler.yaml"), "old").unwrap();
    }
    let quiet = timeout(Duration::from_secs(1), scene.watch.changed()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    assert!(scene.watch.has_events(), "the new folder is only polled");
}

/// Events of a system whose limit of watches is reached, until it is not.
struct Refusing {
    refuse: Arc<AtomicBool>,
    inner: SystemEvents,
}

impl Events for Refusing {
    fn arm(&mut self, folder: &Path, file: &OsStr, hints: &Hints) {
        if !self.refuse.load(Ordering::Relaxed) {
            self.inner.arm(folder, file, hints);
        }
    }

    fn are_armed(&self) -> bool {
        self.inner.are_armed()
    }
}

#[tokio::test]
async fn a_file_without_events_is_polled_until_there_are_some() {
    let mut scene = Scene::new(By::Events);
    let refuse = Arc::new(AtomicBool::new(true));
    let events = Refusing { refuse: Arc::clone(&refuse), inner: SystemEvents::default() };
    scene.watch = FileWatch::by(scene.path(), Some(b"one"), Box::new(events), Duration::from_millis(100));
    scene.replace("two");
    assert_eq!(scene.next().await.unwrap(), "two");
    assert!(!scene.watch.has_events());
    refuse.store(false, Ordering::Relaxed);
    scene.replace("three");
    assert_eq!(scene.next().await.unwrap(), "three");
    assert!(timeout(Duration::from_secs(1), scene.watch.changed()).await.is_err());
    assert!(scene.watch.has_events(), "events were not asked for again");
}

/// Events that never stop do not make looks that never stop.
#[tokio::test(start_paused = true)]
async fn a_folder_in_which_much_happens_is_looked_at_now_and_then() {
    struct Busy;
    impl Events for Busy {
        fn arm(&mut self, _folder: &Path, _file: &OsStr, hints: &Hints) {
            hints.give();
        }

        fn are_armed(&self) -> bool {
            false
        }
    }
    let mut scene = Scene::new(By::Polling);
    scene.watch = FileWatch::by(scene.path(), Some(b"one"), Box::new(Busy), NEVER);
    // Were there no pause between looks, time would not pass at all.
    let quiet = timeout(Duration::from_secs(10), scene.watch.changed()).await;
    assert!(quiet.is_err(), "{quiet:?}");
}
