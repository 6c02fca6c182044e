//! A body that is scanned in steps: the verdict is the same wherever they end, and they end soon.

use proptest::prelude::*;

use super::super::*;
use super::agreement::{body, damage, damaged};
use crate::Scan;

/// The verdict, and the number of steps to it.
fn in_steps(body: &[u8], bytes: usize) -> (Result<Envelope<'_>, EnvelopeError>, usize) {
    let mut scan = match Scan::begin(body) {
        Ok(scan) => scan,
        Err(error) => return (Err(error), 0),
    };
    let mut steps = 1;
    loop {
        if let Some(verdict) = scan.step(bytes) {
            return (verdict, steps);
        }
        steps += 1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_verdict_does_not_depend_on_where_the_steps_end(
        value in body(),
        mut seed in any::<u64>(),
        damage in prop::collection::vec(damage(), 0..4),
        bytes in 1..50usize,
    ) {
        let body = damaged(&value, &mut seed, &damage);
        let whole = Envelope::scan(&body);
        for bytes in [1, bytes] {
            prop_assert_eq!(&in_steps(&body, bytes).0, &whole, "{} in steps of {}", String::from_utf8_lossy(&body), bytes);
        }
    }
}

#[test]
fn a_step_reads_little_more_than_it_is_told() {
    const BYTES: usize = 1_000;
    for (what, many) in [
        ("[1,1,1]", "1,"),
        (r#"["escapes"]"#, r"\n"),
        (r#"["pairs"]"#, r"\ud83d\ude00"),
        (r#"{"escaped key":1}"#, r"\u0061"),
        ("[[],[]]", "[],"),
    ] {
        let many = many.repeat(100_000);
        let arguments = match what.as_bytes() {
            [b'[', b'"', ..] => format!("[\"{many}\"]"),
            [b'{', ..] => format!("{{\"{many}\":1}}"),
            _ => format!("[{many}1]"),
        };
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{{"arguments":{arguments}}}}}"#);
        let (verdict, steps) = in_steps(body.as_bytes(), BYTES);
        assert!(verdict.is_ok(), "{what}");
        assert!(steps >= body.len() / (BYTES + 12), "{what}: {steps} steps");
    }
}

#[test]
fn equal_keys_are_found_however_many_there_are_and_however_they_are_written() {
    for count in [2, 15, 16, 17, 48, 49, 1_000, 50_000] {
        let members: Vec<String> = (0..count)
            .map(|key| if key % 3 == 0 { format!(r#""\u006b{key}":1"#) } else { format!(r#""k{key}":1"#) })
            .collect();
        let body = |last: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{{"in":{{{},{last}:1}}}}}}"#,
                members.join(",")
            )
        };
        assert!(Envelope::scan(body(r#""other""#).as_bytes()).is_ok(), "{count}");
        for number in [0, 1, count / 2, count - 1] {
            for again in [format!(r#""k{number}""#), format!(r#""\u006B{number}""#)] {
                let error = Envelope::scan(body(&again).as_bytes()).unwrap_err();
                assert_eq!(error.reason, "an object holds the same key twice", "{count} {again}");
            }
        }
    }
}

#[test]
fn an_object_inside_another_does_not_hold_its_keys() {
    for inner in [r"\u006b", "k", "i"] {
        let inner: Vec<String> = (0..40).map(|key| format!(r#""{inner}{key}":1"#)).collect();
        let outer: Vec<String> =
            (0..40).map(|key| format!(r#""\u006b{key}":{{{}}}"#, inner.join(","))).collect();
        let body = |last: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{{"in":{{{},{last}:1}}}}}}"#,
                outer.join(",")
            )
        };
        assert!(Envelope::scan(body(r#""k40""#).as_bytes()).is_ok());
        for twice in [0, 16, 17, 39] {
            assert!(Envelope::scan(body(&format!(r#""k{twice}""#)).as_bytes()).is_err(), "{twice}");
        }
    }
}
