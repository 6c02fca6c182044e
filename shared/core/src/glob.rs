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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_stars_do_not_take_exponential_time() {
        assert!(!matches("*a*a*a*a*a*a*a*a*b", &"a".repeat(4_000)));
    }

    #[test]
    fn the_whole_text_is_matched() {
        assert!(matches("a?c*", "abcd") && matches("*", "") && matches("", ""));
        assert!(!matches("a", "ab") && !matches("a?", "a") && !matches("", "a"));
    }
}
