//! Lines of the log on their way to standard error. They gather in memory, and a thread that does nothing else writes what has
//! gathered at once: to wake a thread for each line costs more than the call that it tells of. A reader that does not keep up costs
//! lines, which are counted, and never a request.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use ostler_core::limits::{LOG_END_TIMEOUT, LOG_GATHERED_BYTES_MAX, LOG_KEPT_BYTES_MAX, LOG_PAUSE};

/// What has gathered and is not written yet.
#[derive(Default)]
pub(crate) struct Lines {
    gathered: Mutex<Gathered>,
    /// There is something to write.
    more: Condvar,
    /// Nothing will come any more, or nothing is left to be written.
    over: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    /// Nothing is there to be written, and the writer waits to be woken.
    is_awaited: bool,
    is_over: bool,
    is_written: bool,
}

/// Keeps the writing going; what has gathered is written before it is gone.
pub(crate) struct Writing(Arc<Lines>);

// === impl Lines ===

impl Lines {
    /// Begins to write.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn written_to(out: impl Write + Send + 'static) -> io::Result<(Arc<Self>, Writing)> {
        let lines = Arc::new(Self::default());
        let theirs = Arc::clone(&lines);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || theirs.write_to(out))?;
        Ok((Arc::clone(&lines), Writing(lines)))
    }

    /// Adds a whole line, or several.
    pub(crate) fn add(&self, line: &[u8]) {
        let mut gathered = self.lock();
        if gathered.bytes.len() + line.len() > LOG_GATHERED_BYTES_MAX {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        gathered.bytes.extend_from_slice(line);
        if std::mem::take(&mut gathered.is_awaited) {
            self.more.notify_one();
        }
    }

    /// Lines lost because the reader did not keep up.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes what has gathered, and then nothing for a while, in which more gathers, until there is no more to come.
    fn write_to(&self, mut out: impl Write) {
        let mut writing = Vec::new();
        while self.take(&mut writing) {
            // A log that cannot be written has nowhere to say so.
            let _ = out.write_all(&writing).and_then(|()| out.flush());
            writing.clear();
            writing.shrink_to(LOG_KEPT_BYTES_MAX);
            let waited = self.over.wait_timeout_while(self.lock(), LOG_PAUSE, |gathered| !gathered.is_over);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
        self.lock().is_written = true;
        self.over.notify_all();
    }

    /// Waits for lines and takes them; false when there are none and none will come.
    fn take(&self, writing: &mut Vec<u8>) -> bool {
        let gathered = self.more.wait_while(self.lock(), |gathered| {
            gathered.is_awaited = gathered.bytes.is_empty() && !gathered.is_over;
            gathered.is_awaited
        });
        std::mem::swap(&mut gathered.unwrap_or_else(PoisonError::into_inner).bytes, writing);
        !writing.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A subscriber writes each line in one piece.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lines(dropped {})", self.dropped())
    }
}

// === impl Writing ===

impl Drop for Writing {
    /// A reader that has stopped reading is not waited for.
    fn drop(&mut self) {
        let lines = &self.0;
        let mut gathered = lines.lock();
        gathered.is_over = true;
        lines.more.notify_one();
        lines.over.notify_all();
        let waited =
            lines.over.wait_timeout_while(gathered, LOG_END_TIMEOUT, |gathered| !gathered.is_written);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Tells of each write that arrives, and begins it when it is told to.
    struct Reader {
        arrives: Sender<String>,
        begin: Receiver<()>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.arrives.send(String::from_utf8(bytes.to_vec()).unwrap()).unwrap();
            let _ = self.begin.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn read() -> (Arc<Lines>, Writing, Receiver<String>, Sender<()>) {
        let ((arrives, arrived), (go, begin)) = (channel(), channel());
        let (lines, writing) = Lines::written_to(Reader { arrives, begin }).unwrap();
        (lines, writing, arrived, go)
    }

    #[test]
    fn lines_that_gather_are_written_at_once_and_none_is_kept_back() {
        let (lines, writing, arrived, go) = read();
        lines.add(b"first\n");
        assert_eq!(arrived.recv().unwrap(), "first\n");
        for number in 0..100 {
            lines.add(format!("line {number}\n").as_bytes());
        }
        go.send(()).unwrap();
        assert_eq!(arrived.recv().unwrap().lines().count(), 100);
        go.send(()).unwrap();
        lines.add(b"last\n");
        drop(go);
        drop(writing);
        assert_eq!(arrived.try_recv().unwrap(), "last\n");
    }

    #[test]
    fn a_reader_that_does_not_keep_up_costs_lines_that_are_counted() {
        let (lines, writing, arrived, go) = read();
        lines.add(b"first\n");
        arrived.recv().unwrap();
        let line = [b'x'; 1024];
        for _ in 0..LOG_GATHERED_BYTES_MAX / line.len() {
            lines.add(&line);
        }
        assert_eq!(lines.dropped(), 0);
        lines.add(&line);
        assert_eq!(lines.dropped(), 1);
        drop(go);
        assert_eq!(arrived.recv().unwrap().len(), LOG_GATHERED_BYTES_MAX);
        drop(writing);
    }
}
