//! Commands on their way to the loop, and their answers on the way back.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use tanist_model::api::{Done, Plan, Refusal, RefusalCode};
use tanist_model::id::CommandId;
use tanist_protocol::server::{Answer, Command};

use super::Api;
use super::extract::Key;
use super::operator::Operator;
use super::refusal::{Refused, Reply};

/// How long a command may take: agents are asked, and the answer is committed.
const LIMIT: Duration = Duration::from_secs(20);

/// Has a command done.
pub async fn command(api: &Api, operator: &Operator, key: Key, command: Command) -> Reply<Done> {
    match ask(api, &operator.0, key.0, command).await? {
        Answer::Done(done) => Ok(Json(done)),
        Answer::Plan(_) => Err(other_command()),
    }
}

/// Has a plan made.
pub async fn plan(api: &Api, operator: &Operator, key: Key, command: Command) -> Reply<Plan> {
    match ask(api, &operator.0, key.0, command).await? {
        Answer::Plan(plan) => Ok(Json(*plan)),
        Answer::Done(_) => Err(other_command()),
    }
}

/// # Errors
/// The refusal of the machine, or that no answer came in time.
pub async fn ask(api: &Api, actor: &str, key: CommandId, command: Command) -> Result<Answer, Refused> {
    let answer = tokio::time::timeout(LIMIT, api.core.command(key, actor, command)).await;
    Ok(answer.map_err(|_| late())??)
}

fn late() -> Refusal {
    Refusal::new(RefusalCode::Unavailable, "no answer came in time")
        .cause("it may still be carried out")
        .hint("try again with the same Idempotency-Key: the work is not done twice")
}

fn other_command() -> Refused {
    Refused(
        Refusal::new(RefusalCode::Conflict, "this Idempotency-Key was used for another command")
            .hint("use a new key for each command"),
    )
}

/// Answers kept of work that is not the machine's.
const KEPT: usize = 64;

/// What was done lately beside the machine, so that asking again under the same key does not do it twice.
#[derive(Debug, Default)]
pub struct Finished(Mutex<VecDeque<Done>>);

impl Finished {
    pub fn get(&self, id: CommandId) -> Option<Done> {
        let done = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        done.iter().find(|done| done.command == id).cloned()
    }

    pub fn put(&self, answer: Done) {
        let mut done = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        done.truncate(KEPT - 1);
        done.push_front(answer);
    }
}
