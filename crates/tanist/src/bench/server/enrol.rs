//! Agents join as any agent does: a token, a key, a signing request, a certificate. Several at once, and other work of the kind.

use tanist_model::api::{CreateToken, Refusal, RefusalCode};
use tanist_model::id::AgentName;
use tanist_wire::certificate::CaHash;
use tanist_wire::identity::{Identity, PrivateKey};
use tanist_wire::token::{JoinRequest, JoinSecret};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::failure::Failure;
use crate::output::screen::now;

/// Questions to the server under way at once.
const AT_ONCE: usize = 32;

/// Asks the server the same kind of thing once for each item, several at a time; the answers in the order of the items.
pub(super) async fn for_each<T, A, F>(items: Vec<T>, ask: impl Fn(T) -> F) -> Result<Vec<A>, Failure>
where
    A: Send + 'static,
    F: Future<Output = Result<A, Failure>> + Send + 'static,
{
    let mut answers: Vec<(usize, A)> = Vec::with_capacity(items.len());
    let mut under_way = JoinSet::new();
    for (place, item) in items.into_iter().enumerate() {
        if under_way.len() >= AT_ONCE {
            answers.extend(next(&mut under_way).await?);
        }
        let asked = ask(item);
        under_way.spawn(async move { asked.await.map(|answer| (place, answer)) });
    }
    while let Some(answer) = next(&mut under_way).await? {
        answers.push(answer);
    }
    answers.sort_unstable_by_key(|(place, _)| *place);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

async fn next<A: 'static>(under_way: &mut JoinSet<Result<A, Failure>>) -> Result<Option<A>, Failure> {
    match under_way.join_next().await {
        Some(Ok(answer)) => answer.map(Some),
        Some(Err(error)) => Err(Failure::io("ask the server", std::io::Error::other(error))),
        None => Ok(None),
    }
}

/// So many new agents.
pub(super) async fn enrol(client: &Client, agents: usize) -> Result<Vec<Identity>, Failure> {
    let names: Result<Vec<AgentName>, Failure> = (0..agents).map(name).collect();
    for_each(names?, |name| join(client.clone(), name)).await
}

/// The name of an agent by its number.
///
/// # Errors
/// None: every number makes a name.
pub(super) fn name(number: usize) -> Result<AgentName, Failure> {
    AgentName::new(format!("h{number}")).map_err(|e| local("name an agent", e))
}

async fn join(client: Client, agent: AgentName) -> Result<Identity, Failure> {
    let made = client.create_token(&CreateToken { agent: agent.clone() }).await?;
    let token: JoinSecret = made.token.parse().map_err(|e| local("read the server's token", e))?;
    let ca_hash: CaHash = made.ca_hash.parse().map_err(|e| local("read the authority's hash", e))?;
    let key = PrivateKey::generate().map_err(|e| local("make a key", e))?;
    let csr_pem = key.certificate_request().map_err(|e| local("make a signing request", e))?;
    let joined = client.join(&JoinRequest { token, agent: None, csr_pem, wall: now() }).await?;
    joined.into_identity(key, Some(&agent), ca_hash).map_err(|e| local("accept the server's answer", e))
}

/// What failed on this side, and why.
pub(super) fn local(doing: &str, cause: impl std::fmt::Display) -> Failure {
    Refusal::new(RefusalCode::Internal, format!("cannot {doing}")).cause(cause.to_string()).into()
}
