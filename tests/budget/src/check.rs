//! Instructions of each case beside those that are kept.

use crate::case::{Case, Subject};
use crate::figures::{
    self, Budget, Compared, GATHERED_TOLERANCE_PERCENT, TOLERANCE_LEAST, TOLERANCE_PERCENT, Tools,
};
use crate::path::Path;
use crate::{callgrind, case};

/// Exits well where nothing can be compared: another compiler makes other instructions.
const NOT_COMPARED: &str = "THE BUDGET WAS NOT COMPARED";

/// Whether every case costs what the file says. With `bless` the file then says what was found.
///
/// # Errors
/// When the cases cannot be run.
pub fn run(bless: bool) -> anyhow::Result<bool> {
    let (mut budget, here) = (Budget::load()?, Tools::here()?);
    let found = callgrind::instructions(&case::ALL)?;
    let all = figures::compare(found.iter().map(|(case, count)| (case, *count)), |case| {
        budget.instructions.get(case).copied()
    });
    print(&all);
    if bless {
        budget.counted_with = here;
        budget.instructions = found;
        budget.store()?;
        return Ok(true);
    }
    if budget.counted_with != here {
        println!("{NOT_COMPARED}: it was counted with {:?}, and here is {here:?}", budget.counted_with);
        return Ok(true);
    }
    let others = all.iter().filter(|it| tolerance_percent(&it.case).is_some_and(|most| !it.is_within(most)));
    let others: Vec<&str> = others.map(|it| &*it.case).collect();
    if !others.is_empty() {
        println!(
            "More than {TOLERANCE_PERCENT} % (with audit {GATHERED_TOLERANCE_PERCENT} %) and {TOLERANCE_LEAST} instructions from {}: {}. If it should be so, keep it with `cargo xtask budget --bless`.",
            Budget::path().display(),
            others.join(", ")
        );
    }
    Ok(others.is_empty())
}

/// Nothing for what the others are compared with: it is none of the data plane's, and runs of one build differ by more than that.
fn tolerance_percent(case: &str) -> Option<f64> {
    let case = case::by_name(case);
    match case {
        Some(Case { subject: Subject::Path(Path::Bare), .. }) => None,
        Some(case) if !case.allocates_alike() => Some(GATHERED_TOLERANCE_PERCENT),
        _ => Some(TOLERANCE_PERCENT),
    }
}

fn print(all: &[Compared]) {
    println!("{:18} {:>10} {:>10}", "instructions", "found", "kept");
    for compared in all {
        let Compared { case, found, kept } = compared;
        let kept = kept.map_or_else(|| "-".to_owned(), |kept| kept.to_string());
        let percent = compared.percent().map_or_else(String::new, |percent| format!("{percent:+.2} %"));
        println!("{case:18} {found:>10} {kept:>10} {percent:>9}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_of_the_data_plane_is_judged_and_the_bare_pair_is_not() {
        let judged: Vec<_> = case::ALL.iter().filter(|case| tolerance_percent(case.name).is_some()).collect();
        assert_eq!(judged.len(), case::ALL.len() - 1);
        assert_eq!(tolerance_percent("bare"), None);
        assert_eq!(tolerance_percent("call"), Some(TOLERANCE_PERCENT));
        assert_eq!(tolerance_percent("call-audit"), Some(GATHERED_TOLERANCE_PERCENT));
    }
}
