//! What a configuration may say of the fake provider.

use crate::Cloud;
use crate::provider::Fake;
use rouse_contract::kind::{read_options, schema_of};
use rouse_contract::units::{Rate, Span};
use rouse_contract::{Installation, Leaf, OptionFault, Provider, ProviderError, ProviderKind};
use rouse_model::failure::FailureClass;
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A cloud in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccountOptions {
    /// How long each call takes. Default: none.
    pub latency: Option<Span>,
    /// The most instances at once. Default: no limit.
    pub capacity: Option<usize>,
    /// How many instances one launch makes at most. Default: 1.
    pub batch: Option<usize>,
    /// The most looks, and the most launches and ends, of all that use the cloud; what is more is refused. Default: no limit.
    pub rate: Option<Rate>,
}

impl AccountOptions {
    pub(crate) fn batch(&self) -> usize {
        self.batch.unwrap_or(1).max(1)
    }
}

/// A pool of instances in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolOptions {
    /// One that the cloud has. A launch is told of it apart from the other options.
    pub image: String,
    /// How long an instance boots. Default: it does not.
    pub boot: Option<Span>,
}

impl PoolOptions {
    pub(crate) fn boot(&self) -> Duration {
        self.boot.map_or(Duration::ZERO, |span| span.0)
    }
}

/// The kind `fake`, on one cloud.
#[derive(Debug, Clone)]
pub struct FakeKind {
    cloud: Arc<Cloud>,
    dead: Option<watch::Receiver<bool>>,
}

impl FakeKind {
    #[must_use]
    pub fn new(cloud: Arc<Cloud>) -> Self {
        Self { cloud, dead: None }
    }

    /// As a master has it that may die: from then on it asks nothing, and nobody answers it.
    #[must_use]
    pub fn of_mortal(cloud: Arc<Cloud>, dead: watch::Receiver<bool>) -> Self {
        Self { cloud, dead: Some(dead) }
    }
}

impl ProviderKind for FakeKind {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn account_schema(&self) -> Schema {
        schema_of::<AccountOptions>()
    }

    fn pool_schema(&self) -> Schema {
        schema_of::<PoolOptions>()
    }

    fn check_account(&self, options: &Value) -> Vec<OptionFault> {
        match read_options::<AccountOptions>(options) {
            Ok(AccountOptions { capacity: Some(0), .. }) => vec![OptionFault {
                path: vec!["capacity".into()],
                message: "a cloud without room is of no use".into(),
                help: Some("leave it out where there is no limit".into()),
            }],
            Ok(_) => Vec::new(),
            Err(fault) => vec![fault],
        }
    }

    fn check_pool(&self, options: &Value) -> Vec<OptionFault> {
        match read_options::<PoolOptions>(options) {
            Ok(PoolOptions { image, .. }) if image.is_empty() => vec![OptionFault {
                path: vec!["image".into()],
                message: "a pool in this cloud needs an image".into(),
                help: None,
            }],
            Ok(_) => Vec::new(),
            Err(fault) => vec![fault],
        }
    }

    fn leaf(&self, path: &[&str]) -> Leaf {
        match path {
            ["image"] => Leaf::Image,
            _ => Leaf::Literal,
        }
    }

    fn images(&self, options: &Value) -> Vec<String> {
        options.get("image").and_then(Value::as_str).map(str::to_owned).into_iter().collect()
    }

    fn default_account(&self) -> Value {
        Value::Object(serde_json::Map::new())
    }

    fn connect(
        &self,
        _account: &str,
        options: &Value,
        installation: &Installation,
    ) -> Result<Arc<dyn Provider>, ProviderError> {
        let options = read_options(options).map_err(|fault| {
            ProviderError::new(FailureClass::Master, "read the fake provider's options", fault.message)
        })?;
        let cloud = Arc::clone(&self.cloud);
        Ok(Arc::new(Fake::new(cloud, options, installation.id.clone(), self.dead.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rouse_model::Timestamp;
    use rouse_testkit::clock::SimClock;
    use serde_json::json;

    #[test]
    fn faults_name_their_place() {
        let kind = FakeKind::new(Cloud::new(Arc::new(SimClock::at(Timestamp(0))), 1, &[]));
        assert_eq!(kind.check_account(&json!({"latency": "5ms", "capacity": 1})), vec![]);
        assert_eq!(kind.check_account(&json!({"capacity": 0}))[0].path, ["capacity"]);
        assert_eq!(kind.check_pool(&json!({"image": "a:1", "boot": "2m"})), vec![]);
        assert_eq!(kind.check_pool(&json!({"boot": "2m"}))[0].path, ["image"]);
        assert_eq!((kind.leaf(&["image"]), kind.leaf(&["boot"])), (Leaf::Image, Leaf::Literal));
    }
}
