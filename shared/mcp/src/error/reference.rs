//! Writes `docs/reference/errors.md` from the table, so that the page cannot differ from the answers.

use std::fmt::Write as _;

use super::Reason;

const HEAD: &str = "\
# Errors on the agent's port

<!-- Generated from shared/mcp/src/error.rs. Do not edit: OSTLER_BLESS=1 cargo test -p ostler-mcp errors_page -->

A refusal is a JSON-RPC error with the request's id. `error.data` always has `reason` (stable, made for programs) and
`retryable`, which is `no` in place of the table's `yes` where the request had been sent and may have been executed, unless
its method changes nothing; where they are known also `mount`, `upstream`, `request_id` (also in the access log) and `retry_after_ms`.
`available_mounts` lists only the mounts that the caller may use.

An MCP request whose envelope was accepted is answered with HTTP 200, since legacy SDKs drop the body of any other
answer; if the answer is already a stream, the error is an event in it. Admission control (429) is the exception. An
upstream's own JSON-RPC errors pass through unchanged and have no `reason`.

";

const TAIL: &str = "
Codes from -32768 to -32000 belong to JSON-RPC and the MCP specification and keep their meaning; -310xx are Ostler's
own. -31001 is held for refusals by policy.
";

/// The whole page.
pub fn reference_markdown() -> String {
    let mut page = String::from(HEAD);
    page.push_str("| reason | code | HTTP | retryable | meaning | what to do |\n|---|---|---|---|---|---|\n");
    for reason in Reason::ALL {
        let facts = reason.facts();
        let retryable = if facts.retryable { "yes" } else { "no" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {retryable} | {} | {} |",
            facts.name,
            facts.code,
            facts.status,
            facts.meaning,
            // Or Markdown takes a placeholder for a tag.
            facts.remedy.replace('<', "\\<")
        );
    }
    page.push_str(TAIL);
    page
}
