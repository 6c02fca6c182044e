//! How often a call asks for memory, and for how much: whatever asks in the process, on whichever thread, while calls are made one after the other.
//! Neither client nor upstream does.

use ostler_telemetry::access::AccessLog;

use crate::case::Case;
use crate::figures::Allocated;

/// What is made once is made by then.
const WARM_UP: usize = 300;
const BATCHES: usize = 41;
const CALLS_OF_A_BATCH: usize = 100;

/// What a call asks for: the median of many batches, since timers ask for memory, too, and what a call leaves behind may be taken up by the next
/// batch. `so_far` tells count and bytes of the process.
///
/// # Errors
/// When the case cannot be run.
pub fn of_a_call(
    case: &Case,
    access: &AccessLog,
    so_far: impl Fn() -> (usize, usize),
) -> anyhow::Result<Allocated> {
    let mut running = case.start(access)?;
    running.run(WARM_UP)?;
    let (mut counts, mut bytes) = (Vec::with_capacity(BATCHES), Vec::with_capacity(BATCHES));
    for _ in 0..BATCHES {
        let before = so_far();
        running.run(CALLS_OF_A_BATCH)?;
        let after = so_far();
        counts.push(after.0.saturating_sub(before.0));
        bytes.push(after.1.saturating_sub(before.1));
    }
    Ok(Allocated { count: a_call(counts)?, bytes: a_call(bytes)? })
}

/// Of the batch in the middle, to the nearest whole.
fn a_call(mut batches: Vec<usize>) -> anyhow::Result<u64> {
    batches.sort_unstable();
    let middle = batches.get(batches.len() / 2).copied().unwrap_or_default();
    Ok(u64::try_from((middle + CALLS_OF_A_BATCH / 2) / CALLS_OF_A_BATCH)?)
}
