//! `/replications/{name}/record`: what the server signs of a takeover.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tanist_model::api::{Refusal, RefusalCode};
use tanist_model::id::{Epoch, ReplicationName};
use tanist_model::takeover::{SignedRecord, TakeoverStatement};
use tanist_wire::record;

use super::Api;
use super::extract::{Asked, Name};
use super::operator::Operator;
use super::refusal::{Refused, Reply};
use super::replications::look;
use crate::clock;
use crate::view::history::{Stated, statement};

/// Which takeover is asked for.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// The epoch of the target that it granted; the last one if absent.
    epoch: Option<Epoch>,
}

/// The signed record of a takeover that has ended. Its bytes are what `tanist verify-record` takes: a program that writes them anew
/// breaks it.
#[utoipa::path(get, path = "/replications/{name}/record", tag = "replications",
    params(("name" = ReplicationName, Path), Which),
    responses((status = 200, body = SignedRecord), (status = "default", description = "refused", body = Refusal)))]
pub async fn record(
    State(api): State<Api>,
    _: Operator,
    Name(name): Name<ReplicationName>,
    Asked(Which { epoch }): Asked<Which>,
) -> Reply<SignedRecord> {
    let (cluster, now) = (api.installation.cluster, clock::wall());
    let Json(stated) =
        look(&api, name.clone(), move |machine, record| statement(machine, record, epoch, (cluster, now))).await?;
    match stated {
        Stated::Ended(statement) => sign(&api, &statement),
        Stated::Unknown => Err(Refused(unknown(&name, epoch))),
        Stated::GoesOn(epoch) => Err(Refused(goes_on(&name, epoch))),
    }
}

fn sign(api: &Api, statement: &TakeoverStatement) -> Reply<SignedRecord> {
    let refused = |error: record::RecordError| {
        let refusal = Refusal::new(RefusalCode::Internal, "the record cannot be signed").cause(error.to_string());
        Refused(refusal.hint(error.hint()))
    };
    record::seal(api.authority.ca(), statement).map(Json).map_err(refused)
}

fn unknown(name: &ReplicationName, epoch: Option<Epoch>) -> Refusal {
    let which = epoch.map_or_else(String::new, |epoch| format!(" of epoch {epoch}"));
    Refusal::new(RefusalCode::NotFound, format!("there is no record of a takeover{which} of {name}"))
        .cause("the latest hundred are kept, as long as the replication is there")
        .hint(format!("tanist replication takeovers {name}"))
}

fn goes_on(name: &ReplicationName, epoch: Epoch) -> Refusal {
    Refusal::new(RefusalCode::Conflict, format!("the takeover of epoch {epoch} of {name} has not ended"))
        .cause("a record is signed when its successor has written durably, or it is sure that this will not happen")
        .hint(format!("wait for it: tanist replication why {name}"))
}
