//! One child process from start to reaping: its pipes, its group, its end.
//!
//! ```text
//! queue ─► write ─► stdin     stdout ─► read ─► Link     stderr ─► log
//!                    supervise: exit, end of output, or told to stop
//!                    └► close stdin ─► SIGTERM ─► SIGKILL ─► reap ─► kill what is left of the group
//! ```
//! Each pipe has a task of its own, so that a full one never blocks another. No process of the group, and on Linux none
//! that carries the child's mark, outlives [`Watch::supervise`].
//!
//! These tasks run where the child was started, on a traffic worker beside its mounts' calls, so what a child can make them
//! do is bounded: [`Talk`] paces what a child says unasked, stderr has a pace of its own, and each task gives way after
//! every line. docs/decisions/0007-a-flooding-child.md has the argument.

use std::process::ExitStatus;
use std::sync::Arc;

use ostler_config::StdioTransport;
use ostler_core::limits::{
    CHILD_LAST_WORDS_SILENCE, CHILD_LINE_BYTES_MAX, CHILD_QUEUE_MAX, CHILD_STOP_GRACE, RESPAWN_BASE,
};
use ostler_core::lines::{LineError, Lines};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::{mpsc, oneshot};
use tokio::task::coop::consume_budget;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::group::Group;
use super::host::{Host, StartRight};
use super::keeper::Keeper;
use super::link::{Link, Outgoing};
use super::stderr;
use super::talk::Talk;
use super::{command, errors};
use crate::upstream::UpstreamError;

/// How a child came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It was told to stop.
    Asked,
    Exited(ExitStatus),
    /// Nothing can come from it any more.
    OutputClosed,
    /// Nothing can be said to it any more.
    InputClosed,
    LineTooLong,
    /// It let a call time out and did not answer a ping.
    Silent,
    /// Of a stream: it was ended, or lost.
    StreamEnded,
    /// Of a stream: its messages are not taken any more.
    PostFailed,
    /// Of a stream: an event of it has no end.
    EventTooLarge,
    /// Of a stream: as `Silent`.
    StreamSilent,
}

/// Starts a child of the upstream for the keeper.
///
/// # Errors
/// When the command cannot be started.
pub(super) fn spawn(
    host: &Arc<Host>,
    keeper: &Arc<Keeper>,
    right: StartRight,
    transport: &StdioTransport,
) -> Result<Arc<Link>, UpstreamError> {
    host.counts.starts.increment();
    let refused = |error: &std::io::Error| errors::spawn_failed(error, transport);
    let mark = host.deps.orphans.mark();
    let mut process = command::build(transport, &mark).spawn().map_err(|error| refused(&error))?;
    let pipes = (process.stdin.take(), process.stdout.take(), process.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(refused(&std::io::Error::other("its pipes are missing")));
    };
    tracing::info!(upstream = %host.name, pid = process.id(), "child started");

    let (input, queue) = mpsc::channel(CHILD_QUEUE_MAX);
    let (output_over, output) = oneshot::channel();
    let link = Arc::new(Link::new(host, keeper, input));
    let tasks = &host.deps.tasks;
    let deaf = CancellationToken::new();
    let exited = CancellationToken::new();
    // Ends the readers should something that left the group hold the pipes open.
    let abandoned = CancellationToken::new();
    tasks.spawn("stdio_write", write(stdin, queue, link.stop.clone(), deaf.clone()));
    tasks.spawn("stdio_read", {
        let (link, exited, abandoned) = (Arc::clone(&link), exited.clone(), abandoned.clone());
        async move {
            // Nobody listens when the child was given up.
            let _ = output_over.send(read(stdout, &link, &exited, &abandoned).await);
        }
    });
    tasks.spawn("stdio_stderr", {
        let (host, abandoned) = (Arc::clone(host), abandoned.clone());
        async move {
            tokio::select! {
                biased;
                () = abandoned.cancelled() => {}
                () = stderr::log(stderr, &host) => {}
            }
        }
    });
    let watch = Watch {
        link: Arc::clone(&link),
        host: Arc::clone(host),
        right,
        mark,
        output,
        deaf,
        exited,
        abandoned,
    };
    tasks.spawn("stdio_child", watch.supervise(process));
    Ok(link)
}

/// What the supervising task looks at.
struct Watch {
    link: Arc<Link>,
    host: Arc<Host>,
    right: StartRight,
    mark: String,
    output: oneshot::Receiver<Ending>,
    deaf: CancellationToken,
    exited: CancellationToken,
    abandoned: CancellationToken,
}

