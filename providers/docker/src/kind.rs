//! What Docker tells the configuration.

use crate::container::INSIDE;
use crate::daemon;
use crate::docker::DockerProvider;
use crate::mounts;
use crate::options::{self, AccountOptions, PoolOptions};
use rouse_contract::kind::{is_template, read_options};
use rouse_contract::{Installation, Leaf, OptionFault, Provider, ProviderError, ProviderKind};
use rouse_model::failure::FailureClass;
use schemars::Schema;
use serde_json::Value;
use std::sync::Arc;

/// The kind `docker`.
#[derive(Debug, Clone, Copy, Default)]
pub struct DockerKind;

impl ProviderKind for DockerKind {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn account_schema(&self) -> Schema {
        options::account_schema()
    }

    fn pool_schema(&self) -> Schema {
        options::pool_schema()
    }

    fn check_account(&self, options: &Value) -> Vec<OptionFault> {
        let options: AccountOptions = match read_options(options) {
            Ok(options) => options,
            Err(fault) => return vec![fault],
        };
        match options.host {
            Some(host) if !daemon::is_address(&host) => vec![OptionFault {
                path: vec!["host".into()],
                message: format!("`{host}` is not the address of a daemon"),
                help: Some("write `unix:///PATH`, `tcp://HOST:PORT` or `http://HOST:PORT`".into()),
            }],
            _ => Vec::new(),
        }
    }

    fn check_pool(&self, options: &Value) -> Vec<OptionFault> {
        match read_options(options) {
            Ok(options) => pool_faults(&options),
            Err(fault) => vec![fault],
        }
    }

    fn leaf(&self, path: &[&str]) -> Leaf {
        match path {
            ["image"] | ["image", _] => Leaf::Image,
            ["mounts", _, "source"] => Leaf::Allowed,
            ["user" | "platform"] | ["env" | "labels" | "entrypoint" | "command", _] => Leaf::Text,
            _ => Leaf::Literal,
        }
    }

    fn images(&self, options: &Value) -> Vec<String> {
        read_options::<PoolOptions>(options).map(|options| options.image.list()).unwrap_or_default()
    }

    fn resolve_keys(&self) -> &'static [&'static str] {
        &["platform", "pull"]
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
        let options: AccountOptions = read_options(options).map_err(|fault| {
            ProviderError::new(FailureClass::Master, "read Docker's options", fault.message)
        })?;
        Ok(Arc::new(DockerProvider::new(account, &options, installation.clone())?))
    }
}

fn fault(path: &[&str], message: impl Into<String>, help: Option<&str>) -> OptionFault {
    OptionFault {
        path: path.iter().map(|&key| key.to_owned()).collect(),
        message: message.into(),
        help: help.map(str::to_owned),
    }
}

fn pool_faults(options: &PoolOptions) -> Vec<OptionFault> {
    let mut faults = Vec::new();
    let images = options.image.list();
    if images.is_empty() || images.iter().any(|image| image.trim().is_empty()) {
        faults.push(fault(&["image"], "an image is needed", Some("for example `image: debian:12`")));
    }
    for name in options.env.keys() {
        if name.is_empty() || name.contains(['=', '\0']) {
            faults.push(fault(&["env", name], "this is not a name of an environment variable", None));
        } else if name.starts_with("ROUSE_") {
            faults.push(fault(&["env", name], "names that start with `ROUSE_` are Rouse's own", None));
        }
    }
    for name in options.labels.keys().filter(|name| name.starts_with("rouse.")) {
        faults.push(fault(&["labels", name], "labels that start with `rouse.` are Rouse's own", None));
    }
    for (index, mount) in options.mounts.iter().enumerate() {
        let index = index.to_string();
        if let Some((key, message)) = mounts::fault(mount) {
            faults.push(fault(&["mounts", &index, key], message, None));
        }
        if let Some(message) = target_fault(&mount.target) {
            faults.push(fault(&["mounts", &index, "target"], message, None));
        }
    }
    if options.network.as_deref().is_some_and(|name| name.is_empty() || is_template(name)) {
        let message = "the network decides what builds can reach, so it is written out, without a template";
        faults.push(fault(&["network"], message, None));
    }
    if options.cpus.is_some_and(|cpus| !cpus.is_finite() || cpus <= 0.0) {
        faults.push(fault(&["cpus"], "an amount of processors is more than 0", None));
    }
    if options.platform.as_deref().is_some_and(|text| !is_template(text) && !is_platform(text)) {
        let help = Some("write `linux/amd64` or `linux/arm64`");
        faults.push(fault(&["platform"], "this is not a platform", help));
    }
    faults
}

