//! What a command says: answers on standard output, everything else on standard error. A reader that hangs up is no
//! error, and text from elsewhere never steers the terminal. There are no colours here.

use std::io::{self, Write};

use anyhow::Context;
use comfy_table::{Table, presets::NOTHING};
use ostler_core::clock::WallClock;

/// How a command ended that could do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Refused or failed, and the reason is printed.
    Refused,
}

/// # Errors
/// When standard output cannot be written to, unless its reader has hung up.
pub fn print(text: &str) -> anyhow::Result<()> {
    print_bytes(text.as_bytes())
}

/// # Errors
/// As [`print`].
pub fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("standard output cannot be written to"),
    }
}

/// Prints an answer of the API as it came, ended by a line break.
///
/// # Errors
/// As [`print`].
pub fn print_answer(body: &[u8]) -> anyhow::Result<()> {
    let mut line = body.trim_ascii_end().to_vec();
    line.push(b'\n');
    print_bytes(&line)
}

/// Writes to standard error. When even that is gone there is nobody to tell.
pub fn complain(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Columns under a line of headings.
pub fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(headings.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|cell| visible(cell)).collect::<Vec<_>>());
    }
    // Cells are padded on both sides, the first and last ones too.
    let line = |line: &str| format!("{}\n", line.strip_prefix(' ').unwrap_or(line).trim_end());
    table.lines().map(|text| line(&text)).collect()
}

/// Names, reasons and messages come from other machines: no control character, no change of writing direction.
pub fn visible(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => ' ',
            c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                '\u{fffd}'
            }
            c => c,
        })
        .collect()
}

/// How long ago, in one unit.
pub fn ago(unix_ms: u64) -> String {
    format!("{} ago", length(WallClock::system().unix_ms().saturating_sub(unix_ms)))
}

/// A length of time in its largest unit.
pub fn length(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// `1 node`, `2 nodes`.
pub fn count(number: usize, word: &str) -> String {
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
}

/// The beginning of a digest, enough to tell two apart by eye.
pub fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_does_not_steer_the_terminal() {
        let text = table(&["NODE"], [vec!["a\u{1b}[31m\u{202e}\nb".to_owned()]]);
        assert_eq!(text, "NODE\na\u{fffd}[31m\u{fffd} b\n");
    }

    #[test]
    fn a_time_has_one_unit() {
        assert_eq!(
            [length(999), length(61_000), length(7_200_000), length(90_000_000_000)],
            ["0s", "1m", "2h", "1041d"]
        );
    }
}