impl Watch {
    async fn supervise(mut self, mut process: Child) {
        let group = Group::of(&process);
        let armed = KillOnDrop(group);
        let mut ending = tokio::select! {
            biased;
            () = self.link.stop.cancelled() => Ending::Asked,
            () = self.link.silent.cancelled() => Ending::Silent,
            status = process.wait() => status.map_or(Ending::OutputClosed, Ending::Exited),
            over = &mut self.output => over.unwrap_or(Ending::OutputClosed),
            () = self.deaf.cancelled() => Ending::InputClosed,
        };
        let output_is_over = matches!(ending, Ending::OutputClosed | Ending::LineTooLong);
        if ending == Ending::OutputClosed
            && let Ok(Ok(status)) = timeout(RESPAWN_BASE, process.wait()).await
        {
            // Usually an exit that its last byte announced a moment before.
            ending = Ending::Exited(status);
        }
        if output_is_over || ending == Ending::Silent {
            self.link.gone(ending);
        }
        self.link.stop.cancel();
        end(&mut process, group, &self.host.kill).await;
        drop(armed);
        if !output_is_over {
            // What the child said last is still in the pipe; with the group gone the pipe has an end.
            self.exited.cancel();
            let _ = timeout(CHILD_STOP_GRACE, &mut self.output).await;
        }
        self.abandoned.cancel();
        self.link.gone(ending);
        // Its place is taken until whoever left the group is gone too.
        self.host.deps.orphans.end(self.mark).await;
        if self.link.is_stable() || (ending == Ending::Asked && self.link.was_heard()) {
            self.right.proven();
        }
    }
}

/// Kills what is left of a group, also when the runtime goes away under the task that watches it. Not to be kept beyond
/// the leader's reaping: the group's id may then become somebody else's.
struct KillOnDrop(Group);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// Stdin is closed already: waits, asks, kills, and reaps.
async fn end(process: &mut Child, group: Group, kill: &CancellationToken) {
    if exits(process, kill).await {
        return;
    }
    group.terminate();
    if exits(process, kill).await {
        return;
    }
    group.kill();
    // Where there are no groups.
    let _ = process.start_kill();
    let _ = process.wait().await;
}

async fn exits(process: &mut Child, kill: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        _ = process.wait() => true,
        () = kill.cancelled() => false,
        () = tokio::time::sleep(CHILD_STOP_GRACE) => false,
    }
}

/// Writes what is queued; its end closes stdin.
async fn write(
    mut stdin: ChildStdin,
    mut queue: mpsc::Receiver<Outgoing>,
    stop: CancellationToken,
    deaf: CancellationToken,
) {
    loop {
        let message = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            message = queue.recv() => message,
        };
        let Some(message) = message else { return };
        let written = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            written = stdin.write_all(&message.line) => written,
        };
        if written.is_err() {
            deaf.cancel();
            return;
        }
    }
}

/// Reads until the end; once the child has exited, until nothing more comes.
async fn read(
    stdout: ChildStdout,
    link: &Arc<Link>,
    exited: &CancellationToken,
    abandoned: &CancellationToken,
) -> Ending {
    let mut lines = Lines::new(stdout, CHILD_LINE_BYTES_MAX);
    let mut talk = Talk::new();
    let fell_silent = async || {
        exited.cancelled().await;
        sleep(CHILD_LAST_WORDS_SILENCE).await;
    };
    loop {
        let line = tokio::select! {
            biased;
            () = abandoned.cancelled() => return Ending::OutputClosed,
            line = lines.next() => line,
            () = fell_silent() => return Ending::OutputClosed,
        };
        let (bytes, unasked) = match line {
            Ok(Some(line)) => (line.len(), link.line(line).await),
            Ok(None) | Err(LineError::Io(_)) => return Ending::OutputClosed,
            Err(LineError::TooLong(_)) => return Ending::LineTooLong,
        };
        link.host.counts.lines.increment();
        if let Some(pause) = talk.said(unasked, bytes) {
            link.host.count_pause();
            tokio::select! {
                biased;
                () = abandoned.cancelled() => return Ending::OutputClosed,
                () = sleep(pause) => {}
            }
        }
        // Lines at hand cost no wait, and the worker has others to serve.
        consume_budget().await;
    }
}
