//! A crash after each single step that is done to the disk, and the loss of whatever was not synced by then.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use ostler_core::disk::{Disk, NewFile, SystemDisk};

use super::*;

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Create(PathBuf),
    /// Half of what is written reaches the file when the process ends here.
    Write(PathBuf, Vec<u8>),
    SyncFile(PathBuf),
    Rename(PathBuf, PathBuf),
    SyncFolder(PathBuf),
    Remove(PathBuf),
}

/// The system's disk until a step, at which the process is gone.
#[derive(Debug, Clone)]
struct Crashing {
    last_step: usize,
    steps: Arc<Mutex<Vec<Step>>>,
}

struct CrashingFile {
    disk: Crashing,
    path: PathBuf,
    inner: Box<dyn NewFile>,
}

impl Crashing {
    fn after(last_step: usize) -> Self {
        Self { last_step, steps: Arc::default() }
    }

    /// Whether this step is done. The one at which the process ends is not, but for half a write.
    fn takes(&self, step: Step) -> io::Result<()> {
        let mut steps = self.steps.lock().unwrap();
        if steps.len() >= self.last_step {
            return Err(io::Error::other("the process is gone"));
        }
        steps.push(step);
        Ok(())
    }

    fn steps(&self) -> Vec<Step> {
        self.steps.lock().unwrap().clone()
    }
}

