//! `ostler-dataplane`: the slim sidecar, with no store, web interface or operator's commands linked in.

use clap::Parser;
use ostler_dataplane::DataplaneArgs;

/// A call asks for some blocks that are larger than what the system's allocator keeps at hand for a thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The Ostler data plane: one governed door to many MCP servers.
#[derive(Debug, Parser)]
#[command(name = "ostler-dataplane", version, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    args: DataplaneArgs,
}

fn main() -> std::process::ExitCode {
    if let Some(done) = ostler_dataplane::guard() {
        return done;
    }
    match ostler_dataplane::run(Cli::parse().args) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
