//! What an unquoted word of a document is: YAML 1.2.2 section 10.3.2, the core schema.
//!
//! `no`, `on` and dates stay text, as they are in JSON.

use granit_parser::{ScalarStyle, Tag};

use crate::node::Value;

/// The value of a scalar; nothing if its tag is unknown or contradicts it.
pub(crate) fn resolve(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Option<Value> {
    let plain = || if style == ScalarStyle::Plain { core(text) } else { string(text) };
    let Some(tag) = tag else { return Some(plain()) };
    let value = match tag.core_suffix()? {
        "str" => return Some(string(text)),
        _ => core(text),
    };
    let agrees = matches!(
        (tag.core_suffix()?, &value),
        ("null", Value::Null)
            | ("bool", Value::Bool(_))
            | ("int", Value::Int(_))
            | ("float", Value::Float | Value::Int(_))
    );
    agrees.then_some(value)
}

fn string(text: &str) -> Value {
    Value::Str(text.into())
}

fn core(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) => string(text),
        _ => number(text).unwrap_or_else(|| string(text)),
    }
}

fn number(text: &str) -> Option<Value> {
    let radix = |digits: &str, radix| {
        let all = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
        all.then(|| i64::from_str_radix(digits, radix).map_or(Value::Float, Value::Int))
    };
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit()) {
        // A number beyond 64 bits is no less a number; no key takes one.
        return Some(text.parse().map_or(Value::Float, Value::Int));
    }
    is_float(unsigned).then_some(Value::Float)
}

/// `[0-9]+ . [0-9]*` or `. [0-9]+`, with an exponent; and the words for infinity and not-a-number.
fn is_float(unsigned: &str) -> bool {
    if matches!(unsigned, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    digits(whole)
        && digits(fraction)
        && (!whole.is_empty() || !fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_yaml_1_1_and_dates_stay_text() {
        for text in [
            "no",
            "on",
            "yes",
            "y",
            "2025-06-18",
            "1.2.3",
            "1_000",
            "0b1",
            "1e",
            ".",
            "-",
            "5s",
            "+",
            "0x",
            "0xg",
        ] {
            assert!(matches!(core(text), Value::Str(_)), "{text}");
        }
    }

    #[test]
    fn numbers_null_and_booleans_are_recognised() {
        for (text, number) in [("12", 12), ("-3", -3), ("+4", 4), ("0x1F", 31), ("0o17", 15), ("007", 7)] {
            assert!(matches!(core(text), Value::Int(found) if found == number), "{text}");
        }
        for text in ["1.5", "1e3", ".5", "5.", "-.inf", ".nan", "99999999999999999999"] {
            assert!(matches!(core(text), Value::Float), "{text}");
        }
        assert!(matches!(core("~"), Value::Null));
        assert!(matches!(core("TRUE"), Value::Bool(true)));
    }
}
