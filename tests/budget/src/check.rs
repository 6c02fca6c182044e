//! Instructions of each case beside those that are kept.

use crate::case::Case;
use crate::figures::{self, Budget, Compared, GATHERED_TOLERANCE_PERCENT, TOLERANCE_PERCENT, Tools};
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
    let others = all.iter().filter(|it| !it.is_within(tolerance_percent(&it.case))).count();
    if others > 0 {
        println!(
            "{others} of {} differ by more than {TOLERANCE_PERCENT} % (with audit {GATHERED_TOLERANCE_PERCENT} %) from {}. If they should, keep them with `cargo xtask budget --bless`.",
            all.len(),
            Budget::path().display()
        );
    }
    Ok(others == 0)
}

fn tolerance_percent(case: &str) -> f64 {
    let is_alike = case::by_name(case).as_ref().is_none_or(Case::allocates_alike);
    if is_alike { TOLERANCE_PERCENT } else { GATHERED_TOLERANCE_PERCENT }
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
