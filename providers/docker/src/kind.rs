//! What Docker tells the configuration.

use crate::build::Places;
use crate::container::INSIDE;
use crate::daemon::Scheme;
use crate::docker::DockerProvider;
use crate::mounts;
use crate::options::{self, AccountOptions, BuildOptions, LoginOptions, PoolOptions, TlsOptions};
use crate::{helper, registry, services};
use rouse_contract::kind::{env_faults, is_template, read_options};
use rouse_contract::{Installation, Leaf, OptionFault, Provider, ProviderError, ProviderKind, TreeWish};
use rouse_model::failure::FailureClass;
use rouse_model::placement::Room;
use schemars::Schema;
use serde_json::Value;
use std::collections::BTreeMap;
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
        account_faults(&options)
    }

    fn check_pool(&self, options: &Value) -> Vec<OptionFault> {
        match read_options(options) {
            Ok(options) => pool_faults(&options),
            Err(fault) => vec![fault],
        }
    }

    fn leaf(&self, path: &[&str]) -> Leaf {
        match path {
            ["image"] | ["image", _] | ["services", _, "image"] => Leaf::Image,
            ["mounts", _, "source"] => Leaf::Allowed,
            ["registry", _, "password"] => Leaf::Secret,
            ["build", "codebase"] => Leaf::Codebase,
            ["build", "file" | "context" | "target"] | ["build", "args", _] => Leaf::Text,
            ["user" | "platform"] | ["env" | "labels" | "entrypoint" | "command", _] => Leaf::Text,
            ["services", _, "env" | "command", _] => Leaf::Text,
            _ => Leaf::Literal,
        }
    }

    fn images(&self, options: &Value) -> Vec<String> {
        read_options::<PoolOptions>(options).map(|options| options.image.list()).unwrap_or_default()
    }

    fn images_beside(&self, options: &Value) -> BTreeMap<String, String> {
        let services =
            read_options::<PoolOptions>(options).map(|options| options.services).unwrap_or_default();
        services.into_iter().map(|(name, service)| (name, service.image)).collect()
    }

    fn tree(&self, options: &Value) -> Option<TreeWish> {
        let build = read_options::<PoolOptions>(options).ok()?.build?;
        // What is wrong with it the provider says.
        let folder = Places::of(&build).map(|places| places.folder).unwrap_or_default();
        Some(TreeWish { codebase: build.codebase, folder })
    }

    fn resolve_keys(&self, options: &Value) -> &'static [&'static str] {
        match options.get("build") {
            None => &["platform", "pull", "registry"],
            Some(_) => &["build", "platform", "pull", "registry", "memory", "cpus", "shm"],
        }
    }

    fn capacity(&self, account: &Value) -> Room {
        let options: AccountOptions = read_options(account).unwrap_or_default();
        Room {
            workers: options.workers.map(u64::from),
            memory: options.memory.map(|bytes| bytes.0),
            millicpus: options.cpus.map(millis),
        }
    }

    fn takes(&self, pool: &Value) -> Room {
        let options: PoolOptions = read_options(pool).unwrap_or_default();
        let beside = || options.services.values();
        let memory = beside().map(|service| service.memory).chain([options.memory]).flatten();
        let cpus = beside().map(|service| service.cpus).chain([options.cpus]).flatten();
        // None where nobody says anything.
        let memory = memory.map(|bytes| bytes.0).reduce(u64::saturating_add);
        let millicpus = cpus.map(millis).reduce(u64::saturating_add);
        Room { memory, millicpus, ..Room::ONE }
    }

    fn cannot_park(&self, pool: &Value) -> Option<String> {
        let services = pool.get("services").and_then(Value::as_object);
        let has_some = services.is_some_and(|services| !services.is_empty());
        has_some.then(|| "the services beside them are not".to_owned())
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

/// Of processors. Saturates, and nobody has so many.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn millis(cpus: f64) -> u64 {
    (cpus * 1000.0).round() as u64
}

