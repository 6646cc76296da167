//! Secrets that a pool's options name, for the provider's own use: logins to registries. Builds never see them, so what decides is not a build's
//! trust but the pool, which says whose builds it takes; and a secret that is for some projects is used for their builds alone.

use super::{SecretError, fetch_for_master};
use crate::ctx::Active;
use async_trait::async_trait;
use rouse_contract::{Keyring, ProviderError, Reveal, Revealed};
use rouse_model::failure::FailureClass;
use std::sync::Arc;
use std::time::Duration;

/// When whoever keeps a secret is asked again that did not answer.
const AWAY: Duration = Duration::from_secs(5);

/// What reveals secrets for a call that is made for a project.
#[must_use]
pub fn keyring(active: Arc<Active>, project: &str) -> Keyring {
    Keyring::new(project, Arc::new(OfProject { active, project: project.to_owned() }))
}

struct OfProject {
    active: Arc<Active>,
    project: String,
}

#[async_trait]
impl Reveal for OfProject {
    async fn reveal(&self, reference: &str) -> Result<Revealed, ProviderError> {
        let name = reference.strip_prefix("secret:").unwrap_or(reference);
        let failed = |error: SecretError| {
            let (class, away) = (FailureClass::Image, error.is_away());
            let class = if away { FailureClass::Offering } else { class };
            let failed =
                ProviderError::new(class, "fetch the login to a registry", crate::supervisor::chain(&error));
            if away { failed.retry_after(AWAY) } else { failed }
        };
        let config = &self.active.config;
        if let Some((_, secret)) = config.secrets.iter().find(|(known, _)| known.as_str() == name)
            && !secret.reach.covers(&self.project, None)
        {
            return Err(failed(SecretError::OtherProject {
                name: name.into(),
                project: self.project.clone(),
            }));
        }
        let value = fetch_for_master(config, name).await.map_err(failed)?;
        Ok(Revealed::new(value.reveal()))
    }
}
