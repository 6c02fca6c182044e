//! Work that must not take a core from what is measured: on one machine the programs of bad neighbours run beside the data
//! plane, and what they do to its scheduler is no gateway's doing.

/// The lowest priority that a thread may choose for itself.
#[cfg(target_os = "linux")]
const LOWEST: i32 = 19;

/// Gives the calling thread what cores have left over, as far as the system can. It is a courtesy: without it the measurement is
/// noisier, and says so.
pub fn yield_to_others() {
    #[cfg(target_os = "linux")]
    {
        let _ = rustix::process::setpriority_process(None, LOWEST);
        run_when_idle();
    }
}

/// A low priority alone keeps its core for a whole slice of some milliseconds, whoever wakes meanwhile; a thread that is scheduled
/// as idle gives way at once (sched(7), `SCHED_IDLE`).
#[cfg(target_os = "linux")]
fn run_when_idle() {
    let Ok(thread) = std::fs::read_link("/proc/thread-self") else { return };
    let Some(id) = thread.file_name() else { return };
    let mut chrt = std::process::Command::new("chrt");
    chrt.args(["--idle", "--pid", "0"]).arg(id).stderr(std::process::Stdio::null());
    let _ = chrt.status();
}