fn account_faults(options: &AccountOptions) -> Vec<OptionFault> {
    let mut faults = Vec::new();
    let scheme = options.host.as_deref().map(Scheme::of);
    if let (Some(host), Some(None)) = (&options.host, scheme) {
        let help = "write `unix:///PATH`, `tcp://HOST:PORT` or `ssh://USER@HOST`";
        faults.push(fault(&["host"], format!("`{host}` is not the address of a daemon"), Some(help)));
    }
    if options.tls.is_some() && scheme != Some(Some(Scheme::Tcp)) {
        let help = Some("write `host: tcp://HOST:2376` beside it, or leave `tls` out");
        faults.push(fault(&["tls"], "only a daemon at `tcp://` is spoken to by TLS", help));
    }
    for (key, file) in options.tls.iter().flat_map(TlsOptions::files) {
        if !file.is_absolute() {
            faults.push(fault(&["tls", key], "the path of a file of the master is absolute", None));
        }
    }
    if options.cpus.is_some_and(|cpus| !cpus.is_finite() || cpus <= 0.0) {
        faults.push(fault(&["cpus"], "an amount of processors is more than 0", None));
    }
    faults
}

fn pool_faults(options: &PoolOptions) -> Vec<OptionFault> {
    let mut faults = Vec::new();
    let images = options.image.list();
    match &options.build {
        Some(_) if !images.is_empty() => {
            faults.push(fault(&["build"], "a pool has either an image or what it is made of", None));
        }
        Some(build) => faults.extend(build_fault(build)),
        None if images.is_empty() || images.iter().any(|image| image.trim().is_empty()) => {
            let help = Some("for example `image: debian:12`, or `build: {file: ci/Dockerfile}`");
            faults.push(fault(&["image"], "an image is needed", help));
        }
        None => {}
    }
    faults.extend(env_faults(options.env.keys()));
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
    for (key, network) in [("network", &options.network), ("untrusted_network", &options.untrusted_network)] {
        if network.as_deref().is_some_and(|name| name.is_empty() || is_template(name)) {
            let message =
                "the network decides what builds can reach, so it is written out, without a template";
            faults.push(fault(&[key], message, None));
        }
    }
    faults.extend(services::faults(options).into_iter().map(|(name, key, message)| {
        let path: Vec<&str> = ["services", &name].into_iter().chain(key).collect();
        fault(&path, message, None)
    }));
    faults.extend(options.registry.iter().filter_map(|(name, login)| login_fault(name, login)));
    if options.cpus.is_some_and(|cpus| !cpus.is_finite() || cpus <= 0.0) {
        faults.push(fault(&["cpus"], "an amount of processors is more than 0", None));
    }
    if options.platform.as_deref().is_some_and(|text| !is_template(text) && !is_platform(text)) {
        let help = Some("write `linux/amd64` or `linux/arm64`");
        faults.push(fault(&["platform"], "this is not a platform", help));
    }
    faults
}

fn build_fault(build: &BuildOptions) -> Option<OptionFault> {
    if build.within.is_some_and(|span| span.0.is_zero()) {
        let help = Some("for example `within: 30m`");
        return Some(fault(&["build", "within"], "no image is made in no time", help));
    }
    if build.network.as_deref().is_some_and(|name| name.is_empty() || is_template(name)) {
        let message =
            "the network decides what a Dockerfile can reach, so it is written out, without a template";
        return Some(fault(&["build", "network"], message, None));
    }
    if [Some(&build.file), build.context.as_ref()].into_iter().flatten().any(|text| is_template(text)) {
        return None;
    }
    let (key, message) = Places::of(build).err()?;
    let help = "for example `file: ci/Dockerfile`; `context: .` is all of the tree";
    Some(fault(&["build", key], message, Some(help)))
}

