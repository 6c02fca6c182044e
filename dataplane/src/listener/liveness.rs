//! Whether the threads that serve still turn: a task that each traffic worker is given must be run. What blocks a worker,
//! a defect or a system call that hangs, stops all clients of that worker, and nothing else would notice.

use std::sync::Arc;
use std::time::Duration;

use ostler_core::limits::LIVENESS_TIMEOUT;
use tokio::runtime::Handle;

/// Asks the workers. Cheap to clone; an asker on another thread is never blocked by them.
#[derive(Debug, Clone, Default)]
pub struct Liveness {
    workers: Arc<[Handle]>,
}

impl Liveness {
    pub(super) fn of(workers: Arc<[Handle]>) -> Self {
        Self { workers }
    }

    /// Waits until every worker has answered, each at most [`LIVENESS_TIMEOUT`].
    ///
    /// # Errors
    /// Which worker does not answer.
    pub async fn check(&self) -> Result<(), String> {
        self.check_within(LIVENESS_TIMEOUT).await
    }

    async fn check_within(&self, timeout: Duration) -> Result<(), String> {
        // All are asked before the first is waited for.
        let asked: Vec<_> = self.workers.iter().map(|worker| worker.spawn(async {})).collect();
        for (index, answer) in asked.into_iter().enumerate() {
            // An error says that the worker's runtime has ended.
            if !matches!(tokio::time::timeout(timeout, answer).await, Ok(Ok(()))) {
                return Err(format!("traffic worker {index} does not answer"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn worker() -> Handle {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handle = runtime.handle().clone();
        // It ends with the test's process.
        std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        handle
    }

    #[tokio::test]
    async fn a_blocked_worker_is_named_and_answers_again_when_it_is_free() {
        let (first, second) = (worker(), worker());
        let liveness = Liveness::of([first, second.clone()].into());
        assert_eq!(liveness.check().await, Ok(()));
        let (free, freed) = mpsc::channel::<()>();
        let (blocking, is_blocked) = tokio::sync::oneshot::channel();
        second.spawn(async move {
            blocking.send(()).unwrap();
            freed.recv().unwrap();
        });
        is_blocked.await.unwrap();
        let error = liveness.check_within(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error, "traffic worker 1 does not answer");
        free.send(()).unwrap();
        assert_eq!(liveness.check().await, Ok(()));
    }

    #[tokio::test]
    async fn a_worker_that_has_ended_does_not_answer() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let liveness = Liveness::of([runtime.handle().clone()].into());
        runtime.shutdown_background();
        assert!(liveness.check().await.is_err());
    }
}
