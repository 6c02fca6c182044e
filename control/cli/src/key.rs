//! `ostler key`: API keys for MCP clients. A key is printed once and kept nowhere; the config has its digest.

use clap::{Args, Subcommand};
use ostler_core::digest::Digest;
use ostler_core::name::ResourceName;
use ostler_core::rng::secret_token;

use crate::output::{self, Outcome};

/// Make API keys for MCP clients.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    New(NewArgs),
}

/// Make an API key: prints it once, and the line of the config that lets it in.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// Name of whoever will have the key, as rules and audit records call them
    #[arg(value_name = "NAME")]
    name: ResourceName,
}

/// What keys begin with, so that scanners find one that leaked.
const PREFIX: &str = "ostler_";

pub fn run(command: &KeyCommand) -> anyhow::Result<Outcome> {
    let KeyCommand::New(args) = command;
    let key = format!("{PREFIX}{}", secret_token()?);
    output::print(&text(&args.name, &key))?;
    Ok(Outcome::Done)
}

fn text(name: &ResourceName, key: &str) -> String {
    let digest = Digest::of(key.as_bytes());
    format!(
        "{key}\n\nThis is the key; it is not shown again. Clients send it as `Authorization: Bearer <key>`.\nThe config:\n\nauth:\n  api_keys:\n    {name}: {{ key: \"sha256:{digest}\" }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_that_is_printed_has_the_digest_and_not_the_key() {
        let shown = text(&"ci".parse().unwrap(), "ostler_secret");
        let (key, config) = shown.split_once('\n').unwrap();
        assert_eq!(key, "ostler_secret");
        assert!(!config.contains("ostler_secret"));
        let (_, document) = config.split_once("The config:\n\n").unwrap();
        let judged = ostler_config::judge_text(format!("version: 1\n{document}").as_bytes()).unwrap();
        let kept = judged.config.auth().api_keys["ci"].key.as_str();
        assert_eq!(kept, format!("sha256:{}", Digest::of(key.as_bytes())));
    }
}
