//! Which log lines a request asked for. A legacy session has one level, so that a request may hear lines that another one
//! wanted; those are not passed on.

/// RFC 5424's severities as MCP names them, the most talkative first.
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// Whether a line of this level is for somebody who asked for `wanted`. An unknown level is for everybody who wants any.
pub(super) fn is_wanted(wanted: Option<&str>, level: Option<&str>) -> bool {
    let Some(wanted) = wanted else { return false };
    match (rank(wanted), level.and_then(rank)) {
        (Some(wanted), Some(level)) => level >= wanted,
        _ => true,
    }
}

/// Whether `wanted` asks for lines that a session of level `held` leaves out.
pub(super) fn is_more(wanted: &str, held: Option<&str>) -> bool {
    match (rank(wanted), held.and_then(rank)) {
        (Some(wanted), Some(held)) => wanted < held,
        (wanted, _) => wanted.is_some() && held.is_none(),
    }
}

fn rank(level: &str) -> Option<usize> {
    LEVELS.iter().position(|known| *known == level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_for_those_who_asked_for_its_level_or_less() {
        assert!(is_wanted(Some("info"), Some("error")) && is_wanted(Some("info"), Some("info")));
        assert!(!is_wanted(Some("error"), Some("info")) && !is_wanted(None, Some("emergency")));
        assert!(is_wanted(Some("info"), Some("shouted")) && is_wanted(Some("info"), None));
    }

    #[test]
    fn a_session_is_made_more_talkative_and_never_less() {
        assert!(is_more("info", None) && is_more("debug", Some("info")));
        assert!(!is_more("error", Some("info")) && !is_more("info", Some("info")) && !is_more("loud", None));
    }
}
