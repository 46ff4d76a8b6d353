//! The agent's certificate renews itself from two thirds of its life on: asked for over the link, durable before it is shown, and
//! shown before the next one is asked for.
//!
//! The server accepts the certificate that the agent showed last and the one that it issued last, and no other. In this order
//! the agent holds one of the two at every moment, whatever is lost and wherever it is killed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tanist_model::time::{Monotonic, Now, Timestamp};
use tanist_protocol::message::AgentMessage;
use tanist_wire::identity::{Identity, IdentityError};
use tanist_wire::tls::LiveCertificate;
use tokio::sync::watch;

/// Pause before a renewal that brought nothing is asked for again. Each attempt is a certificate and an entry in the audit log.
const ASK_AGAIN: Duration = Duration::from_mins(10);

/// The serial number of the certificate that new connections show.
pub(crate) type Serial = String;

/// The agent's identity while it runs.
pub(crate) struct Renewal {
    identity: Identity,
    folder: PathBuf,
    live: Arc<LiveCertificate>,
    serial: watch::Sender<Serial>,
    /// What the link that stands has shown.
    shown: Option<Serial>,
    asked_at: Option<Monotonic>,
}

impl Renewal {
    /// The identity of `folder`, with the serial number that the link follows.
    pub(crate) fn new(
        identity: Identity,
        folder: PathBuf,
        live: Arc<LiveCertificate>,
    ) -> (Self, watch::Receiver<Serial>) {
        let (serial, followed) = watch::channel(identity.holder().serial_hex.clone());
        (Self { identity, folder, live, serial, shown: None, asked_at: None }, followed)
    }

    /// A link stands that has shown this certificate.
    pub(crate) fn linked(&mut self, shown: Serial) {
        self.shown = Some(shown);
        self.asked_at = None;
    }

    /// The request to send, if it is time for one.
    pub(crate) fn request_if_due(&mut self, now: Now) -> Option<AgentMessage> {
        let is_shown = self.shown.as_ref() == Some(&self.identity.holder().serial_hex);
        let waits = self.asked_at.is_some_and(|at| now.monotonic.since(at) < ASK_AGAIN);
        if !is_shown || waits || !self.identity.renew_due(now.wall) {
            return None;
        }
        self.asked_at = Some(now.monotonic);
        match self.identity.key().certificate_request() {
            Ok(csr_pem) => Some(AgentMessage::RenewCertificate { csr_pem }),
            Err(error) => {
                tracing::error!(%error, "the renewal of the certificate cannot be asked for");
                None
            }
        }
    }

    /// Takes a renewed certificate into use, or keeps the present one.
    pub(crate) fn install(&mut self, certificate_pem: String, now: Timestamp) {
        match self.renewed(certificate_pem, now) {
            Ok(renewed) => {
                tracing::info!(expires_at = %renewed.holder().not_after, "the certificate was renewed");
                self.live.replace(&renewed);
                self.serial.send_replace(renewed.holder().serial_hex.clone());
                self.identity = renewed;
            }
            Err(error) => {
                let hint = error.hint();
                tracing::error!(%error, hint, "the renewed certificate cannot be used; the present one is kept");
            }
        }
    }

