//! `tanist token`.

use std::process::ExitCode;

use tanist_model::api::{CreateToken, TokenCreated};

use super::Outcome;
use super::session::Session;
use crate::cli::TokenCommand;
use crate::output::units::duration;
use crate::output::{Style, Tone};

pub async fn run(command: TokenCommand, session: &Session<'_>) -> Outcome {
    let TokenCommand::Create { agent } = command;
    let created = session.client()?.create_token(&CreateToken { agent }).await?;
    session.screen.answer(&created, render_token)?;
    Ok(ExitCode::SUCCESS)
}

fn render_token(created: &TokenCreated, style: Style) -> String {
    let left = duration(created.expires_at.since(style.now));
    let line = join_line(created);
    format!(
        "type this on {} within {left}; it works once:\n\n  {}\n\nadd `--storage NAME=DIRECTORY` for each storage system that {} reaches\n",
        created.agent,
        style.paint(Tone::Strong, &line),
        created.agent
    )
}

/// The complete line for the host that joins.
fn join_line(created: &TokenCreated) -> String {
    format!("tanist agent join {} --token {} --ca-hash {}", created.address, created.token, created.ca_hash)
}

#[cfg(test)]
mod tests {
    use tanist_model::id::AgentName;
    use tanist_model::time::Timestamp;

    use super::*;

    #[test]
    fn the_join_line_can_be_typed_as_it_is_printed() {
        let created = TokenCreated {
            agent: AgentName::new("h1").unwrap(),
            token: "tjt_abc".into(),
            expires_at: Timestamp(900_000_000),
            ca_hash: "ab".repeat(32),
            address: "10.0.0.5:7420".into(),
        };
        let line = join_line(&created);
        let parsed = <crate::cli::Cli as clap::Parser>::try_parse_from(line.split(' '));
        assert!(parsed.is_ok(), "{parsed:?}");
        assert!(
            render_token(&created, Style { colour: false, now: Timestamp(0) }).contains("within 15 min; it works once")
        );
    }
}
