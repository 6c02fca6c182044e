//! What a decision costs: five rules with an expression, and a thousand by tool name.

use std::time::Duration;

use ostler_tests::suites::policy_cost::{self, Case, Cost, Plan};

use super::report::Report;

const PLAN: Plan = Plan { blocks: 51, calls_of_a_block: 20_000 };
const FIVE_RULES_MICROS_MAX: f64 = 4.0;
const BY_NAME_MICROS_MAX: f64 = 2.0;

pub(crate) fn run() -> Report {
    let mut report = Report::new(
        "policy-cost",
        format!(
            "Processor time of one thread for the gate's question about a call, from the message that has been read to the permit, and giving it back: \
             the switches of operators, the rules, what is kept to be compared with what is sent. A caller with a token, and arguments; allowed and denied \
             calls in turn. No audit record, whose cost is the disk's. Medians of {} blocks of {} calls.",
            PLAN.blocks, PLAN.calls_of_a_block
        ),
    );
    let five = policy_cost::five_rules();
    bound(&mut report, &five, five.measure(PLAN), FIVE_RULES_MICROS_MAX);
    let thousand = policy_cost::by_name("1 000 rules by tool name", 1_000);
    bound(&mut report, &thousand, thousand.measure(PLAN), BY_NAME_MICROS_MAX);
    for case in [policy_cost::by_name("10 rules by tool name", 10), policy_cost::no_policy()] {
        let cost = case.measure(PLAN);
        report.row(case.name, format!("{:.2} µs", micros(cost.median)));
    }
    report
}

fn bound(report: &mut Report, case: &Case, cost: Cost, most: f64) {
    report.at_most(case.name, micros(cost.median), most, "µs");
    report.row(format!("{}, the quickest block", case.name), format!("{:.2} µs", micros(cost.least)));
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
