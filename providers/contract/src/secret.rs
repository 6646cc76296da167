//! Secret values that a provider needs for a call, fetched late by whoever asked: they are handed beside a request, never within what is
//! stored, compared or shown.

use crate::ProviderError;
use async_trait::async_trait;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A value. It shows itself to nobody who does not ask.
#[derive(Clone, PartialEq, Eq)]
pub struct Revealed(String);

impl Revealed {
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Revealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Revealed(…)")
    }
}

/// Turns a reference, as it stands in the options under a [`crate::Leaf::Secret`], into its value.
#[async_trait]
pub trait Reveal: Send + Sync {
    /// The value now.
    ///
    /// # Errors
    /// Where whoever the call is for may not use it, or it cannot be had. Never says a value.
    async fn reveal(&self, reference: &str) -> Result<Revealed, ProviderError>;
}

/// What reveals the secrets of one call.
#[derive(Clone, Default)]
pub struct Keyring {
    /// Whom the call is for: two with the same may use the same secrets.
    whose: String,
    reveals: Option<Arc<dyn Reveal>>,
}

impl Keyring {
    pub fn new(whose: impl Into<String>, reveals: Arc<dyn Reveal>) -> Self {
        Self { whose: whose.into(), reveals: Some(reveals) }
    }

    /// # Errors
    /// As [`Reveal::reveal`] says, and where there is nobody to ask.
    pub async fn reveal(&self, reference: &str) -> Result<Revealed, ProviderError> {
        match &self.reveals {
            Some(reveals) => reveals.reveal(reference).await,
            None => Err(ProviderError::new(
                rouse_model::failure::FailureClass::Master,
                format!("fetch {reference}"),
                "no secrets are at hand here",
            )),
        }
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({})", self.whose)
    }
}

impl PartialEq for Keyring {
    fn eq(&self, other: &Self) -> bool {
        self.whose == other.whose
    }
}

impl Eq for Keyring {}

impl Hash for Keyring {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.whose.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_shows_itself_to_nobody() {
        assert!(!format!("{:?}", Revealed::new("open-sesame")).contains("sesame"));
    }

    #[tokio::test]
    async fn an_empty_ring_has_no_keys() {
        let error = Keyring::default().reveal("secret:registry").await.expect_err("nobody to ask");
        assert!(error.to_string().contains("secret:registry"), "{error}");
    }
}
