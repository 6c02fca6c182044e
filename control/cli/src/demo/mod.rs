//! The built-in demo MCP server, which `ostler up` mounts when it is given no config: a stdio server of both eras with
//! three harmless tools. It is a child of the data plane like any other server, and must never do more than answer: no
//! files, no network, no state beyond whether it was initialised.

mod protocol;
mod tools;

use std::io::{self, BufRead, Read, Write};

use ostler_core::clock::WallClock;

use protocol::Server;

/// One message. The tools' arguments are short; a longer line is no message for this server.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// Serves stdin until its end.
///
/// # Errors
/// When stdin or stdout breaks.
pub fn run() -> anyhow::Result<()> {
    serve(io::stdin().lock(), io::stdout().lock(), WallClock::system())?;
    Ok(())
}

fn serve(mut input: impl BufRead, mut output: impl Write, clock: WallClock) -> io::Result<()> {
    let mut server = Server::new(clock);
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut input).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if let Some(answer) = server.answer(&line) {
            serde_json::to_writer(&mut output, &answer)?;
            output.write_all(b"\n")?;
            output.flush()?;
        }
    }
}

#[cfg(test)]
mod tests;
