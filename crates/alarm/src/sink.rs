//! One configured way to tell somebody, with its limit of time.

use crate::config::AlarmConfig;
use crate::{DeliveryError, Notice, mail, script, webhook};

/// Delivers the notices of one alarm.
#[derive(Clone, Debug)]
pub struct Sink(AlarmConfig);

impl Sink {
    #[must_use]
    pub fn new(config: AlarmConfig) -> Self {
        Self(config)
    }

    #[must_use]
    pub fn config(&self) -> &AlarmConfig {
        &self.0
    }

    /// `webhook`, `mail` or `script`.
    #[must_use]
    pub fn way(&self) -> &'static str {
        match (&self.0.webhook, &self.0.mail) {
            (Some(_), _) => "webhook",
            (None, Some(_)) => "mail",
            (None, None) => "script",
        }
    }

    /// One attempt. Nothing of it goes on after it has returned, or was dropped.
    ///
    /// # Errors
    /// [`DeliveryError`]; whether the other side has seen the notice is not known then.
    pub async fn deliver(&self, notice: &Notice) -> Result<(), DeliveryError> {
        let limit = self.0.limit();
        tokio::time::timeout(limit, self.attempt(notice)).await.unwrap_or(Err(DeliveryError::Late(limit)))
    }

    async fn attempt(&self, notice: &Notice) -> Result<(), DeliveryError> {
        match (&self.0.webhook, &self.0.mail, &self.0.script) {
            (Some(config), ..) => webhook::deliver(config, notice).await,
            (None, Some(config), _) => mail::deliver(config, notice).await,
            (None, None, Some(config)) => script::deliver(config, notice).await,
            (None, None, None) => Err(DeliveryError::Config("no way is configured".to_owned())),
        }
    }
}
