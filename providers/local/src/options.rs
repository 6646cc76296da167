//! What the configuration may say of the local provider.

use crate::Local;
use rouse_contract::kind::{env_faults, read_options, schema_of};
use rouse_contract::{Installation, Leaf, OptionFault, Provider, ProviderError, ProviderKind};
use rouse_model::failure::FailureClass;
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The local provider: workers are processes on the master's own host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccountOptions {
    /// Users that workers run as where the master is root, one for each worker. They need not exist. Where the master is not root,
    /// all workers run as its own user.
    pub uids: Uids,
    /// An absolute path for the workers' folders, which every user must be able to pass through. Default: within the master's state
    /// folder where that will do, else `/var/tmp/rouse-…`.
    pub folder: Option<PathBuf>,
}

/// A range of user ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Uids {
    /// The first user id. Default: 60800, a range that neither Debian nor systemd gives to others.
    pub first: u32,
    /// How many there are, and so how many workers there can be at once. Default: 380. With 0 every worker runs as the master's own user.
    pub count: u32,
}

impl Default for Uids {
    fn default() -> Self {
        Self { first: 60_800, count: 380 }
    }
}

/// A pool of local processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolOptions {
    /// Environment of the worker. Of the master's own environment only `PATH`, `LANG` and `TZ` are passed on.
    pub env: BTreeMap<String, String>,
}

/// The kind `local`.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalKind;

impl ProviderKind for LocalKind {
    fn name(&self) -> &'static str {
        "local"
    }

    fn account_schema(&self) -> Schema {
        schema_of::<AccountOptions>()
    }

    fn pool_schema(&self) -> Schema {
        schema_of::<PoolOptions>()
    }

    fn check_account(&self, options: &Value) -> Vec<OptionFault> {
        let options: AccountOptions = match read_options(options) {
            Ok(options) => options,
            Err(fault) => return vec![fault],
        };
        let mut faults = Vec::new();
        let Uids { first, count } = options.uids;
        if count > 0 && (first == 0 || first.checked_add(count).is_none()) {
            faults.push(OptionFault {
                path: vec!["uids".into(), "first".into()],
                message: format!("{first} and the {count} ids from it on are not ordinary users"),
                help: Some("take a range that nobody else uses, such as 60800".into()),
            });
        }
        if options.folder.is_some_and(|folder| !folder.is_absolute()) {
            faults.push(OptionFault {
                path: vec!["folder".into()],
                message: "the folder must be an absolute path".into(),
                help: None,
            });
        }
        faults
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

    fn on_master_host(&self) -> bool {
        true
    }

    fn default_account(&self) -> Value {
        Value::Object(serde_json::Map::new())
    }

    fn connect(
        &self,
        account: &str,
        options: &Value,
        installation: &Installation,
    ) -> Result<Arc<dyn Provider>, ProviderError> {
        let options = read_options(options).map_err(|fault| {
            ProviderError::new(FailureClass::Master, "read the local provider's options", fault.message)
        })?;
        Ok(Arc::new(Local::new(account, options, installation.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn faults_name_their_place() {
        let kind = LocalKind;
        assert_eq!(kind.check_account(&Value::Null), vec![]);
        let faults = kind.check_account(&json!({"uids": {"first": 0}, "folder": "work"}));
        let paths: Vec<String> = faults.iter().map(|f| f.path.join(".")).collect();
        assert_eq!(paths, ["uids.first", "folder"]);
        let faults = kind.check_pool(&json!({"env": {"ROUSE_TOKEN": "x", "A=B": "y", "CC": "gcc"}}));
        let paths: Vec<String> = faults.iter().map(|f| f.path.join(".")).collect();
        assert_eq!(paths, ["env.A=B", "env.ROUSE_TOKEN"]);
    }

    #[test]
    fn the_schema_tells_what_there_is() {
        let schema = serde_json::to_value(LocalKind.account_schema()).expect("JSON");
        assert_eq!(schema["additionalProperties"], json!(false));
        let hover = schema["properties"]["uids"]["properties"]["count"]["description"].as_str();
        assert!(hover.is_some_and(|text| text.contains("Default: 380")), "{schema:#}");
    }
}
