//! What the configuration may say of enrolled machines.

use crate::Hub;
use crate::provider::Machines;
use rouse_contract::kind::{env_faults, read_options, schema_of};
use rouse_contract::{Installation, Leaf, OptionFault, Provider, ProviderError, ProviderKind};
use rouse_model::failure::FailureClass;
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Machines that somebody else starts, and that come to the master by themselves: `rouse worker enroll`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccountOptions {
    /// Workers that one machine runs at the same time. Default: 1.
    #[schemars(range(min = 1, max = 1_000))]
    pub workers: usize,
}

impl Default for AccountOptions {
    fn default() -> Self {
        Self { workers: 1 }
    }
}

/// A pool of processes on enrolled machines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolOptions {
    /// Environment of the worker. Of the machine's own environment only `PATH`, `LANG` and `TZ` are passed on.
    pub env: BTreeMap<String, String>,
}

/// The kind `enrolled`, on the machines that a hub knows.
#[derive(Debug, Clone, Default)]
pub struct EnrolledKind(pub Arc<Hub>);

impl ProviderKind for EnrolledKind {
    fn name(&self) -> &'static str {
        "enrolled"
    }

    fn account_schema(&self) -> Schema {
        schema_of::<AccountOptions>()
    }

    fn pool_schema(&self) -> Schema {
        schema_of::<PoolOptions>()
    }

    fn check_account(&self, options: &Value) -> Vec<OptionFault> {
        read_options::<AccountOptions>(options).err().into_iter().collect()
    }

    fn check_pool(&self, options: &Value) -> Vec<OptionFault> {
        let options: PoolOptions = match read_options(options) {
            Ok(options) => options,
            Err(fault) => return vec![fault],
        };
        env_faults(options.env.keys()).collect()
    }

    fn leaf(&self, path: &[&str]) -> Leaf {
        match path {
            ["env", _] => Leaf::Text,
            _ => Leaf::Literal,
        }
    }

    fn images(&self, _options: &Value) -> Vec<String> {
        Vec::new()
    }

    fn default_account(&self) -> Value {
        Value::Object(serde_json::Map::new())
    }

    fn connect(
        &self,
        account: &str,
        options: &Value,
        _installation: &Installation,
    ) -> Result<Arc<dyn Provider>, ProviderError> {
        let options: AccountOptions = read_options(options).map_err(|fault| {
            ProviderError::new(FailureClass::Master, "read the options of enrolled machines", fault.message)
        })?;
        Ok(Arc::new(Machines::new(Arc::clone(&self.0), account, options.workers)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn faults_name_their_place() {
        let kind = EnrolledKind::default();
        assert_eq!(kind.check_account(&Value::Null), vec![]);
        let faults = kind.check_pool(&json!({"env": {"ROUSE_TOKEN": "x", "A=B": "y", "CC": "gcc"}}));
        let paths: Vec<String> = faults.iter().map(|f| f.path.join(".")).collect();
        assert_eq!(paths, ["env.A=B", "env.ROUSE_TOKEN"]);
    }
}
