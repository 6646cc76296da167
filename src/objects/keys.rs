//! The two secrets that open a bucket.

use crate::config::{Config, ObjectsConfig};
use crate::secrets::{SecretError, SecretValue, fetch_for_master};
use async_trait::async_trait;
use std::fmt;

/// Who has them, as they are now: an id, and the key.
#[async_trait]
pub trait Keys: fmt::Debug + Send + Sync {
    /// # Errors
    /// Where they cannot be had.
    async fn pair(&self) -> Result<(SecretValue, SecretValue), SecretError>;
}

/// The keys of a bucket by a configuration that stays as it is.
#[derive(Debug)]
pub struct KeysOf {
    pub config: Config,
    pub objects: ObjectsConfig,
}

#[async_trait]
impl Keys for KeysOf {
    async fn pair(&self) -> Result<(SecretValue, SecretValue), SecretError> {
        pair(&self.config, &self.objects).await
    }
}

/// The keys that a bucket's section names, by the secrets of a configuration.
///
/// # Errors
/// Where they cannot be had.
pub async fn pair(
    config: &Config,
    objects: &ObjectsConfig,
) -> Result<(SecretValue, SecretValue), SecretError> {
    let Some(keys) = &objects.keys else {
        return Err(SecretError::Unknown("server.objects.access_key".into()));
    };
    let id = fetch_for_master(config, keys.access_key.as_str()).await?;
    Ok((id, fetch_for_master(config, keys.secret_key.as_str()).await?))
}
