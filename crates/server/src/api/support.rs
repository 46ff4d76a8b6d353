//! `/support`: what a bundle for whoever helps is made of, piece by piece. It is put together where it is asked for.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use tanist_model::api::{RecordedSegment, Refusal, RefusalCode};
use tanist_recording::Segment;

use super::Api;
use super::extract::Name;
use super::operator::Operator;
use super::refusal::{Refused, Reply};

/// The segments of the server's recording, oldest first.
#[utoipa::path(get, path = "/support/recording", tag = "support",
    responses((status = 200, body = Vec<RecordedSegment>), (status = "default", description = "refused", body = Refusal)))]
pub async fn recording(State(api): State<Api>, _: Operator) -> Reply<Vec<RecordedSegment>> {
    let listed = segments(&api).await?.into_iter();
    Ok(Json(listed.map(|Segment { number, bytes, closed, .. }| RecordedSegment { number, bytes, closed }).collect()))
}

/// One segment, as it lies there: lines, or lines compressed by gzip.
#[utoipa::path(get, path = "/support/recording/{number}", tag = "support", params(("number" = u64, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "default", description = "refused", body = Refusal)))]
pub async fn segment(
    State(api): State<Api>,
    _: Operator,
    Name(number): Name<u64>,
) -> Result<impl IntoResponse, Refused> {
    let gone = || {
        Refused(
            Refusal::new(RefusalCode::NotFound, format!("there is no segment {number}"))
                .cause("the oldest make room for what is recorded now")
                .hint("make the bundle again: tanist support bundle"),
        )
    };
    let segment = segments(&api).await?.into_iter().find(|segment| segment.number == number).ok_or_else(gone)?;
    // Only one that was closed or removed in this very moment cannot be read.
    let bytes = tokio::fs::read(&segment.path).await.map_err(|_| gone())?;
    Ok(([(CONTENT_TYPE, "application/octet-stream")], bytes))
}

/// The server's configuration without what lets somebody in: addresses that carry a secret, and arguments of programs.
#[utoipa::path(get, path = "/support/configuration", tag = "support",
    responses((status = 200, body = String, content_type = "text/plain"),
        (status = "default", description = "refused", body = Refusal)))]
pub async fn configuration(State(api): State<Api>, _: Operator) -> Result<String, Refused> {
    let unwritable = |error: toml::ser::Error| {
        Refused(Refusal::new(RefusalCode::Internal, "the configuration cannot be shown").cause(error.to_string()))
    };
    toml::to_string_pretty(&api.installation.configuration).map_err(unwritable)
}

/// None if nothing was ever recorded.
async fn segments(api: &Api) -> Result<Vec<Segment>, Refused> {
    let folder = api.installation.recording.clone();
    let listed = tokio::task::spawn_blocking(move || folder.segments()).await;
    match listed {
        Ok(Ok(segments)) => Ok(segments),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Ok(Err(error)) => Err(unreadable(&error)),
        Err(error) => Err(unreadable(&error)),
    }
}

fn unreadable(error: &dyn std::error::Error) -> Refused {
    let refusal = Refusal::new(RefusalCode::Unavailable, "the recording cannot be read").cause(error.to_string());
    Refused(refusal.hint("look at the folder `recording` in the server's directory"))
}
