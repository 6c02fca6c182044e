//! A scripted MCP server as a child process: what stdio mounts of the load suites start.

fn main() {
    ostler_tests::load::child::run();
}
