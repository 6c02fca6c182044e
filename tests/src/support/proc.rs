//! What the system says of a process: memory, open files, and what became of its threads' time (Linux: proc(5)). Nothing where it
//! does not say, or where the process has ended; what that means is the caller's to tell.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg(target_os = "linux")]
use rustix::time::{ClockId, clock_gettime};

/// What became of a thread's time: it was on a core, or ready and without one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scheduled {
    pub ran: Duration,
    pub waited: Duration,
}

/// How traffic workers' threads are called, each with its number.
const WORKER: &str = "traffic-";

/// Resident bytes, `VmRSS`.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    status_bytes(pid, "VmRSS:")
}

/// The most that was ever resident, `VmHWM`.
pub fn resident_most_bytes(pid: u32) -> Option<u64> {
    status_bytes(pid, "VmHWM:")
}

/// Files, sockets and what else has a descriptor.
pub fn open_files(pid: u32) -> Option<usize> {
    fs::read_dir(format!("/proc/{pid}/fd")).ok().map(Iterator::count)
}

/// Processor time of all threads that there are.
pub fn cpu(pid: u32) -> Option<Duration> {
    cpu_of(pid, |_| true)
}

/// Processor time of a data plane's traffic workers.
pub fn workers_cpu(pid: u32) -> Option<Duration> {
    cpu_of(pid, |name| name.starts_with(WORKER))
}

/// Of a data plane's first traffic worker.
pub fn first_worker(pid: u32) -> Option<Scheduled> {
    let first = format!("{WORKER}0");
    let (_, folder) = threads(pid)?.find(|(name, _)| *name == first)?;
    scheduled(&folder)
}

/// Processor time of the calling thread, to this very moment.
#[cfg(target_os = "linux")]
pub fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

fn status_bytes(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn cpu_of(pid: u32, is_meant: impl Fn(&str) -> bool) -> Option<Duration> {
    let meant = threads(pid)?.filter(|(name, _)| is_meant(name));
    // One that ends meanwhile says nothing any more.
    Some(meant.filter_map(|(_, folder)| Some(scheduled(&folder)?.ran)).sum())
}

/// Name and folder of each thread.
fn threads(pid: u32) -> Option<impl Iterator<Item = (String, PathBuf)>> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    Some(tasks.filter_map(|task| {
        let folder = task.ok()?.path();
        let name = fs::read_to_string(folder.join("comm")).ok()?;
        Some((name.trim().to_owned(), folder))
    }))
}

/// The first two figures of `schedstat`, in nanoseconds.
fn scheduled(thread: &Path) -> Option<Scheduled> {
    let text = fs::read_to_string(thread.join("schedstat")).ok()?;
    let mut times =
        text.split_whitespace().map_while(|nanos| Some(Duration::from_nanos(nanos.parse().ok()?)));
    Some(Scheduled { ran: times.next()?, waited: times.next()? })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// The files lag behind by a tick of the kernel's at most.
    const SPUN: Duration = Duration::from_millis(20);

    #[test]
    fn a_process_is_told_of_while_it_is_there() {
        let own = std::process::id();
        let resident = resident_bytes(own).expect("memory");
        assert!((1 << 20..=resident_most_bytes(own).expect("memory")).contains(&resident));
        assert!(open_files(own).expect("files") >= 3);
        assert!(cpu(own).is_some());
        // Larger than any the kernel gives.
        assert_eq!((resident_bytes(u32::MAX), open_files(u32::MAX), cpu(u32::MAX)), (None, None, None));
    }

    #[test]
    fn a_workers_time_is_its_threads_own_and_part_of_its_processs() {
        let own = std::process::id();
        assert!(first_worker(own).is_none());
        assert_eq!(workers_cpu(own), Some(Duration::ZERO));
        let before = thread_cpu();
        std::thread::scope(|scope| {
            let worker = std::thread::Builder::new().name(format!("{WORKER}0"));
            let spun = worker.spawn_scoped(scope, || {
                while thread_cpu() < 2 * SPUN {
                    std::hint::spin_loop();
                }
                let worker = first_worker(own).expect("a worker");
                assert!((SPUN..=thread_cpu()).contains(&worker.ran), "{worker:?}");
                let workers = workers_cpu(own).expect("time");
                assert!(workers >= SPUN);
                assert!(cpu(own).expect("time") >= workers);
            });
            spun.expect("a thread").join().expect("no panic");
        });
        assert!(thread_cpu() < before + SPUN, "another thread's time");
    }
}
