//! The segments of the spool: found at start, begun and removed. A file that was written is never
//! changed; see `ostler_audit::segment` for its form.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use ostler_audit::segment::{self, FOLDER, Head, Illegible, Rest, Segment};
use ostler_audit::{ChainId, Position};
use ostler_core::digest::Digest;
use ostler_core::disk::open_regular;
use ostler_core::limits::AUDIT_SEGMENT_READ_BYTES_MAX;
use ostler_core::rng::{RandomError, secret_token};
use ostler_core::state_dir::{StateDir, StateDirError};

use super::SpoolOptions;
use super::cursor::Cursor;

/// What can be done with the files. Owned by the writer.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) dir: StateDir,
    pub(super) node: String,
    pub(super) forwards: bool,
    pub(super) bytes_max: u64,
}

/// A spool that was opened.
pub(super) struct Opened {
    pub(super) folder: Folder,
    pub(super) segments: Segments,
    /// The last record of the chain that goes on.
    pub(super) at: Position,
    /// Damage, for people.
    pub(super) found: Option<String>,
}

/// Which segments there are, the oldest first.
#[derive(Debug)]
pub(super) struct Segments {
    /// The chain that goes on.
    pub(super) chain: ChainId,
    list: Vec<Known>,
    next_number: u64,
    /// What control has of each chain.
    acknowledged: Vec<(ChainId, u64)>,
    /// Chains of which control has other records than are here: nothing of them is sent on.
    disputed: Vec<ChainId>,
}

/// A segment, as its head says.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) path: PathBuf,
    name: String,
    pub(super) head: Head,
    pub(super) bytes: u64,
    /// The last record of its chain, where that ends with this file.
    ends_with: Option<u64>,
}

/// A spool that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Folder(#[from] StateDirError),
    #[error("{path} cannot be read: {cause}")]
    Read { path: PathBuf, cause: io::Error },
    #[error(transparent)]
    Random(#[from] RandomError),
}

// === impl Folder ===

impl Folder {
    pub(super) fn open(state: &StateDir, options: &SpoolOptions) -> Result<Opened, OpenError> {
        let folder = Self::of(state, options);
        folder.dir.ensure()?;
        folder.dir.remove_leftovers();
        let unreadable = |path: PathBuf| move |cause| OpenError::Read { path, cause };
        let (mut list, mut next_number) = (Vec::new(), 1);
        let mut found = None;
        for (number, name) in numbered(&folder.dir).map_err(unreadable(folder.dir.root().to_owned()))? {
            next_number = number + 1;
            let path = folder.dir.path(&name);
            match head_of(&path).map_err(unreadable(path.clone()))? {
                (Ok(head), bytes) => {
                    // What could not be read before it was told when it was the last, and a chain goes on behind it.
                    found = None;
                    list.push(Known { path, name, head, bytes, ends_with: None });
                }
                // Its process ended before its first line was whole.
                (Err(Illegible::Damaged), 0) => drop(fs::remove_file(&path)),
                (Err(error), _) => {
                    found = Some(format!(
                        "{}: {error}; it is left where it is, and a new chain begins",
                        path.display()
                    ));
                }
            }
        }
        let last = match list.last().filter(|_| found.is_none()) {
            Some(last) => Some(read_end(last).map_err(unreadable(last.path.clone()))?),
            None => None,
        };
        let (chain, at) = match last {
            Some((end, None)) => (end.0, end.1),
            Some((_, Some(damage))) => {
                found = Some(damage);
                begin_chain()?
            }
            None => begin_chain()?,
        };
        note_ends(&mut list, chain).map_err(unreadable(folder.dir.root().to_owned()))?;
        if let Some(last) = list.last() {
            // What its process had not synced may be sent on from here.
            let synced = folder.dir.append(&last.name).map(|mut file| file.sync());
            if !matches!(synced, Ok(Ok(()))) {
                tracing::warn!(file = %last.path.display(), "the last segment of the audit spool could not be synced");
            }
        }
        Ok(Opened { folder, segments: Segments::new(chain, list, next_number), at, found })
    }

    /// For a spool that takes nothing.
    pub(super) fn nowhere(state: &StateDir, options: &SpoolOptions) -> Opened {
        let chain = ChainId::of(&Digest::of(b""));
        let segments = Segments::new(chain, Vec::new(), 1);
        Opened { folder: Self::of(state, options), segments, at: Position::start(chain), found: None }
    }

