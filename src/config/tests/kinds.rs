//! Kinds of providers for tests of the configuration alone: options as rich as any, and nothing behind them.

use crate::config::leaf::OneOrMany;
use rouse_contract::kind::Leaf;
use rouse_contract::units::Bytes;
use rouse_contract::{Installation, OptionFault, Provider, ProviderError, ProviderKind};
use rouse_model::failure::FailureClass;
use rouse_provider_local::LocalKind;
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// What the tests' configurations may use.
pub(super) fn all() -> Vec<Arc<dyn ProviderKind>> {
    vec![Arc::new(Containers), Arc::new(LocalKind)]
}

#[derive(Debug)]
struct Containers;

/// An account of containers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read through the schema alone")]
struct ContainerAccount {
    /// Where the daemon answers.
    host: Option<String>,
}

/// A pool of containers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read through the schema alone")]
struct ContainerOptions {
    /// The image, or several of which the first that exists is taken.
    image: Option<OneOrMany<String>>,
    /// Memory at most.
    memory: Option<Bytes>,
    /// Environment of the container.
    #[serde(default)]
    env: std::collections::BTreeMap<String, String>,
    /// Where it is mounted from.
    #[serde(default)]
    mounts: Vec<Mount>,
    /// How many CPUs.
    #[schemars(range(min = 1))]
    cpus: Option<u32>,
}

/// A folder of the host.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read through the schema alone")]
struct Mount {
    /// On the host.
    from: String,
    /// In the container.
    to: String,
}

fn schema<T: JsonSchema>() -> Schema {
    schemars::generate::SchemaSettings::draft07().into_generator().into_root_schema_for::<T>()
}

fn no_provider() -> ProviderError {
    ProviderError::new(FailureClass::Master, "connect", "there is nothing behind the kinds of these tests")
}

impl ProviderKind for Containers {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn account_schema(&self) -> Schema {
        schema::<ContainerAccount>()
    }

    fn pool_schema(&self) -> Schema {
        schema::<ContainerOptions>()
    }

    fn check_account(&self, options: &Value) -> Vec<OptionFault> {
        let host = options.get("host").and_then(Value::as_str).filter(|host| !host.contains("://"));
        let fault = host.map(|host| OptionFault {
            path: vec!["host".to_owned()],
            message: format!("`{host}` is no address of a daemon"),
            help: Some("as in `unix:///var/run/docker.sock`".to_owned()),
        });
        fault.into_iter().collect()
    }

    fn check_pool(&self, options: &Value) -> Vec<OptionFault> {
        let fault = OptionFault {
            path: Vec::new(),
            message: "no `image`".to_owned(),
            help: Some("as in `debian:12`".to_owned()),
        };
        if options.get("image").is_none() { vec![fault] } else { Vec::new() }
    }

    fn leaf(&self, path: &[&str]) -> Leaf {
        match path {
            ["image"] | ["image", "*"] => Leaf::Image,
            ["env", "*"] => Leaf::Text,
            _ => Leaf::Literal,
        }
    }

    fn images(&self, options: &Value) -> Vec<String> {
        options.get("image").and_then(Value::as_str).map(str::to_owned).into_iter().collect()
    }

    fn default_account(&self) -> Value {
        json!({})
    }

    fn connect(&self, _: &str, _: &Value, _: &Installation) -> Result<Arc<dyn Provider>, ProviderError> {
        Err(no_provider())
    }
}
