//! What a provider tells the configuration: its options' shape and checks, so that config needs no list of providers.

use crate::{Installation, Provider, ProviderError};
use schemars::Schema;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

/// One fault in a provider's options. The configuration adds file, line and frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionFault {
    /// Keys and indexes from the options' root to the faulty node.
    pub path: Vec<String>,
    pub message: String,
    pub help: Option<String>,
}

/// How the master uses one string of a pool's options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaf {
    /// Rendered with the build's properties as an image reference.
    Image,
    /// Rendered as one argument or value.
    Text,
    /// Can reach the host: literal, or from an allow list. Never rendered.
    Literal,
}

/// A kind of provider: the key that stands in the configuration, the types of its options, and how to make one.
pub trait ProviderKind: fmt::Debug + Send + Sync {
    /// The key: `docker`, `local`.
    fn name(&self) -> &'static str;

    /// Draft-07 schema of an account's options (`providers.NAME.KIND`).
    fn account_schema(&self) -> Schema;

    /// Draft-07 schema of a pool's options (`pools.NAME.KIND`), without `on`, which the configuration owns.
    fn pool_schema(&self) -> Schema;

    /// Checks beyond the schema's. Called only with options that meet the schema.
    fn check_account(&self, options: &Value) -> Vec<OptionFault>;

    /// Checks beyond the schema's. Called only with options that meet the schema.
    fn check_pool(&self, options: &Value) -> Vec<OptionFault>;

    /// How the string under `path` (keys, with `*` for an index or a map's key) is used. Unknown paths are `Literal`.
    fn leaf(&self, path: &[&str]) -> Leaf;

    /// The images of a pool's options in order; empty where the kind has none.
    fn images(&self, options: &Value) -> Vec<String>;

    /// The account to use where the configuration names none, as options.
    fn default_account(&self) -> Value;

    /// Makes the account. Does not call it: a daemon that is away is found out by the first call.
    ///
    /// # Errors
    /// Where the options cannot work on this host at all.
    fn connect(
        &self,
        account: &str,
        options: &Value,
        installation: &Installation,
    ) -> Result<Arc<dyn Provider>, ProviderError>;
}
