//! The bare pair of hyper, in a process of its own: see [`crate::bare`].

use std::process::Command;

use super::{Served, Setting, free};
use crate::cases::{Answer, Case, Shape};

/// It holds answers whole and knows no rules.
pub(super) fn serves(case: &Case) -> bool {
    case.is_plain()
        && case.shape == Shape::Mount
        && matches!(case.answer, Answer::Json | Answer::Sse | Answer::SseChunked)
}

pub(super) fn start(setting: &Setting<'_>) -> anyhow::Result<Served> {
    let (addr, upstream) = (free()?.to_string(), setting.upstream.to_string());
    let mut command = Command::new(std::env::current_exe()?);
    let process = setting.start(command.args(["bare", &addr, &upstream]), addr.parse()?)?;
    Ok(Served::plain(setting, Some(process), addr.parse()?))
}
