//! Files that do not rest: they are taken in the end, whole, and the last content is never missed.

use std::io::Write as _;

use ostler_core::limits::{WATCH_DEBOUNCE, WATCH_DEBOUNCE_MAX};
use tokio::time::Instant;

use super::*;

const BURST: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(100);
/// What a change may wait for beside the rest: a poll, the close look at the end, and the grain of both.
const MARGIN: Duration = Duration::from_millis(2_000 + 500);

fn content(number: u32) -> String {
    format!("begin {number} {} end {number}", "x".repeat(20_000))
}

fn number_of(content: &str) -> u32 {
    let number = content.rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(content, self::content(number), "half of one was handed out, or two mixed");
    number
}

/// Rewrites the file at each step, and gives the number of the last content.
async fn burst(path: PathBuf, write: fn(&Path, &str)) -> u32 {
    let started = Instant::now();
    let mut number = 0;
    while started.elapsed() < BURST {
        number += 1;
        write(&path, &content(number));
        tokio::time::sleep(STEP).await;
    }
    number
}

fn replace(path: &Path, content: &str) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(&new, path).unwrap();
}

fn in_place(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
}

async fn follow(by: By, write: fn(&Path, &str)) {
    let mut scene = Scene::new(by);
    let writer = tokio::spawn(burst(scene.path(), write));
    let mut last = Instant::now();
    let mut handed_out = 0;
    while !writer.is_finished() {
        let number = number_of(&scene.next().await.unwrap());
        assert!(last.elapsed() <= WATCH_DEBOUNCE_MAX + MARGIN, "{number} came after {:?}", last.elapsed());
        last = Instant::now();
        handed_out += 1;
    }
    let number = writer.await.unwrap();
    assert!((3..=8).contains(&handed_out), "{handed_out} contents in {BURST:?}");
    replace(&scene.path(), &content(number + 1));
    assert_eq!(number_of(&scene.next().await.unwrap()), number + 1);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_replaced_all_the_time_is_taken_every_few_seconds() {
    follow(By::Polling, replace).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_rewritten_in_place_all_the_time_is_taken_whole_every_few_seconds() {
    follow(By::Polling, in_place).await;
}

#[tokio::test]
async fn a_file_that_is_rewritten_in_place_all_the_time_is_taken_whole_with_events_too() {
    follow(By::Events, in_place).await;
}

#[tokio::test(start_paused = true)]
async fn a_burst_that_ends_is_taken_once_after_its_rest() {
    let mut scene = Scene::new(By::Polling);
    let path = scene.path();
    let writer = tokio::spawn(async move {
        for number in 1..=10 {
            replace(&path, &content(number));
            tokio::time::sleep(STEP).await;
        }
        Instant::now()
    });
    assert_eq!(number_of(&scene.next().await.unwrap()), 10, "a content from the middle was handed out");
    let after = writer.await.unwrap().elapsed();
    assert!(after <= MARGIN + 2 * WATCH_DEBOUNCE, "{after:?} after the last write");
}

/// Read to no end: what is more than a config may be is refused, however fast it grows.
#[tokio::test]
async fn a_file_that_grows_while_it_is_read_is_bounded() {
    let mut scene = Scene::new(By::Polling);
    let path = scene.path();
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stop = std::sync::Arc::clone(&done);
    let writer = std::thread::spawn(move || {
        let mut file = fs::File::options().append(true).open(path).unwrap();
        let block = vec![b'x'; 1024 * 1024];
        // Bounded, so that a defect does not fill the disk.
        for _ in 0..200 {
            if stop.load(std::sync::atomic::Ordering::Relaxed) {
                return;
            }
            file.write_all(&block).unwrap();
        }
    });
    let refused = timeout(Duration::from_secs(60), scene.watch.changed()).await.unwrap();
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    assert_eq!(refused.unwrap_err(), "it is larger than 16777216 bytes");
}