fn login_fault(registry: &str, login: &LoginOptions) -> Option<OptionFault> {
    let at = |key: Option<&str>, message: &str, help| {
        let path: Vec<&str> = ["registry", registry].into_iter().chain(key).collect();
        Some(fault(&path, message, help))
    };
    if registry.is_empty()
        || registry.contains(['/', '@', '{', '}'])
        || registry.contains(char::is_whitespace)
    {
        return at(
            None,
            "a registry is named as images begin",
            Some("for example `registry.example.com` or `10.0.0.5:5000`"),
        );
    }
    match (registry::Way::of(login), login.helper.as_deref()) {
        (None, _) => {
            let help = "write `{user: NAME, password: secret:NAME}` or `{helper: NAME}`";
            at(None, "a login is a user with a password, or a helper", Some(help))
        }
        (Some(_), Some(helper)) if !helper::is_fine(helper) => {
            let help = "write `ecr-login` for the program `docker-credential-ecr-login`, or an absolute path";
            at(Some("helper"), "this is not the name of a credential helper", Some(help))
        }
        _ => None,
    }
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
        let tls = json!({"ca": "/ca.pem", "cert": "/cert.pem", "key": "/key.pem"});
        for fine in [json!({"host": "ssh://ci@b1"}), json!({"host": "tcp://b1:2376", "tls": tls})] {
            assert_eq!(kind.check_account(&fine), vec![], "{fine}");
        }
        assert_eq!(paths(&kind.check_account(&json!({"host": "b1:2376", "cpus": 0}))), ["host", "cpus"]);
        assert_eq!(paths(&kind.check_account(&json!({"host": "ssh://b1", "tls": tls}))), ["tls"]);
        assert_eq!(paths(&kind.check_account(&json!({"tls": tls}))), ["tls"]);
        let relative =
            json!({"host": "tcp://b1:2376", "tls": {"ca": "ca.pem", "cert": "/cert.pem", "key": "/key.pem"}});
        assert_eq!(paths(&kind.check_account(&relative)), ["tls.ca"]);
        let fine = json!({
            "image": ["app:{{ branch | tag }}", "app:latest"], "user": "1000", "network": "none", "cpus": 0.5, "memory": "1 GiB",
            "registry": {"r.example.com:5000": {"user": "ci", "password": "secret:r"}, "docker.io": {"helper": "pass"}},
            "mounts": [{"source": "/srv/cache", "target": "/cache", "readonly": true}], "platform": "linux/arm64/v8", "pull": "newer",
        });
        assert_eq!(kind.check_pool(&fine), vec![]);
        assert_eq!(kind.images(&fine), ["app:{{ branch | tag }}", "app:latest"]);
        let faulty = json!({
            "image": [], "env": {"ROUSE_X": "1"}, "labels": {"rouse.token": "x"}, "network": "{{ net }}", "untrusted_network": "", "cpus": 0,
            "mounts": [{"source": "{{ p }}", "target": "/.rouse/bin"}, {"source": "/", "target": "here"}], "platform": "amd64",
            "services": {"DB": {"image": "db:1", "ready": "{{ x }}"}},
            "registry": {"a.org/x": {}, "b.org": {"user": "ci"}, "c.org": {"helper": "x/y"}, "d.org": {"user": "ci", "password": "secret:r", "helper": "x"}},
        });
        let expected = [
            "image",
            "env.ROUSE_X",
            "labels.rouse.token",
            "mounts.0.source",
            "mounts.0.target",
            "mounts.1.target",
            "network",
            "untrusted_network",
            "services.DB",
            "services.DB.ready",
            "registry.a.org/x",
            "registry.b.org",
            "registry.c.org.helper",
            "registry.d.org",
            "cpus",
            "platform",
        ];
        assert_eq!(paths(&kind.check_pool(&faulty)), expected);
        assert_eq!(paths(&kind.check_pool(&Value::Null)), ["image"]);
        let built = |build: Value| paths(&kind.check_pool(&json!({"build": build})));
        assert!(built(json!({"file": "ci/Dockerfile", "args": {"V": "{{ props.v }}"}})).is_empty());
        assert!(built(json!({"file": "ci/{{ builder.name }}/Dockerfile", "context": "."})).is_empty());
        assert_eq!(built(json!({"file": "/etc/Dockerfile"})), ["build.file"]);
        assert_eq!(built(json!({"file": "Dockerfile", "context": "../all"})), ["build.context"]);
        assert_eq!(built(json!({"file": "Dockerfile", "network": "{{ net }}"})), ["build.network"]);
        assert_eq!(built(json!({"file": "Dockerfile", "within": "0s"})), ["build.within"]);
        let both = json!({"image": "a", "build": {"file": "Dockerfile"}});
        assert_eq!(paths(&kind.check_pool(&both)), ["build"]);
    }

    #[test]
    fn the_tree_that_an_image_is_made_of_is_named() {
        let tree = |build: Value| DockerKind.tree(&json!({"build": build}));
        let folder = |folder: &str| Some(TreeWish { codebase: None, folder: folder.into() });
        assert_eq!(tree(json!({"file": "ci/Dockerfile"})), folder("ci"));
        assert_eq!(tree(json!({"file": "ci/Dockerfile", "context": "."})), folder(""));
        let named = TreeWish { codebase: Some("tools".into()), folder: "ci".into() };
        assert_eq!(tree(json!({"file": "ci/Dockerfile", "codebase": "tools"})), Some(named));
        assert_eq!(DockerKind.tree(&json!({"image": "a"})), None);
    }

    #[test]
    fn what_reaches_the_host_is_never_rendered() {
        let kind = DockerKind;
        assert_eq!(kind.leaf(&["image"]), Leaf::Image);
        assert_eq!(kind.leaf(&["image", "*"]), Leaf::Image);
        assert_eq!(kind.leaf(&["env", "*"]), Leaf::Text);
        assert_eq!(kind.leaf(&["registry", "r.example.com", "password"]), Leaf::Secret);
        assert_eq!(kind.leaf(&["mounts", "*", "source"]), Leaf::Allowed);
        for literal in [
            &["mounts", "*", "allow", "*"][..],
            &["mounts", "*", "target"],
            &["network"],
            &["memory"],
            &["pull"],
            &["registry", "r.example.com", "helper"],
        ] {
            assert_eq!(kind.leaf(literal), Leaf::Literal, "{literal:?}");
        }
    }

    #[test]
    fn services_count_with_their_worker() {
        let pool = json!({"image": "a", "memory": "1 GiB", "services": {
            "db": {"image": "db:1", "memory": "512 MiB", "cpus": 0.5}, "cache": {"image": "cache:1"},
        }});
        let room = DockerKind.takes(&pool);
        assert_eq!((room.memory, room.millicpus), (Some(1536 << 20), Some(500)));
        let images: Vec<_> = DockerKind.images_beside(&pool).into_iter().collect();
        assert_eq!(images, [("cache".into(), "cache:1".into()), ("db".into(), "db:1".into())]);
        assert_eq!(DockerKind.leaf(&["services", "*", "image"]), Leaf::Image);
        assert_eq!(DockerKind.leaf(&["services", "*", "ready"]), Leaf::Literal);
        let shared = json!({"image": "a", "network": "host", "services": {"db": {"image": "db:1"}}});
        assert_eq!(paths(&DockerKind.check_pool(&shared)), ["services.db"]);
    }

    #[test]
    fn the_schema_tells_what_there_is() {
        let schema = serde_json::to_value(DockerKind.pool_schema()).expect("JSON");
        assert_eq!(schema["additionalProperties"], json!(false));
        assert_eq!(schema["properties"]["build"]["required"], json!(["file"]), "{schema:#}");
        assert_eq!(schema["properties"]["memory"]["format"], json!("bytes"), "{schema:#}");
        let hover = schema["properties"]["pids"]["description"].as_str();
        assert!(hover.is_some_and(|text| text.contains("Default: no limit")), "{schema:#}");
    }
}
