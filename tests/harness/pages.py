"""Pages of the docs that a suite writes from what it has seen."""

import difflib


def settle(page, written, tally, bless):
    """Writes the page, or reports where it says something else than was seen."""
    if bless:
        page.write_text(written)
    kept = page.read_text() if page.exists() else ""
    change = "\n".join(difflib.unified_diff(kept.splitlines(), written.splitlines(), "kept", "seen", lineterm="", n=0))
    tally.report(f"{page.name} says what was seen", kept == written, f"write it anew with --bless:\n{change}")
