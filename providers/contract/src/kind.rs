//! What a provider tells the configuration: its options' shape and checks, so that config needs no list of providers.

use crate::{Installation, Offer, Provider, ProviderError, TreeWish};
use rouse_model::placement::Room;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
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
    /// Can reach the host: rendered, and held by the provider against the allow list beside it. Without such a list
    /// [`ProviderKind::check_pool`] refuses a template.
    Allowed,
    /// The name of a codebase. Never rendered.
    Codebase,
    /// `secret:NAME`: never rendered, and its value never stands in the options. The provider asks the call's [`crate::Keyring`] for it.
    Secret,
    /// Never rendered: it can reach the host, or it decides what the pool is.
    Literal,
}

/// A kind of provider: the key that stands in the configuration, the types of its options, and how to make one.
pub trait ProviderKind: fmt::Debug + Send + Sync {
    /// The key: `docker`, `local`.
    fn name(&self) -> &'static str;

    /// Draft-07 schema of an account's options (`providers.NAME.KIND`), without references, as [`schema_of`] makes it.
    fn account_schema(&self) -> Schema;

    /// Draft-07 schema of a pool's options (`pools.NAME.KIND`), without references and without `on`, which the configuration owns.
    fn pool_schema(&self) -> Schema;

    /// Checks beyond the schema's. Called only with options that meet the schema.
    fn check_account(&self, options: &Value) -> Vec<OptionFault>;

    /// Checks beyond the schema's. Called only with options that meet the schema.
    fn check_pool(&self, options: &Value) -> Vec<OptionFault>;

    /// How the string under `path` (keys, with `*` for an index or a map's key) is used. Unknown paths are `Literal`.
    fn leaf(&self, path: &[&str]) -> Leaf;

    /// The images of a pool's options in order; empty where the kind has none.
    fn images(&self, options: &Value) -> Vec<String>;

    /// The images of the services that run beside a worker, by the services' names; empty where the kind has none.
    fn images_beside(&self, _options: &Value) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// The part of the project's tree that a pool's image is made of, by its rendered options; `None` where it is made elsewhere.
    fn tree(&self, _options: &Value) -> Option<TreeWish> {
        None
    }

    /// The keys of a pool's rendered options that decide, beside the images, what is found and how: a platform, a pull policy.
    fn resolve_keys(&self, _options: &Value) -> &'static [&'static str] {
        &[]
    }

    /// What all workers on an account may take together, as its options say.
    fn capacity(&self, _account: &Value) -> Room {
        Room::default()
    }

    /// What one worker of a pool takes of its account. Options that are templates are not known.
    fn takes(&self, _pool: &Value) -> Room {
        Room::ONE
    }

    /// What a worker of a pool may be launched as, in order, by its options as they are written: they stand under `offers`, and are no templates. Empty where
    /// there is nothing to choose: then a worker costs what its pool says.
    fn offers(&self, _pool: &Value) -> Vec<Offer> {
        Vec::new()
    }

    /// Why workers of a pool cannot be parked, by its options as they are written; `None` where they can: then its provider's
    /// [`Capabilities::park`](crate::Capabilities::park) says so too.
    fn cannot_park(&self, _pool: &Value) -> Option<String> {
        Some(format!("an instance of `{}` that is stopped cannot be started again", self.name()))
    }

    /// The account to use where the configuration names none, as options.
    fn default_account(&self) -> Value;

    /// Whether its builds run on the master's own host, apart from the master by a user id at most.
    fn on_master_host(&self) -> bool {
        false
    }

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

/// The draft-07 schema of an options type, without references, so that it can stand within another schema.
#[must_use]
pub fn schema_of<T: JsonSchema>() -> Schema {
    SchemaSettings::draft07()
        .with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        })
        .into_generator()
        .into_root_schema_for::<T>()
}

/// Reads options whose shape the schema has checked. `null` (a kind without any option) reads as no options.
///
/// # Errors
/// A fault at the options' root: the schema said less than the type does.
pub fn read_options<T: DeserializeOwned>(options: &Value) -> Result<T, OptionFault> {
    let empty = Value::Object(serde_json::Map::new());
    let options = if options.is_null() { &empty } else { options };
    T::deserialize(options).map_err(|error| OptionFault {
        path: Vec::new(),
        message: error.to_string(),
        help: None,
    })
}

/// What is wrong with names under a pool's `env`.
pub fn env_faults<'a>(names: impl IntoIterator<Item = &'a String>) -> impl Iterator<Item = OptionFault> {
    names.into_iter().filter_map(|name| {
        let message = if name.is_empty() || name.contains(['=', '\0']) {
            "this is not a name of an environment variable"
        } else if name.starts_with("ROUSE_") {
            "names that start with `ROUSE_` are Rouse's own"
        } else {
            return None;
        };
        Some(OptionFault { path: vec!["env".into(), name.clone()], message: message.into(), help: None })
    })
}

/// Whether a string holds a template.
#[must_use]
pub fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}
