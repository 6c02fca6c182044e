//! One pattern with `*` and `?` against a whole text, in time of at most text × pattern.

/// `*` stands for any characters, none among them; `?` for one. Nothing else is special.
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut pattern = pattern.chars();
    let mut text = text.chars();
    // What follows the last `*`, and the text from which it is tried next: on a mismatch only that takes one character more.
    let mut retry: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let mut ahead = pattern.clone();
        match (ahead.next(), text.clone().next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                pattern = ahead.clone();
                retry = Some((ahead, text.clone()));
            }
            (Some(expected), Some(found)) if expected == '?' || expected == found => {
                pattern = ahead;
                text.next();
            }
            _ => {
                let Some((after_star, mut from)) = retry.take() else { return false };
                if from.next().is_none() {
                    return false;
                }
                pattern = after_star.clone();
                text = from.clone();
                retry = Some((after_star, from));
            }
        }
    }
}

/// Whether the pattern matches some text that begins with `head` and goes on after it. Takes time of at most head × pattern.
pub fn goes_beyond(pattern: &str, head: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    // Places of the pattern from which it may go on, with `*` at its own place for as long as it takes characters.
    let mut at = vec![false; pattern.len() + 1];
    let reach = |at: &mut Vec<bool>, mut place: usize| {
        loop {
            if let Some(reached) = at.get_mut(place) {
                *reached = true;
            }
            if pattern.get(place) != Some(&'*') {
                return;
            }
            place += 1;
        }
    };
    reach(&mut at, 0);
    for character in head.chars() {
        let mut after = vec![false; pattern.len() + 1];
        for (place, expected) in pattern.iter().enumerate() {
            match at.get(place) {
                Some(true) if *expected == '*' => reach(&mut after, place),
                Some(true) if *expected == '?' || *expected == character => reach(&mut after, place + 1),
                _ => {}
            }
        }
        at = after;
    }
    at.iter().take(pattern.len()).any(|reached| *reached)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_stars_do_not_take_exponential_time() {
        assert!(!matches("*a*a*a*a*a*a*a*a*b", &"a".repeat(4_000)));
    }

    #[test]
    fn a_pattern_goes_beyond_a_head_if_it_matches_something_that_begins_so() {
        for (pattern, head, expected) in [
            ("corporate:alice", "corporate:", true),
            ("corporate:", "corporate:", false),
            ("corporate:*", "corporate:", true),
            ("corp*", "corporate:", true),
            ("*", "corporate:", true),
            ("*:alice", "corporate:", true),
            ("*ce", "corporate:", true),
            ("???", "ab:", false),
            ("????", "ab:", true),
            ("corporat:*", "corporate:", false),
            ("corporate/*", "corporate:", false),
            ("ci", "corporate:", false),
            ("", "corporate:", false),
            ("a**", "a", true),
            ("a", "", true),
        ] {
            assert_eq!(goes_beyond(pattern, head), expected, "{pattern} beyond {head}");
            // What it says of a text that it makes up is what matching says.
            let found =
                ["x", "alice", "ce", ":alice"].iter().any(|rest| matches(pattern, &format!("{head}{rest}")));
            assert!(!found || expected, "{pattern} beyond {head}");
        }
    }

    #[test]
    fn the_whole_text_is_matched() {
        assert!(matches("a?c*", "abcd") && matches("*", "") && matches("", ""));
        assert!(!matches("a", "ab") && !matches("a?", "a") && !matches("", "a"));
    }
}
