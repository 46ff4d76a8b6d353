//! A refusal as an answer: the HTTP status follows from its code, its body is the refusal itself.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tanist_model::api::{Refusal, RefusalCode};

/// A [`Refusal`] on its way out.
#[derive(Debug)]
pub struct Refused(pub Refusal);

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (status(self.0.code), Json(self.0)).into_response()
    }
}

fn status(code: RefusalCode) -> StatusCode {
    match code {
        RefusalCode::Invalid => StatusCode::BAD_REQUEST,
        RefusalCode::Unauthorized => StatusCode::UNAUTHORIZED,
        RefusalCode::Forbidden => StatusCode::FORBIDDEN,
        RefusalCode::NotFound => StatusCode::NOT_FOUND,
        RefusalCode::Conflict => StatusCode::CONFLICT,
        RefusalCode::Guarded => StatusCode::PRECONDITION_FAILED,
        RefusalCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        RefusalCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A body, or a refusal.
pub type Reply<T> = Result<Json<T>, Refused>;
