//! `tanist login`: recognises a server by its authority's hash and stores how to ask it.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tanist_model::api::{Refusal, RefusalCode, WhoAmI};
use tanist_wire::certificate::CaHash;

use super::Outcome;
use super::session::Session;
use crate::cli::LoginArgs;
use crate::client::Client;
use crate::client::context::Context;
use crate::client::tls::{TrustError, fetch_authority};
use crate::failure::Failure;
use crate::output::Style;

pub async fn run(args: LoginArgs, session: &Session<'_>) -> Outcome {
    let hash = args.ca_hash.parse::<CaHash>().map_err(|e| Refusal::new(RefusalCode::Invalid, e.to_string()))?;
    let path = session.context_file()?;
    let ca = fetch_authority(&args.server, hash).await.map_err(|e: TrustError| e.refusal())?;
    let credential = credential(args.credential_file.as_deref())?;
    let context = Context { server: args.server, credential, ca };
    let whoami = Client::new(&context)?.whoami().await?;
    context.save(&path)?;
    session.screen.answer(&whoami, |whoami, _: Style| render_login(whoami, &context.server, &path))?;
    Ok(ExitCode::SUCCESS)
}

fn render_login(whoami: &WhoAmI, server: &str, path: &Path) -> String {
    let WhoAmI { operator, cluster, version } = whoami;
    format!(
        "logged in to {server} as {operator}: cluster {cluster}, server version {version}\nstored in {}\n\nnext: tanist status\n",
        path.display()
    )
}

fn credential(file: Option<&Path>) -> Result<String, Failure> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|source| Failure::io(format!("read the credential from {}", path.display()), source))?,
        None => typed().map_err(|source| Failure::io("read the credential", source))?,
    };
    let text = text.trim().to_owned();
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    let refusal =
        || Refusal::new(RefusalCode::Invalid, "this is not a credential").hint("it is one word, as in tcr_...");
    if plain { Ok(text) } else { Err(refusal().into()) }
}

/// One line of standard input; a terminal is asked, and does not show what is typed.
fn typed() -> std::io::Result<String> {
    let stdin = std::io::stdin();
    let hidden = if stdin.is_terminal() { Some(Hidden::start()?) } else { None };
    let mut line = String::new();
    stdin.lock().read_line(&mut line)?;
    drop(hidden);
    Ok(line)
}

/// While this lives, the terminal does not echo.
struct Hidden(Termios);

impl Hidden {
    fn start() -> std::io::Result<Self> {
        let mut screen = std::io::stderr();
        write!(screen, "credential: ")?;
        screen.flush()?;
        let before = tcgetattr(std::io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
        let _ = writeln!(std::io::stderr());
    }
}
