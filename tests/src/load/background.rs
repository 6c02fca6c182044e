//! Work that must not take a core from what is measured: on one machine the programs of bad neighbours run beside the data
//! plane, and what they do to its scheduler is no gateway's doing.

/// The lowest priority that a thread may choose for itself.
#[cfg(target_os = "linux")]
const LOWEST: i32 = 19;

/// Gives the calling thread the lowest priority, as far as the system has one for threads.
pub fn yield_to_others() {
    #[cfg(target_os = "linux")]
    // It is a courtesy: without it the measurement is noisier, and says so.
    let _ = rustix::process::setpriority_process(None, LOWEST);
}