impl Disk for Crashing {
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        self.takes(Step::Create(path.to_owned()))?;
        let inner = SystemDisk.create(path)?;
        Ok(Box::new(CrashingFile { disk: self.clone(), path: path.to_owned(), inner }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.takes(Step::Rename(from.to_owned(), to.to_owned()))?;
        SystemDisk.rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.takes(Step::SyncFolder(folder.to_owned()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.takes(Step::Remove(path.to_owned()))?;
        SystemDisk.remove(path)
    }
}

impl NewFile for CrashingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let taken = self.disk.takes(Step::Write(self.path.clone(), bytes.to_owned()));
        self.inner.write(if taken.is_ok() { bytes } else { &bytes[..bytes.len() / 2] })?;
        taken
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.takes(Step::SyncFile(self.path.clone()))
    }
}

/// How far a run got: versions that were started, and those that `keep` said are on disk.
#[derive(Debug, Default)]
struct Progress {
    begun: Vec<u64>,
    kept: Vec<u64>,
}

/// Five versions, each tried and kept, so that the fourth and fifth push the oldest out.
fn run(dir: &TempDir, disk: &Crashing) -> Progress {
    let state = StateDir::open(dir.path()).unwrap().on_disk(Arc::new(disk.clone()));
    let generations = Generations::open(&state);
    let mut progress = Progress::default();
    for version in 1..=5 {
        if generations.begin_attempt(&revision(version)).is_err() {
            return progress;
        }
        progress.begun.push(version);
        if generations.keep(&revision(version), &parts(version), NOW).is_err() {
            return progress;
        }
        progress.kept.push(version);
    }
    progress
}

fn assert_recovers(dir: &TempDir, progress: &Progress, at: &str) {
    let generations = open(dir);
    let loaded = generations.load(NOW);
    let damaged = loaded.findings.iter().filter(|finding| finding.kind == FindingKind::Damaged).count();
    assert_eq!(damaged, 0, "{at}: half a file has a generation's name: {:?}", loaded.findings);
    let newest = loaded.usable.first().map_or(0, |kept| kept.revision.version);
    let promised = progress.kept.last().copied().unwrap_or(0);
    let tried = progress.begun.last().copied().unwrap_or(0);
    assert!(newest >= promised, "{at}: version {newest} is older than {promised}, which was said to be kept");
    assert!(newest <= tried, "{at}: version {newest} was never tried");
    for kept in &loaded.usable {
        assert_eq!(*generations.read(kept).unwrap().parts, parts(kept.revision.version), "{at}");
    }
    assert!(loaded.usable.len() >= promised.min(3) as usize, "{at}: fewer generations than were kept");
    if newest < tried {
        assert!(generations.is_skipped(&revision(tried)), "{at}: version {tried} was tried and left no mark");
    }
    let leftovers = fs::read_dir(generations.dir.root()).into_iter().flatten().flatten();
    let leftovers = leftovers.filter(|entry| entry.file_name().to_string_lossy().ends_with(".tmp")).count();
    assert_eq!(leftovers, 0, "{at}: temporary files were left");
    // The next healthy version is kept as if nothing had been.
    keep(&generations, 9);
    assert_eq!(versions(&open(dir))[0], 9, "{at}");
}

fn all_steps() -> Vec<Step> {
    let dir = tempfile::tempdir().unwrap();
    let disk = Crashing::after(usize::MAX);
    assert_eq!(run(&dir, &disk).kept, [1, 2, 3, 4, 5]);
    disk.steps()
}

#[test]
fn a_crash_after_any_step_leaves_the_newest_that_was_promised_whole() {
    let steps = all_steps();
    let kinds = |wanted: fn(&Step) -> bool| steps.iter().filter(|step| wanted(step)).count();
    assert_eq!(
        kinds(|step| matches!(step, Step::Write(..))),
        15,
        "a mark, a generation and a mark each time"
    );
    assert_eq!(kinds(|step| matches!(step, Step::Remove(_))), 2, "the oldest goes twice");
    for last_step in 0..=steps.len() {
        let dir = tempfile::tempdir().unwrap();
        let progress = run(&dir, &Crashing::after(last_step));
        let next = steps.get(last_step);
        assert_recovers(&dir, &progress, &format!("stopped before step {last_step}, {next:?}"));
    }
}

/// What a disk may have after the machine was lost, at its kindest and at its worst.
#[derive(Debug, Clone, Copy)]
enum Loss {
    /// Nothing that was not synced.
    Everything,
    /// Names are there, contents that were not synced are not.
    Contents,
    /// Contents are there, names that were not synced are not.
    Names,
}

/// Builds the folder as it is after a machine was lost, from the steps that were done before.
fn after_power_loss(steps: &[Step], loss: Loss) -> BTreeMap<PathBuf, Vec<u8>> {
    // A file keeps its content under whatever name it has: by number.
    let mut contents: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut names: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let mut synced_names = names.clone();
    for step in steps {
        match step {
            Step::Create(path) => {
                contents.push(Default::default());
                names.insert(path.clone(), contents.len() - 1);
            }
            Step::Write(path, bytes) => contents[names[path]].0.extend_from_slice(bytes),
            Step::SyncFile(path) => contents[names[path]].1 = contents[names[path]].0.clone(),
            Step::Rename(from, to) => {
                let file = names.remove(from).unwrap();
                names.insert(to.clone(), file);
            }
            Step::SyncFolder(_) => synced_names.clone_from(&names),
            Step::Remove(path) => {
                names.remove(path);
            }
        }
    }
    let names = if matches!(loss, Loss::Contents) { names } else { synced_names };
    let content = |file: usize| match loss {
        Loss::Names => contents[file].0.clone(),
        Loss::Everything | Loss::Contents => contents[file].1.clone(),
    };
    names.into_iter().map(|(path, file)| (path, content(file))).collect()
}

#[test]
fn the_loss_of_whatever_was_not_synced_leaves_the_newest_that_was_promised_whole() {
    let steps = all_steps();
    for loss in [Loss::Everything, Loss::Contents, Loss::Names] {
        for last_step in 0..=steps.len() {
            let scratch = tempfile::tempdir().unwrap();
            let disk = Crashing::after(last_step);
            let progress = run(&scratch, &disk);
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join(FOLDER)).unwrap();
            for (path, content) in after_power_loss(&disk.steps(), loss) {
                let path = dir.path().join(path.strip_prefix(scratch.path()).unwrap());
                fs::write(path, content).unwrap();
            }
            assert_recovers(&dir, &progress, &format!("{loss:?} lost before step {last_step}"));
        }
    }
}
