//! Tracked tasks: everything that runs beside a request is started here, has a name, can be told to stop, and is waited
//! for. A task nobody waits for is a leak.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::until::until;

/// A group of tasks with one stop signal.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    pub fn new() -> Self {
        Self::default()
    }

    /// A group that stops with this one, or earlier on its own.
    pub fn child(&self) -> Self {
        Self { tracker: TaskTracker::new(), stop: self.stop.child_token() }
    }

    /// Starts a task on the current runtime. It should end soon after [`Tasks::token`] is cancelled.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(task.instrument(tracing::debug_span!("task", name)));
    }

    /// Starts a task that is dropped where it stands when the group stops.
    pub fn spawn_until_stopped<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = until(self.stop.clone(), task);
        self.spawn(name, async move {
            task.await;
        });
    }

    pub fn token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Tasks alive now.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Signals all tasks to stop without waiting.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Signals all tasks and waits up to the deadline. False when some did not end.
    pub async fn shutdown(&self, deadline: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn shutdown_waits_for_tasks_that_listen() {
        let tasks = Tasks::new();
        let stop = tasks.token();
        tasks.spawn("listens", async move { stop.cancelled().await });
        assert!(tasks.shutdown(Duration::from_secs(1)).await);
        assert!(tasks.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_reports_a_task_that_does_not_end() {
        let tasks = Tasks::new();
        tasks.spawn("deaf", std::future::pending());
        assert!(!tasks.shutdown(Duration::from_secs(1)).await);
    }
}
