//! The table that a reader sees.

use std::fmt::Write as _;

use crate::Plan;
use crate::durable::Durable;
use crate::figures::{Beside, CaseFigures, Spread, SubjectFigures};

/// The page, with how it was measured.
pub(crate) fn whole(plan: &Plan, figures: &[CaseFigures]) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let Plan { rounds, seconds, about, .. } = plan;
    let mut page = format!(
        "# bench\n\n{about}{cores} cores, loopback, HTTP/1.1 with connections that stay open, no TLS. Medians of {rounds} rounds of {seconds} s that the subjects take in turns, \
         with the least and the most of them; load, subject and upstream share the cores, so calls a second are of all three. Processor time is the \
         subject's alone, with its children's, from the scheduler's statistics of their threads. All have one worker, as far as they let one choose; nginx and the data plane \
         log the same fields. Ratios, and what is added to the time of a call without anything between, are those of the same round.\n\n"
    );
    page.push_str(
        "| case | | CPU µs a call | × nginx | calls/s | p50 µs | added | p90 | p99 | p99.9 | switches a call | resident MiB |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for case in figures {
        page.push_str(&rows(case));
    }
    page.push_str(&comparison(figures));
    page.push_str(&durable(figures));
    page.push_str("\n| case | is |\n|---|---|\n");
    for case in figures {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| {} | {} |", case.case, case.about);
    }
    page.push_str(
        "\nRun it: `cargo xtask bench`. What the cases send, and how it is measured: `tests/bench`.\n",
    );
    page
}

/// A case's part of the table.
pub(crate) fn rows(case: &CaseFigures) -> String {
    case.subjects.iter().map(|subject| row(&case.case, subject)).collect()
}

/// The data plane's figures over those of each that stands where it stands; and who could not.
fn comparison(figures: &[CaseFigures]) -> String {
    let mut text = "\n| case | the data plane's over those of | CPU a call | calls/s | added p50 |\n|---|---|---|---|---|\n".to_owned();
    for case in figures {
        for Beside { subject, cpu, calls_per_second, added_p50 } in &case.beside {
            let [cpu, calls] = [cpu, calls_per_second].map(|figure| spread(*figure));
            let added = added_p50.map(spread).unwrap_or_default();
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {} | {subject} | {cpu} | {calls} | {added} |", case.case);
        }
    }
    for case in figures {
        for line in &case.left_out {
            let _ =
                writeln!(text, "\nLeft out of {}: {}", case.case, line.lines().next().unwrap_or_default());
        }
    }
    text
}

/// Durable audit against what disk and processor let it reach.
fn durable(figures: &[CaseFigures]) -> String {
    let judged: Vec<_> =
        figures.iter().filter_map(|case| Some((&case.case, case.durable.as_ref()?))).collect();
    if judged.is_empty() {
        return String::new();
    }
    let mut text = "\nDurable audit should reach 80 % of what is attainable: min(calls a second with async audit, connections ÷ (1.5 × fdatasync)). The \
         disk is asked at each round's beginning: the median of 200 groups of 16 KiB, each added to a file beside the state folders and synced.\n\n\
         | case | calls/s | with async audit | fdatasync µs | attainable | part of it | |\n|---|---|---|---|---|---|---|\n"
        .to_owned();
    for (case, found) in judged {
        let Durable { calls_per_second, async_calls_per_second, fdatasync_us, attainable, part, is_met } =
            found;
        let whole = |figure: &Spread| format!("{:.0}", figure.median);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {case} | {} | {} | {} | {} | {} | {} |",
            whole(calls_per_second),
            whole(async_calls_per_second),
            whole(fdatasync_us),
            whole(attainable),
            spread(*part),
            if *is_met { "met" } else { "missed" },
        );
    }
    text
}

fn spread(Spread { median, least, most }: Spread) -> String {
    format!("{median:.2} ({least:.2}–{most:.2})")
}

fn row(case: &str, found: &SubjectFigures) -> String {
    let is_measured = found.cpu_us.most > 0.0;
    let own = |text: String| if is_measured { text } else { String::new() };
    format!(
        "| {case} | {} | {} | {} | {:.0} | {:.0} | {} | {:.0} | {:.0} | {:.0} | {} | {} |\n",
        found.subject,
        own(spread(found.cpu_us)),
        found.to_nginx.map(spread).unwrap_or_default(),
        found.calls_per_second.median,
        found.p50_us.median,
        found.added_p50_us.map(|added| format!("{:.0}", added.median)).unwrap_or_default(),
        found.p90_us.median,
        found.p99_us.median,
        found.p999_us.median,
        own(format!("{:.2}", found.switches.median)),
        own(format!("{:.1}", found.resident_mib.median)),
    )
}
