//! Delivery by mail, over TLS always. The Message-ID is made of the notice's identity: mail programs recognise a repetition by it.

use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};

use crate::config::{MailConfig, MailTls, mailbox};
use crate::error::in_full;
use crate::webhook::secret;
use crate::{DeliveryError, Notice, trust};

/// Sends a notice. The caller limits the time.
pub async fn deliver(config: &MailConfig, notice: &Notice) -> Result<(), DeliveryError> {
    let message = message(config, notice)?;
    let (host, port) = config.host_and_port().map_err(DeliveryError::Config)?;
    let tls = tls(config, host)?;
    let tls = match config.tls {
        MailTls::Starttls => Tls::Required(tls),
        MailTls::Implicit => Tls::Wrapper(tls),
    };
    let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host).port(port).tls(tls);
    if let (Some(user), Some(password)) = (&config.user, secret(config.password_file.as_deref())?) {
        transport = transport.credentials(Credentials::new(user.clone(), password.trim().to_owned()));
    }
    let sent = transport.build().send(message).await;
    sent.map(drop).map_err(|error| DeliveryError::Mail(in_full(&error)))
}

fn message(config: &MailConfig, notice: &Notice) -> Result<Message, DeliveryError> {
    let from = mailbox(&config.from).map_err(DeliveryError::Config)?;
    let id = format!("<{}.{:?}@{}>", notice.id, notice.kind, from.email.domain()).to_lowercase();
    let mut builder = Message::builder().from(from).subject(notice.subject()).message_id(Some(id));
    for to in &config.to {
        builder = builder.to(mailbox(to).map_err(DeliveryError::Config)?);
    }
    let message = builder.header(ContentType::TEXT_PLAIN).body(notice.text());
    message.map_err(|error| DeliveryError::Mail(in_full(&error)))
}

fn tls(config: &MailConfig, host: &str) -> Result<TlsParameters, DeliveryError> {
    let wrong = |error: lettre::transport::smtp::Error| DeliveryError::Trust(in_full(&error));
    let mut parameters = TlsParameters::builder(host.to_owned()).certificate_store(CertificateStore::None);
    for authority in trust::authorities(config.ca_file.as_deref())? {
        // The system's store may hold some that cannot be used; the others serve.
        if let Ok(certificate) = Certificate::from_der(authority.to_vec()) {
            parameters = parameters.add_root_certificate(certificate);
        }
    }
    parameters.build_rustls().map_err(wrong)
}
