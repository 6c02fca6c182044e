//! A bundle of 50 mounts, 10 of them dead, with 10 000 tools in 100 pages: see [`ostler_tests::suites::bundle`].

use ostler_core::limits::BUNDLE_LIST_DEADLINE;
use ostler_tests::suites::bundle::{self, Plan};

use super::report::Report;

const WHOLE: Plan = Plan { mounts: 50, dead: 10, tools: 10_000, page: 100, calls: 1_000 };
/// What a list takes beyond the deadline of its slowest mount: its pages, written and read.
const PAGES_SECONDS_MAX: f64 = 5.0;
/// A call in a larger bundle meets colder caches, and nothing else.
const CPU_RATIO_MAX: f64 = 1.1;

pub(crate) async fn run() -> anyhow::Result<Report> {
    let (whole, one) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let tally = bundle::run(whole.path(), WHOLE).await;
    let single = bundle::run(one.path(), Plan { mounts: 1, dead: 0, tools: 10, ..WHOLE }).await;
    let mut report = Report::new(
        "bundle",
        "A bundle of mounts of both eras in turn, some dead: half of these refuse connections, half take requests and never answer. \
         Its tools are listed page by page and compared with what each living mount has, and 1000 of them are called. \
         All of it is one process.",
    );
    report.at_least("tools listed", tally.tools as f64, WHOLE.tools as f64, "");
    report.at_least("pages", tally.pages as f64, 100.0, "");
    report.none("tools missing, doubled or out of order", &tally.wrong);
    report.none("dead mounts not named, or living ones named", &tally.unmarked);
    let deadline = BUNDLE_LIST_DEADLINE.as_secs_f64();
    report.at_most("first page", tally.first.as_secs_f64(), deadline + 1.0, "s");
    report.at_most("whole list", tally.whole.as_secs_f64(), deadline + PAGES_SECONDS_MAX, "s");
    report.none("calls answered by another", &tally.misled);
    let cost = |tally: &bundle::Tally| tally.requests as f64 / tally.called as f64;
    report.at_most("requests to members for a call, of 50 mounts", cost(&tally), 1.0, "");
    report.at_most("requests to members for a call, of 1 mount", cost(&single), 1.0, "");
    if let Some([fifty, two]) = tally.cpu {
        let ratio = fifty.as_secs_f64() / two.as_secs_f64();
        report.at_most(
            "processor time of a call, among 50 mounts, of that among 2",
            ratio,
            CPU_RATIO_MAX,
            "",
        );
        let micros = |cpu: std::time::Duration| format!("{:.1} µs", cpu.as_secs_f64() * 1e6);
        report.row(
            "processor time of a call, among 50 and among 2 mounts",
            format!("{}, {}", micros(fifty), micros(two)),
        );
    }
    report.row("pages that members were asked for", tally.member_pages.to_string());
    Ok(report)
}