    fn renewed(&self, certificate_pem: String, now: Timestamp) -> Result<Identity, IdentityError> {
        let renewed = self.identity.renewed(certificate_pem, now)?;
        renewed.save_certificate(&self.folder)?;
        Ok(renewed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tanist_model::id::{AgentName, ClusterId};
    use tanist_wire::ca::{CertificateAuthority, MEMBER_LIFETIME};
    use tanist_wire::identity::PrivateKey;

    const MADE: Timestamp = Timestamp(1_795_342_800_000_000);

    struct Bench {
        authority: CertificateAuthority,
        folder: tempfile::TempDir,
        renewal: Renewal,
        followed: watch::Receiver<Serial>,
    }

    impl Bench {
        fn new() -> Self {
            let authority = CertificateAuthority::create(ClusterId(7), MADE).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let key = PrivateKey::generate().unwrap();
            let pem = issue(&authority, &key.certificate_request().unwrap(), MADE);
            let identity = Identity::new(key, pem, authority.certificate_pem().to_owned()).unwrap();
            identity.save(folder.path()).unwrap();
            let live = LiveCertificate::new(&identity);
            let (mut renewal, followed) = Renewal::new(identity, folder.path().to_owned(), live);
            renewal.linked(followed.borrow().clone());
            Self { authority, folder, renewal, followed }
        }

        fn ask(&mut self, seconds: u64) -> Option<String> {
            let now = Now { monotonic: Monotonic(seconds * 1_000_000), wall: due() };
            match self.renewal.request_if_due(now)? {
                AgentMessage::RenewCertificate { csr_pem } => Some(csr_pem),
                other => panic!("{other:?}"),
            }
        }

        fn stored(&self) -> Serial {
            Identity::load(self.folder.path()).unwrap().holder().serial_hex.clone()
        }
    }

    fn issue(authority: &CertificateAuthority, request: &str, at: Timestamp) -> String {
        authority.issue_agent(request, &AgentName::new("h1").unwrap(), at).unwrap().certificate_pem
    }

    fn due() -> Timestamp {
        MADE.plus(MEMBER_LIFETIME / 3 * 2)
    }

    #[test]
    fn a_renewal_is_asked_for_when_due_and_repeated_after_a_pause_or_on_a_new_link() {
        let mut bench = Bench::new();
        assert!(bench.renewal.request_if_due(Now { monotonic: Monotonic(0), wall: MADE }).is_none());
        assert!(bench.ask(1).is_some());
        assert!(bench.ask(2).is_none(), "an answer may be on its way");
        assert!(bench.ask(1 + ASK_AGAIN.as_secs()).is_some());
        let shown = bench.followed.borrow().clone();
        bench.renewal.linked(shown);
        assert!(bench.ask(2 + ASK_AGAIN.as_secs()).is_some(), "the answer went down with the old link");
    }

    #[test]
    fn a_renewed_certificate_is_shown_before_the_next_is_asked_for() {
        let mut bench = Bench::new();
        let request = bench.ask(1).unwrap();
        // So short a life that the next renewal is due at once.
        let old = bench.followed.borrow_and_update().clone();
        let pem = issue(&bench.authority, &request, MADE);
        bench.renewal.install(pem, due());
        assert!(bench.followed.has_changed().unwrap());
        let new = bench.followed.borrow().clone();
        assert!(new != old && bench.stored() == new);
        assert!(bench.ask(10_000).is_none(), "the link has not shown it");
        bench.renewal.linked(old);
        assert!(bench.ask(20_000).is_none(), "this one was dialled before");
        bench.renewal.linked(new);
        assert!(bench.ask(30_000).is_some());
    }

    #[test]
    fn a_certificate_that_cannot_be_stored_or_used_is_not_shown() {
        let mut bench = Bench::new();
        let request = bench.ask(1).unwrap();
        let old = bench.followed.borrow_and_update().clone();
        let tomorrow = due().plus(Duration::from_hours(24));
        let early = issue(&bench.authority, &request, tomorrow);
        bench.renewal.install(early, due());
        bench.renewal.install("nonsense".to_owned(), due());
        let good = issue(&bench.authority, &request, due());
        // A directory in the way of the temporary file: it cannot be written, whoever runs the test.
        std::fs::create_dir(bench.folder.path().join("certificate.pem.new")).unwrap();
        bench.renewal.install(good.clone(), due());
        assert!(!bench.followed.has_changed().unwrap());
        assert_eq!(bench.stored(), old);
        std::fs::remove_dir(bench.folder.path().join("certificate.pem.new")).unwrap();
        bench.renewal.install(good, due());
        assert!(bench.followed.has_changed().unwrap());
        assert_eq!(bench.stored(), *bench.followed.borrow());
    }
}
