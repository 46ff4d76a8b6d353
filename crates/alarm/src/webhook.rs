//! Delivery by HTTPS POST. Only an answer of 2xx counts as delivered; redirections are not followed: they could lead outside of TLS.

use std::path::Path;

use aws_lc_rs::hmac;
use reqwest::{Response, redirect};
use tanist_wire::file::read_private;
use zeroize::Zeroizing;

use crate::config::WebhookConfig;
use crate::error::in_full;
use crate::{DeliveryError, Notice, trust};

/// What is kept of an answer, bytes.
const ANSWER_BYTES: usize = 2048;

/// Sends a notice. The caller limits the time.
pub async fn deliver(config: &WebhookConfig, notice: &Notice) -> Result<(), DeliveryError> {
    let url = config.parsed_url().map_err(DeliveryError::Config)?;
    let unreached = |error: reqwest::Error| DeliveryError::Unreached(in_full(&error.without_url()));
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(trust::client_config(config.ca_file.as_deref())?)
        .redirect(redirect::Policy::none())
        .user_agent(concat!("tanist/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(unreached)?;
    let body = serde_json::to_vec(notice).map_err(|error| DeliveryError::Config(error.to_string()))?;
    let mut request = http.post(url).header("content-type", "application/json").header("x-tanist-event", &notice.id);
    if let Some(token) = secret(config.token_file.as_deref())? {
        request = request.bearer_auth(token.trim());
    }
    if let Some(key) = secret(config.hmac_key_file.as_deref())? {
        request = request.header("x-tanist-signature", signature(key.trim().as_bytes(), &body));
    }
    let answer = request.body(body).send().await.map_err(unreached)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    Err(DeliveryError::Answered { status: status.as_u16(), body: beginning_of(answer).await })
}

/// `sha256=` and the HMAC-SHA256 (RFC 2104) of the body, hexadecimal.
fn signature(key: &[u8], body: &[u8]) -> String {
    format!("sha256={}", hex::encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), body)))
}

pub(crate) fn secret(file: Option<&Path>) -> Result<Option<Zeroizing<String>>, DeliveryError> {
    Ok(file.map(read_private).transpose()?.map(Zeroizing::new))
}

async fn beginning_of(mut answer: Response) -> String {
    let mut kept = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        kept.extend_from_slice(&chunk);
        if kept.len() >= ANSWER_BYTES {
            break;
        }
    }
    kept.truncate(ANSWER_BYTES);
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2.
    #[test]
    fn the_signature_is_hmac_sha256() {
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature(b"Jefe", b"what do ya want for nothing?"), expected);
    }
}