    fn of(state: &StateDir, options: &SpoolOptions) -> Self {
        let SpoolOptions { node, forwards, bytes_max } = options.clone();
        Self { dir: state.inside(FOLDER), node, forwards, bytes_max }
    }
}

/// Says of each chain that has ended where it did.
fn note_ends(list: &mut [Known], current: ChainId) -> io::Result<()> {
    let nexts: Vec<_> = list.iter().skip(1).map(|next| Some(next.head.chain)).chain([None]).collect();
    for (known, next) in list.iter_mut().zip(nexts) {
        if known.head.chain != current && next != Some(known.head.chain) {
            known.ends_with = Some(read_end(known)?.0.1.seq);
        }
    }
    Ok(())
}

/// A chain that nobody has begun before, before its first record.
pub(super) fn begin_chain() -> Result<(ChainId, Position), OpenError> {
    let chain = ChainId::of(&Digest::of(secret_token()?.as_bytes()));
    Ok((chain, Position::start(chain)))
}

fn numbered(dir: &StateDir) -> io::Result<Vec<(u64, String)>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir.root())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(segment::number_of(&name).map(|number| (number, name)));
    }
    names.sort_unstable();
    Ok(names)
}

fn head_of(path: &Path) -> io::Result<(Result<Head, Illegible>, u64)> {
    const HEAD_BYTES_MAX: u64 = 4096;
    let file = open_regular(path)?;
    let bytes = file.metadata()?.len();
    let mut start = Vec::new();
    file.take(HEAD_BYTES_MAX).read_to_end(&mut start)?;
    Ok((Head::parse(&start), bytes))
}

/// Where a segment ends, and what is wrong with it if its chain cannot go on.
fn read_end(last: &Known) -> io::Result<((ChainId, Position), Option<String>)> {
    let mut bytes = Vec::new();
    open_regular(&last.path)?.take(AUDIT_SEGMENT_READ_BYTES_MAX).read_to_end(&mut bytes)?;
    let Ok(segment) = Segment::read(&bytes) else { return Err(io::Error::other("it has changed meanwhile")) };
    let end = segment.end();
    let damage = match segment.rest {
        Rest::Nothing => None,
        Rest::Torn { bytes } => {
            tracing::warn!(bytes, file = %last.path.display(), "the last line of the audit spool is torn and is passed over");
            None
        }
        Rest::Damaged { offset, .. } => Some(format!(
            "{}: damaged from byte {offset} on; chain {} ends with record {}, and a new one begins",
            last.path.display(),
            last.head.chain,
            end.seq
        )),
    };
    Ok(((last.head.chain, end), damage))
}

// === impl Segments ===

impl Segments {
    fn new(chain: ChainId, list: Vec<Known>, next_number: u64) -> Self {
        Self { chain, list, next_number, acknowledged: Vec::new(), disputed: Vec::new() }
    }

    /// Another chain goes on from here; the one before ended with this record.
    pub(super) fn begin_chain(&mut self, chain: ChainId, ended_with: u64) {
        self.chain = chain;
        if let Some(last) = self.list.last_mut() {
            last.ends_with = Some(ended_with);
        }
    }

    /// Nothing of a chain is sent on from here. False where that is known.
    pub(super) fn dispute(&mut self, chain: ChainId) -> bool {
        let is_new = !self.disputed.contains(&chain);
        if is_new {
            self.disputed.push(chain);
            self.acknowledged.retain(|(known, _)| *known != chain);
        }
        is_new
    }

    pub(super) fn is_disputed(&self, chain: ChainId) -> bool {
        self.disputed.contains(&chain)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.list.iter().map(|known| known.bytes).sum()
    }

    /// The file name of the next segment.
    pub(super) fn next_name(&self) -> String {
        segment::file_name(self.next_number)
    }

    pub(super) fn begin(&mut self, dir: &StateDir, head: Head, bytes: u64) {
        let name = self.next_name();
        self.next_number += 1;
        self.list.push(Known { path: dir.path(&name), name, head, bytes, ends_with: None });
    }