fn target_fault(target: &str) -> Option<&'static str> {
    if !target.starts_with('/') || target == "/" {
        return Some("the place in the worker must be an absolute path below `/`");
    }
    let own = target == INSIDE || target.strip_prefix(INSIDE).is_some_and(|rest| rest.starts_with('/'));
    own.then_some("`/.rouse` is Rouse's own")
}

fn is_platform(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    parts.first() == Some(&"linux")
        && (2..=3).contains(&parts.len())
        && parts.iter().all(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paths(faults: &[OptionFault]) -> Vec<String> {
        faults.iter().map(|f| f.path.join(".")).collect()
    }

    #[test]
    fn faults_name_their_place() {
        let kind = DockerKind;
        assert_eq!(kind.check_account(&Value::Null), vec![]);
        assert_eq!(paths(&kind.check_account(&json!({"host": "ssh://x"}))), ["host"]);
        let fine = json!({
            "image": ["app:{{ branch | tag }}", "app:latest"], "user": "1000", "network": "none", "cpus": 0.5, "memory": "1 GiB",
            "mounts": [{"source": "/srv/cache", "target": "/cache", "readonly": true}], "platform": "linux/arm64/v8", "pull": "newer",
        });
        assert_eq!(kind.check_pool(&fine), vec![]);
        assert_eq!(kind.images(&fine), ["app:{{ branch | tag }}", "app:latest"]);
        let faulty = json!({
            "image": [], "env": {"ROUSE_X": "1"}, "labels": {"rouse.token": "x"}, "network": "{{ net }}", "cpus": 0,
            "mounts": [{"source": "{{ p }}", "target": "/.rouse/bin"}, {"source": "/", "target": "here"}], "platform": "amd64",
        });
        let expected = [
            "image",
            "env.ROUSE_X",
            "labels.rouse.token",
            "mounts.0.source",
            "mounts.0.target",
            "mounts.1.target",
            "network",
            "cpus",
            "platform",
        ];
        assert_eq!(paths(&kind.check_pool(&faulty)), expected);
        assert_eq!(paths(&kind.check_pool(&Value::Null)), ["image"]);
    }

    #[test]
    fn what_reaches_the_host_is_never_rendered() {
        let kind = DockerKind;
        assert_eq!(kind.leaf(&["image"]), Leaf::Image);
        assert_eq!(kind.leaf(&["image", "*"]), Leaf::Image);
        assert_eq!(kind.leaf(&["env", "*"]), Leaf::Text);
        assert_eq!(kind.leaf(&["mounts", "*", "source"]), Leaf::Allowed);
        for literal in [
            &["mounts", "*", "allow", "*"][..],
            &["mounts", "*", "target"],
            &["network"],
            &["memory"],
            &["pull"],
        ] {
            assert_eq!(kind.leaf(literal), Leaf::Literal, "{literal:?}");
        }
    }

    #[test]
    fn the_schema_tells_what_there_is() {
        let schema = serde_json::to_value(DockerKind.pool_schema()).expect("JSON");
        assert_eq!(schema["additionalProperties"], json!(false));
        assert_eq!(schema["required"], json!(["image"]), "{schema:#}");
        assert_eq!(schema["properties"]["memory"]["format"], json!("bytes"), "{schema:#}");
        let hover = schema["properties"]["pids"]["description"].as_str();
        assert!(hover.is_some_and(|text| text.contains("Default: no limit")), "{schema:#}");
    }
}
