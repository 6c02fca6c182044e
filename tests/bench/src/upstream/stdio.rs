//! The upstream as a child process: a message a line.

use std::io::{BufRead as _, Write as _};

use super::answer;

const TEXT_BYTES: usize = 100;

/// Until stdin ends.
pub(crate) fn serve() -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        if let Some(answer) = answer(line?.as_bytes(), TEXT_BYTES) {
            stdout.write_all(answer.as_bytes())?;
            stdout.write_all(b"\n")?;
            stdout.flush()?;
        }
    }
    Ok(())
}
