//! An HTTPS server that answers as it is told and remembers what it was asked.

use std::path::Path;

use tanist_alarm::{DeliveryError, Notice};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::{notice, secret, sink, tls};

/// Header lines and body of a request.
type Asked = (String, Vec<u8>);

/// Answers the requests in turn with these statuses.
async fn serve(tls: TlsAcceptor, answers: &'static [&'static str]) -> (u16, mpsc::UnboundedReceiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for answer in answers {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = tls.accept(stream).await else { continue };
            let mut request = Vec::new();
            let request = loop {
                let mut chunk = [0; 4096];
                let length = stream.read(&mut chunk).await.unwrap();
                request.extend_from_slice(&chunk[..length]);
                if let Some(whole) = parsed(&request) {
                    break whole;
                }
            };
            tell.send(request).unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
        // Whoever comes later is let in and never answered.
        std::future::pending::<()>().await;
    });
    (port, asked)
}

/// The request, once all of it is there.
fn parsed(request: &[u8]) -> Option<Asked> {
    let text = String::from_utf8_lossy(request);
    let (head, _) = text.split_once("\r\n\r\n")?;
    let head = head.to_lowercase();
    let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().unwrap();
    let body = request.get(head.len() + 4..)?;
    (body.len() >= length).then(|| (head.clone(), body.to_vec()))
}

fn config(port: u16, ca: &Path, more: &str) -> String {
    format!(
        "limit_seconds = 2\n[webhook]\nurl = 'https://localhost:{port}/hook?a=b'\nca_file = '{}'\n{more}",
        ca.display()
    )
}

const OK: &str = "HTTP/1.1 204 No Content\r\n\r\n";

#[tokio::test]
async fn the_notice_arrives_as_json_signed_and_with_its_token() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, ca) = tls::server(folder.path());
    let (port, mut asked) = serve(tls, &[OK, OK]).await;
    let (token, key) = (secret(folder.path(), "token", "open sesame\n"), secret(folder.path(), "key", "k\n"));
    let more = format!("token_file = '{}'\nhmac_key_file = '{}'", token.display(), key.display());
    let sink = sink(&config(port, &ca, &more));
    sink.deliver(&notice()).await.unwrap();
    let (head, body) = asked.recv().await.unwrap();
    assert!(head.starts_with("post /hook?a=b http/1.1"), "{head}");
    for line in
        ["authorization: bearer open sesame", "content-type: application/json", "x-tanist-event: 000000000000000a-41"]
    {
        assert!(head.lines().any(|there| there == line), "{line} is missing in {head}");
    }
    assert_eq!(serde_json::from_slice::<Notice>(&body).unwrap(), notice());
    let signature = aws_lc_rs::hmac::sign(&aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"k"), &body);
    assert!(head.contains(&format!("x-tanist-signature: sha256={}", hex::encode(signature))), "{head}");
    // The same again is recognised by its identity.
    sink.deliver(&notice()).await.unwrap();
    assert!(asked.recv().await.unwrap().0.contains("x-tanist-event: 000000000000000a-41"));
}

#[tokio::test]
async fn whatever_is_not_a_success_is_a_failure_that_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, ca) = tls::server(folder.path());
    let answers = &[
        "HTTP/1.1 503 Busy\r\ncontent-length: 9\r\n\r\ntoo\nmany!",
        "HTTP/1.1 302 Found\r\nlocation: http://elsewhere.example/\r\ncontent-length: 0\r\n\r\n",
        "nonsense\r\n\r\n",
    ];
    let (port, _asked) = serve(tls, answers).await;
    let sink_ = sink(&config(port, &ca, ""));
    let busy = sink_.deliver(&notice()).await.unwrap_err();
    assert_eq!(busy.to_string(), "the webhook answered 503: too many!");
    let moved = sink_.deliver(&notice()).await.unwrap_err();
    assert!(matches!(moved, DeliveryError::Answered { status: 302, .. }), "{moved}");
    let nonsense = sink_.deliver(&notice()).await.unwrap_err();
    assert!(matches!(nonsense, DeliveryError::Unreached(_)), "{nonsense}");
    // It hangs from here on.
    let late = sink_.deliver(&notice()).await.unwrap_err();
    assert!(matches!(late, DeliveryError::Late(_)), "{late}");
}

#[tokio::test]
async fn a_stranger_gets_neither_notice_nor_token() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, _) = tls::server(folder.path());
    let other = tempfile::tempdir().unwrap();
    let (_, ca) = tls::server(other.path());
    let (port, mut asked) = serve(tls, &[OK]).await;
    let refused = sink(&config(port, &ca, "")).deliver(&notice()).await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    assert!(asked.try_recv().is_err());
    // A token that others can read is not used at all.
    let token = folder.path().join("token");
    std::fs::write(&token, "t").unwrap();
    let exposed = sink(&config(port, &ca, &format!("token_file = '{}'", token.display()))).deliver(&notice()).await;
    assert!(exposed.unwrap_err().to_string().contains("can be read by others"));
}
