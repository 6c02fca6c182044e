//! Operators at work: each sends one request after another until control is gone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::bail;
use ostler_core::rng::Jitter;
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::process::Life;
use super::{FLEETS, Ledger};
use crate::support::http::Ask;

pub(super) struct Operators {
    tasks: JoinSet<anyhow::Result<()>>,
    progress: Arc<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    sent: AtomicU64,
    acknowledged: AtomicU64,
    /// Operators that have found control gone.
    ended: AtomicU64,
    moved: Notify,
}

struct Operator {
    fleet: &'static str,
    api: SocketAddr,
    token: String,
    ledger: Arc<Ledger>,
    progress: Arc<Progress>,
    jitter: Jitter,
    last: Option<String>,
}

/// More than one in the first fleet, so that commits meet.
const OPERATORS: [&str; 5] = [FLEETS[0], FLEETS[0], FLEETS[1], FLEETS[2], FLEETS[3]];

impl Operators {
    pub(super) fn start(life: &Life, ledger: Arc<Ledger>, seed: u64) -> anyhow::Result<Self> {
        let progress = Arc::<Progress>::default();
        let mut tasks = JoinSet::new();
        for (place, fleet) in (0_u64..).zip(OPERATORS) {
            let operator = Operator {
                fleet,
                api: life.api,
                token: life.operator_token()?,
                ledger: Arc::clone(&ledger),
                progress: Arc::clone(&progress),
                jitter: Jitter::from_seed(seed.wrapping_add(place)),
                last: None,
            };
            tasks.spawn(operator.work());
        }
        Ok(Self { tasks, progress })
    }

    pub(super) async fn until_next_sent_after(&self, acks: u64) {
        self.until_acknowledged(acks).await;
        let sent = self.progress.sent.load(Ordering::SeqCst);
        self.until(|progress| progress.sent.load(Ordering::SeqCst) > sent).await;
    }

    pub(super) async fn until_acknowledged(&self, count: u64) {
        self.until(|progress| progress.acknowledged.load(Ordering::SeqCst) >= count).await;
    }

    /// Everybody's end. Only what control said wrongly is an error.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(())
    }

    async fn until(&self, reached: impl Fn(&Progress) -> bool) {
        loop {
            let moved = self.progress.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            let all_gone = self.progress.ended.load(Ordering::SeqCst) == OPERATORS.len() as u64;
            if reached(&self.progress) || all_gone {
                return;
            }
            moved.await;
        }
    }
}

impl Operator {
    async fn work(mut self) -> anyhow::Result<()> {
        let worked = loop {
            match self.one().await {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.progress.ended.fetch_add(1, Ordering::SeqCst);
        self.progress.moved.notify_waiters();
        worked
    }

    /// False once control is gone.
    async fn one(&mut self) -> anyhow::Result<bool> {
        let (number, ask) = self.request();
        self.progress.sent.fetch_add(1, Ordering::SeqCst);
        self.progress.moved.notify_waiters();
        let Ok(answer) = ask.header("authorization", &format!("Bearer {}", self.token)).try_send().await
        else {
            return Ok(false);
        };
        match answer.status.as_u16() {
            200 => self.ledger.acknowledge(number, &answer.json())?,
            // It is ending.
            503 => {
                self.ledger.refuse(number)?;
                return Ok(false);
            }
            status => bail!("request {number} was answered {status}: {}", answer.text()),
        }
        self.progress.acknowledged.fetch_add(1, Ordering::SeqCst);
        self.progress.moved.notify_waiters();
        Ok(true)
    }

    fn request(&mut self) -> (u64, Ask) {
        let jitter = &mut self.jitter;
        let kind = jitter.below(10);
        if kind < 2
            && let Some((number, version)) = self.ledger.begin_rollback(self.fleet, |made| jitter.below(made))
        {
            let path = format!("/v1/fleets/{}/rollback", self.fleet);
            let body = json!({"version": version, "message": number.to_string()}).to_string();
            return (number, Ask::new(self.api, "POST", &path).body(body));
        }
        // The same again, which is no change, unless somebody else was faster.
        let again = self.last.clone().filter(|_| kind == 2);
        let upstreams = 1 + jitter.below(if kind == 3 { 400 } else { 8 });
        let (number, text) = self.ledger.begin(self.fleet, |number| {
            again.unwrap_or_else(|| {
                let upstreams: Vec<_> = (0..upstreams)
                    .map(|place| {
                        format!("  u{place}:\n    http: {{ url: \"http://127.0.0.1:9/{number}\" }}\n")
                    })
                    .collect();
                format!("# request {number}\nversion: 1\nupstreams:\n{}", upstreams.concat())
            })
        });
        self.last = Some(text.clone());
        let path = format!("/v1/fleets/{}/config?message={number}", self.fleet);
        (number, Ask::new(self.api, "PUT", &path).header("content-type", "application/yaml").body(text))
    }
}
