//! A file that can be opened, repaired and read as a database without being changed: what the engine writes stays in
//! memory. A store that survives this is opened for good; one that does not is refused as it was.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

/// What is kept of writes at once: the engine's own page.
const BLOCK_BYTES: u64 = 4096;

#[derive(Debug)]
pub(super) struct Trial {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    /// Of the file that is not changed, and never more than is still visible of it.
    file_len: u64,
    len: u64,
    /// Blocks that were written to, by their number.
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Trial {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let state = State { file, file_len: len, len, blocks: BTreeMap::new() };
        Ok(Self { state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StorageBackend for Trial {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.lock().read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.lock().set_len(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.lock().write(offset, data)
    }

    /// Whoever has the store open has it locked; a store that is being written to makes no sense to a reader.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        if !matches!(start, Bound::Unbounded | Bound::Included(0)) || end != Bound::Unbounded {
            return Err(BackendError::Unsupported);
        }
        Ok(self.lock().file.try_lock_shared().is_ok())
    }

    fn unlock_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<(), BackendError> {
        Ok(self.lock().file.unlock()?)
    }

    fn close(&self) -> io::Result<()> {
        self.lock().file.unlock()
    }
}

impl State {
    fn read(&mut self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(out.len() as u64).filter(|end| *end <= self.len);
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut at = offset;
        let mut rest = out;
        while !rest.is_empty() {
            let (number, start) = (at / BLOCK_BYTES, (at % BLOCK_BYTES) as usize);
            let (piece, after) = rest.split_at_mut(rest.len().min(BLOCK_BYTES as usize - start));
            match self.blocks.get(&number).and_then(|block| block.get(start..start + piece.len())) {
                Some(written) => piece.copy_from_slice(written),
                None => self.read_file(at, piece)?,
            }
            at += piece.len() as u64;
            rest = after;
        }
        Ok(())
    }

    /// Beyond the end of the file are zeroes: it was made longer only here.
    fn read_file(&mut self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = self.file_len.saturating_sub(offset).min(out.len() as u64) as usize;
        let (from_file, zeroes) = out.split_at_mut(there);
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.read_exact(from_file)?;
        zeroes.fill(0);
        Ok(())
    }

    fn set_len(&mut self, len: u64) {
        self.len = len;
        self.file_len = self.file_len.min(len);
        self.blocks.retain(|number, _| number * BLOCK_BYTES < len);
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let (number, start) = (at / BLOCK_BYTES, (at % BLOCK_BYTES) as usize);
            let (piece, after) = rest.split_at(rest.len().min(BLOCK_BYTES as usize - start));
            if !self.blocks.contains_key(&number) {
                let mut block = vec![0; BLOCK_BYTES as usize];
                self.read_file(number * BLOCK_BYTES, &mut block)?;
                self.blocks.insert(number, block);
            }
            if let Some(place) =
                self.blocks.get_mut(&number).and_then(|block| block.get_mut(start..start + piece.len()))
            {
                place.copy_from_slice(piece);
            }
            at += piece.len() as u64;
            rest = after;
        }
        Ok(())
    }
}
