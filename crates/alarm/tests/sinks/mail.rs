//! A little mail server: enough of SMTP (RFC 5321), STARTTLS (RFC 3207) and AUTH PLAIN (RFC 4954) to take a mail or refuse it.

use std::path::Path;

use tanist_alarm::DeliveryError;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufStream};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::{notice, secret, sink, tls};

/// What a client said on an encrypted connection, line by line.
type Said = Vec<String>;

/// `AUTH PLAIN` of user `u`, password `p`.
const CREDENTIAL: &str = "AUTH PLAIN AHUAcA==";

async fn serve(tls: TlsAcceptor, starttls: bool) -> (u16, mpsc::UnboundedReceiver<Said>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufStream::new(stream);
            if starttls {
                greet(&mut stream).await;
                let said = converse(&mut stream, Some("STARTTLS")).await;
                if said.last().is_none_or(|line| line != "STARTTLS") {
                    tell.send(vec!["in the clear".to_owned()]).unwrap();
                    continue;
                }
            }
            let Ok(encrypted) = tls.accept(stream.into_inner()).await else { continue };
            let mut encrypted = BufStream::new(encrypted);
            if !starttls {
                greet(&mut encrypted).await;
            }
            let said = converse(&mut encrypted, None).await;
            tell.send(said).unwrap();
        }
    });
    (port, told)
}

async fn greet(stream: &mut BufStream<impl AsyncRead + AsyncWrite + Unpin>) {
    stream.write_all(b"220 mx.example\r\n").await.unwrap();
    stream.flush().await.unwrap();
}

/// Answers until the client has gone, or has said the last line.
async fn converse(stream: &mut BufStream<impl AsyncRead + AsyncWrite + Unpin>, last: Option<&str>) -> Said {
    let (mut said, mut in_data) = (Said::new(), false);
    loop {
        let mut line = String::new();
        if !matches!(stream.read_line(&mut line).await, Ok(1..)) {
            return said;
        }
        let line = line.trim_end().to_owned();
        let answer = match line.split(' ').next().unwrap() {
            "." if in_data => {
                in_data = false;
                "250 taken\r\n"
            }
            _ if in_data => "",
            "EHLO" if last.is_some() => "250-mx\r\n250 STARTTLS\r\n",
            "EHLO" => "250-mx\r\n250 AUTH PLAIN\r\n",
            "STARTTLS" => "220 go\r\n",
            "AUTH" if line != CREDENTIAL => "535 no\r\n",
            "AUTH" => "235 yes\r\n",
            "DATA" => {
                in_data = true;
                "354 go on\r\n"
            }
            "QUIT" => "221 bye\r\n",
            _ => "250 ok\r\n",
        };
        said.push(line);
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        if last.is_some() && said.last().map(String::as_str) == last {
            return said;
        }
    }
}

fn config(port: u16, ca: &Path, way: &str, password: &Path) -> String {
    format!(
        "limit_seconds = 5\n[mail]\nserver = 'localhost:{port}'\ntls = '{way}'\nca_file = '{}'\nuser = 'u'\n\
         password_file = '{}'\nfrom = 'tanist <tanist@a.example>'\nto = ['noc@a.example', 'Night <night@b.example>']",
        ca.display(),
        password.display()
    )
}

#[tokio::test]
async fn a_mail_arrives_over_tls_by_command_and_from_the_first_byte() {
    for (way, starttls) in [("starttls", true), ("implicit", false)] {
        let folder = tempfile::tempdir().unwrap();
        let (tls, ca) = tls::server(folder.path());
        let (port, mut told) = serve(tls, starttls).await;
        let password = secret(folder.path(), "password", "p\n");
        sink(&config(port, &ca, way, &password)).deliver(&notice()).await.unwrap();
        let said = told.recv().await.unwrap();
        for line in [
            CREDENTIAL,
            "MAIL FROM:<tanist@a.example>",
            "RCPT TO:<noc@a.example>",
            "RCPT TO:<night@b.example>",
            "Subject: [tanist] db: no agent of the hierarchy is eligible (T409)",
            "Message-ID: <000000000000000a-41.raised@a.example>",
            "no agent is eligible; h1: away",
            "What to do: tanist explain T409",
        ] {
            assert!(said.iter().any(|there| there.starts_with(line)), "{way}: {line} is missing in {said:#?}");
        }
    }
}

#[tokio::test]
async fn a_wrong_password_and_a_strange_server_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, ca) = tls::server(folder.path());
    let (port, mut told) = serve(tls, true).await;
    let wrong = secret(folder.path(), "password", "q");
    let refused = sink(&config(port, &ca, "starttls", &wrong)).deliver(&notice()).await.unwrap_err();
    assert!(matches!(refused, DeliveryError::Mail(_)) && refused.to_string().contains("535"), "{refused}");
    assert!(told.recv().await.unwrap().iter().all(|line| !line.starts_with("MAIL")));
    let other = tempfile::tempdir().unwrap();
    let (_, ca) = tls::server(other.path());
    let stranger = sink(&config(port, &ca, "starttls", &wrong)).deliver(&notice()).await.unwrap_err();
    assert!(stranger.to_string().to_lowercase().contains("certificate"), "{stranger}");
}

#[tokio::test]
async fn nothing_is_said_in_the_clear() {
    let folder = tempfile::tempdir().unwrap();
    let (_, ca) = tls::server(folder.path());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = tokio::spawn(async move {
        let mut stream = BufStream::new(listener.accept().await.unwrap().0);
        greet(&mut stream).await;
        // It offers no STARTTLS.
        converse_without_tls(&mut stream).await
    });
    let password = secret(folder.path(), "password", "p");
    let refused = sink(&config(port, &ca, "starttls", &password)).deliver(&notice()).await.unwrap_err();
    assert!(matches!(refused, DeliveryError::Mail(_)), "{refused}");
    let said = heard.await.unwrap();
    assert!(said.iter().all(|line| !line.starts_with("AUTH") && !line.starts_with("MAIL")), "{said:?}");
}

async fn converse_without_tls(stream: &mut BufStream<impl AsyncRead + AsyncWrite + Unpin>) -> Said {
    let mut said = Said::new();
    loop {
        let mut line = String::new();
        if !matches!(stream.read_line(&mut line).await, Ok(1..)) {
            return said;
        }
        said.push(line.trim_end().to_owned());
        stream.write_all(b"250 mx\r\n").await.unwrap();
        stream.flush().await.unwrap();
    }
}
