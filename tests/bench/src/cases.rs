//! What is measured: every case by name, with the load, the answer and the config that make it.

use crate::calls::{Era, TOOL};

/// One thing that is measured.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) about: String,
    /// Of the clients.
    pub(crate) era: Era,
    pub(crate) upstream_era: Era,
    pub(crate) answer: Answer,
    pub(crate) argument_bytes: usize,
    pub(crate) connections: u32,
    /// Calls a second; as many as are answered without it.
    pub(crate) rate: Option<f64>,
    pub(crate) shape: Shape,
}

/// What the upstream answers a call with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// JSON of about 200 bytes.
    Json,
    /// The same as the one event of a stream.
    Sse,
    /// The same in chunks, from a server that does not say how long it is.
    SseChunked,
    /// JSON of 100 KB.
    Large,
    /// JSON of 1 MB.
    Huge,
}

/// What the data plane has to do with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Pass it on; metrics and access log, as always.
    Mount,
    /// Judge it by five rules, one with an expression.
    Policy,
    /// Write it down, with nothing waiting.
    AuditAsync,
    /// Write it down before it goes out.
    AuditDurable,
    /// Believe a token, judge by five rules, write down with nothing waiting.
    Governed,
    /// Find it in a bundle of so many mounts.
    Bundle(usize),
    /// Pass it on beside so many mounts that nobody uses.
    Mounts(usize),
    /// Pass it to a child process that all clients share.
    Stdio,
}

const SMALL_ARGUMENT_BYTES: usize = 110;
const LARGE_ARGUMENT_BYTES: usize = 100 * 1024;
const CONNECTIONS: [u32; 4] = [1, 16, 64, 1_000];
/// Calls a second that every subject keeps up with.
const PACE: f64 = 3_000.0;

/// In the order in which they are run.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for connections in CONNECTIONS {
        cases.push(small("call", "a small call, answered with JSON").at(connections));
    }
    cases.push(small("paced", "a small call, at 3 000 a second").at(16).paced(PACE));
    cases.push(small("modern", "a small call of the modern era").of(Era::Modern, Era::Modern).at(16));
    cases.push(small("sse", "a small call, answered with an event").answered(Answer::Sse).at(16));
    let chunked = small("sse-chunked", "the same, in chunks");
    cases.push(chunked.answered(Answer::SseChunked).at(16));
    cases.push(small("answer-100k", "100 KB of answer").answered(Answer::Large).at(16));
    cases.push(small("answer-1m", "1 MB of answer").answered(Answer::Huge).at(16));
    cases.push(small("arguments-100k", "100 KB of arguments").asking(LARGE_ARGUMENT_BYTES).at(16));
    let shapes = [
        ("policy", "five rules, one with an expression", Shape::Policy),
        ("audit-async", "decision and outcome written down, nothing waits", Shape::AuditAsync),
        ("governed", "a token, five rules, and audit that nothing waits for", Shape::Governed),
        ("bundle-50", "a tool in a bundle of 50 mounts", Shape::Bundle(50)),
        ("mounts-10000", "10 000 mounts, one of them used", Shape::Mounts(10_000)),
        ("stdio", "a child process that all clients share", Shape::Stdio),
    ];
    for (name, about, shape) in shapes {
        cases.push(small(name, about).shaped(shape).at(16));
    }
    for connections in [64, 1_000] {
        let durable = small("audit-durable", "decision on disk before the call goes out");
        cases.push(durable.shaped(Shape::AuditDurable).at(connections));
    }
    let to_legacy = small("bridge-to-legacy", "a modern client, a legacy upstream");
    cases.push(to_legacy.of(Era::Modern, Era::Legacy).at(16));
    let to_modern = small("bridge-to-modern", "a legacy client, a modern upstream");
    cases.push(to_modern.of(Era::Legacy, Era::Modern).at(16));
    cases
}

fn small(name: &str, about: &str) -> Case {
    Case {
        name: name.to_owned(),
        about: about.to_owned(),
        era: Era::Legacy,
        upstream_era: Era::Legacy,
        answer: Answer::Json,
        argument_bytes: SMALL_ARGUMENT_BYTES,
        connections: 1,
        rate: None,
        shape: Shape::Mount,
    }
}

// === impl Case ===

impl Case {
    fn at(self, connections: u32) -> Self {
        Self { name: format!("{}-{connections}", self.name), connections, ..self }
    }

    fn paced(self, rate: f64) -> Self {
        Self { rate: Some(rate), ..self }
    }

    fn of(self, era: Era, upstream_era: Era) -> Self {
        Self { era, upstream_era, ..self }
    }

    fn answered(self, answer: Answer) -> Self {
        Self { answer, ..self }
    }

    fn asking(self, argument_bytes: usize) -> Self {
        Self { argument_bytes, ..self }
    }

    fn shaped(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }

    /// Whether a proxy that knows nothing of MCP can stand in for the data plane.
    pub(crate) fn is_plain(&self) -> bool {
        self.era == self.upstream_era && !matches!(self.shape, Shape::Stdio)
    }

    /// What the data plane's clients call.
    pub(crate) fn tool(&self) -> String {
        match self.shape {
            Shape::Bundle(_) => format!("m0__{TOOL}"),
            _ => TOOL.to_owned(),
        }
    }
}

// === impl Answer ===

impl Answer {
    const ALL: [Self; 5] = [Self::Json, Self::Sse, Self::SseChunked, Self::Large, Self::Huge];

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Json => "/json",
            Self::Sse => "/sse",
            Self::SseChunked => "/sse-chunked",
            Self::Large => "/100k",
            Self::Huge => "/1m",
        }
    }

    /// What is answered at a path.
    pub(crate) fn at(path: &str) -> Self {
        Self::ALL.into_iter().find(|answer| answer.path() == path).unwrap_or(Self::Json)
    }

    pub(crate) fn text_bytes(self) -> usize {
        match self {
            Self::Json | Self::Sse | Self::SseChunked => 100,
            Self::Large => 100 * 1024,
            Self::Huge => 1024 * 1024,
        }
    }
}