    pub(super) fn grow(&mut self, bytes: u64) {
        if let Some(last) = self.list.last_mut() {
            last.bytes += bytes;
        }
    }

    pub(super) fn acknowledge(&mut self, chain: ChainId, seq: u64) {
        match self.acknowledged.iter_mut().find(|(known, _)| *known == chain) {
            Some((_, known)) => *known = (*known).max(seq),
            None => self.acknowledged.push((chain, seq)),
        }
    }

    fn acknowledged(&self, chain: ChainId) -> u64 {
        self.acknowledged.iter().find(|(known, _)| *known == chain).map_or(0, |(_, seq)| *seq)
    }

    /// Records here that control has not acknowledged; `end` is the newest of the chain that goes on.
    pub(super) fn unacknowledged(&self, end: u64) -> u64 {
        let of = |(chain, last): (ChainId, u64)| {
            let first =
                self.list.iter().find(|known| known.head.chain == chain).map_or(1, |known| known.head.first);
            last.saturating_sub(self.acknowledged(chain).max(first.saturating_sub(1)))
        };
        self.chains(self.chain, end).into_iter().map(of).sum()
    }

    /// The chains that are sent on, each with its newest record.
    pub(super) fn chains(&self, current: ChainId, end: u64) -> Vec<(ChainId, u64)> {
        let mut chains: Vec<(ChainId, u64)> = Vec::new();
        for known in &self.list {
            if self.is_disputed(known.head.chain) {
                continue;
            }
            let begins = known.head.before().seq;
            let last = if known.head.chain == current { end } else { known.ends_with.unwrap_or(begins) };
            match chains.iter_mut().find(|(chain, _)| *chain == known.head.chain) {
                Some((_, newest)) => *newest = (*newest).max(last),
                None => chains.push((known.head.chain, last)),
            }
        }
        chains
    }

    /// The segment that has this record, or the first one after it.
    pub(super) fn holding(&self, chain: ChainId, seq: u64) -> Option<Known> {
        let mut of_chain = self.list.iter().filter(|known| known.head.chain == chain);
        let from_it_on = of_chain.clone().find(|known| known.head.first >= seq);
        // The newest one that begins before: where two have a record, both say the same.
        let before = of_chain.rfind(|known| known.head.first <= seq);
        before.or(from_it_on).cloned()
    }

    /// The segment that goes on where a cursor has come to.
    pub(super) fn following(&self, cursor: &Cursor) -> Option<Known> {
        let mut of_chain = self.list.iter().filter(|known| known.head.chain == cursor.chain());
        let here = of_chain.by_ref().position(|known| cursor.is_in(&known.path));
        // Without the file that it was in, all that is behind it is later.
        let mut rest = self
            .list
            .iter()
            .filter(|known| known.head.chain == cursor.chain())
            .skip(here.map_or(0, |here| here + 1));
        rest.find(|known| known.head.first > cursor.seq()).cloned()
    }

    /// Segments that may go, so that there is room for this many bytes and nothing is kept beyond its time: the oldest, where
    /// records go to control no other than those that it has.
    pub(super) fn to_remove(&self, folder: &Folder, needed: u64, now: u64, retention_ms: u64) -> Vec<String> {
        let mut bytes = self.bytes().saturating_add(needed);
        let mut gone = Vec::new();
        for (known, next) in self.list.iter().zip(self.list.iter().skip(1)) {
            let is_old = now.saturating_sub(next.head.began_unix_ms) > retention_ms;
            let must_go = is_old || bytes > folder.bytes_max;
            // What is disputed is nobody's to ask for any more; it stays for those who look into it.
            let may_go =
                !folder.forwards || self.is_sent(known, next) || is_old && self.is_disputed(known.head.chain);
            if must_go && may_go {
                bytes = bytes.saturating_sub(known.bytes);
                gone.push(known.name.clone());
            } else if known.head.chain == self.chain {
                break;
            }
        }
        gone
    }

    /// Whether control has all of a segment.
    fn is_sent(&self, known: &Known, next: &Known) -> bool {
        let last = known.ends_with.unwrap_or(next.head.before().seq);
        last <= self.acknowledged(known.head.chain)
    }

    pub(super) fn removed(&mut self, name: &str) {
        self.list.retain(|known| known.name != name);
    }
}
