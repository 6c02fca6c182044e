//! What a decision costs grows with what must be looked at, not with how many rules there are. The figures themselves:
//! `cargo xtask full policy-cost`.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use ostler_tests::suites::policy_cost::{self, Plan};

/// A scan of them all would cost a hundred times as much.
const TIMES_MAX: f64 = 8.0;

#[test]
fn a_thousand_rules_of_literal_names_cost_a_call_about_as_much_as_ten() {
    let plan = Plan { blocks: 9, calls_of_a_block: 400 };
    let [ten, thousand] = [10, 1_000].map(|rules| policy_cost::by_name("rules by tool name", rules));
    let (few, many) = (ten.measure(plan).least, thousand.measure(plan).least);
    let times = many.as_secs_f64() / few.as_secs_f64();
    assert!(times < TIMES_MAX, "{few:?} with 10 rules, {many:?} with 1 000");
}

#[test]
fn five_rules_decide_as_they_are_written() {
    let cost = policy_cost::five_rules().measure(Plan { blocks: 1, calls_of_a_block: 60 });
    assert!(!cost.least.is_zero());
}
