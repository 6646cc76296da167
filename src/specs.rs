//! What a request means before it has a worker: the scope that its templates see, and the launch spec of a pool rendered with it.
//!
//! One reading of a request for the fleet, the matcher, the build's driver and `explain`, so that none of them sees another image than
//! the rest. It asks a provider only what a tag means; it launches nothing.

use crate::config::{BuilderConfig, Config, PoolConfig};
use crate::render::{self, RenderError, Scope};
use rouse_contract::tree::{Reader, Tree};
use rouse_contract::{Keyring, LaunchSpec, Leaf, ProviderKind, ResolveRequest, Resolved};
use rouse_model::buildset::{Buildset, Request};
use rouse_model::property::Properties;
use rouse_model::source::SourceStamp;
use rouse_model::{Trust, matching};
use rouse_store::{ReadError, Store};
use serde_json::Value;
use std::collections::BTreeMap;

/// Everything about one request that rendering needs.
#[derive(Debug, Clone)]
pub struct Wish {
    pub request: Request,
    pub buildset: Buildset,
    pub stamps: Vec<SourceStamp>,
    pub scope: Scope,
}

/// Reads a request's surroundings. `None` where its buildset is not there.
///
/// # Errors
/// Where the store cannot be read.
pub async fn wish(
    store: &Store,
    builder: &BuilderConfig,
    request: Request,
) -> Result<Option<Wish>, ReadError> {
    let Some(buildset) = store.buildset(request.buildset).await? else { return Ok(None) };
    let stamps = store.stamps(request.buildset).await?;
    wish_of(store, builder, request, buildset, stamps).await.map(Some)
}

/// The same where buildset and stamps, in the order of their codebases, are at hand.
///
/// # Errors
/// Where the store cannot be read.
pub async fn wish_of(
    store: &Store,
    builder: &BuilderConfig,
    request: Request,
    buildset: Buildset,
    stamps: Vec<SourceStamp>,
) -> Result<Wish, ReadError> {
    let mut props = Properties::default();
    for (name, value) in &builder.properties {
        props.set(name.to_string(), value.clone(), format!("builder {}", request.builder), false);
    }
    props.extend(&buildset.properties);
    let changed_files = changed_files(store, &stamps).await?;
    let scope = scope(builder, &request, &stamps, props, changed_files);
    Ok(Wish { request, buildset, stamps, scope })
}

/// The files that the stamps' change sets touched; `None` where a stamp has no change set, so that nobody takes silence for "nothing".
async fn changed_files(store: &Store, stamps: &[SourceStamp]) -> Result<Option<Vec<String>>, ReadError> {
    let mut files = Vec::new();
    let mut known = false;
    for set in stamps.iter().filter_map(|s| s.change_set) {
        known = true;
        let changes = store.changes_of(set).await?;
        let commits = store.change_set(set).await?.map_or(0, |s| s.commits);
        if i64::try_from(changes.len()).unwrap_or(i64::MAX) < commits {
            return Ok(None);
        }
        files.extend(changes.into_iter().flat_map(|c| c.files));
    }
    Ok(known.then_some(files))
}

/// The stamp that `branch` and `revision` speak of: of the first codebase that the builder checks out, else the first there is.
#[must_use]
pub fn source<'a>(builder: &BuilderConfig, stamps: &'a [SourceStamp]) -> Option<&'a SourceStamp> {
    let first = builder.codebases.first().map(ToString::to_string);
    stamps.iter().find(|s| Some(&s.codebase) == first.as_ref()).or_else(|| stamps.first())
}

fn scope(
    builder: &BuilderConfig,
    request: &Request,
    stamps: &[SourceStamp],
    props: Properties,
    changed_files: Option<Vec<String>>,
) -> Scope {
    let stamp = source(builder, stamps);
    let mut about = BTreeMap::new();
    about.insert("name".to_owned(), Value::String(request.builder.clone()));
    Scope {
        project: Some(request.project.clone()),
        codebase: stamp.map(|s| s.codebase.clone()),
        branch: stamp.and_then(|s| s.branch.clone()),
        revision: stamp.and_then(|s| s.revision.clone()),
        builder: about,
        matrix: builder.matrix.iter().map(|(axis, value)| (axis.to_string(), value.clone())).collect(),
        props,
        worker: None,
        tainted: request.trust == Trust::Untrusted,
        changed_files,
    }
}

/// A pool's options for one request, rendered; the image is not resolved yet.
#[derive(Debug, Clone)]
pub struct Rendered {
    pub images: Vec<String>,
    /// All others: how an image is spelled makes no other worker of it.
    pub options: Value,
}

/// Renders a pool's options with a request's scope, leaf by leaf, as the provider's kind says.
///
/// # Errors
/// Where a template asks for something that is not there, or gives something that its place does not take.
pub fn render_pool(
    pool: &PoolConfig,
    kind: &dyn ProviderKind,
    scope: &Scope,
) -> Result<Rendered, RenderError> {
    let mut options = render_value(&pool.options, kind, scope, &mut Vec::new())?;
    let images = kind.images(&options);
    if let Some(options) = options.as_object_mut() {
        options.retain(|key, _| kind.leaf(&[key]) != Leaf::Image);
    }
    Ok(Rendered { images, options })
}

fn render_value(
    value: &Value,
    kind: &dyn ProviderKind,
    scope: &Scope,
    path: &mut Vec<String>,
) -> Result<Value, RenderError> {
    Ok(match value {
        Value::String(text) => {
            let keys: Vec<&str> = path.iter().map(String::as_str).collect();
            match kind.leaf(&keys) {
                Leaf::Image => Value::String(render::image(text, scope)?.text),
                Leaf::Text | Leaf::Allowed => Value::String(render::text(text, scope)?.text),
                Leaf::Literal | Leaf::Secret | Leaf::Codebase => value.clone(),
            }
        }
        Value::Array(items) => {
            let mut out = Vec::with_capacity(items.len());
            for item in items {
                path.push("*".into());
                out.push(render_value(item, kind, scope, path)?);
                path.pop();
            }
            Value::Array(out)
        }
        Value::Object(map) => {
            let mut out = serde_json::Map::new();
            for (key, item) in map {
                path.push(key.clone());
                out.insert(key.clone(), render_value(item, kind, scope, path)?);
                path.pop();
            }
            Value::Object(out)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    })
}

/// The launch spec, once it is known what the image means.
#[must_use]
pub fn launch_spec(
    pool_name: &str,
    request: &Request,
    rendered: Rendered,
    image: Option<Resolved>,
    beside: BTreeMap<String, Resolved>,
    tree: Option<Tree>,
) -> LaunchSpec {
    LaunchSpec {
        pool: pool_name.to_owned(),
        project: request.project.clone(),
        trust: request.trust,
        image,
        options: rendered.options,
        env: BTreeMap::new(),
        secrets: Keyring::default(),
        shelves: Vec::new(),
        beside,
        tree,
    }
}

/// The digest of the spec that a pool gives a wish, where nobody needs to be asked what an image means. What cannot be rendered has none: the fleet
/// says why.
#[must_use]
pub fn digest_without_image(
    pool_name: &str,
    pool: &PoolConfig,
    kind: &dyn ProviderKind,
    wish: &Wish,
) -> Option<String> {
    let rendered = render_pool(pool, kind, &wish.scope).ok()?;
    if !rendered.images.is_empty() || kind.tree(&rendered.options).is_some() {
        return None;
    }
    Some(launch_spec(pool_name, &wish.request, rendered, None, BTreeMap::new(), None).digest())
}

/// What to ask the provider, where the pool has an image; without the keys to the secrets that its options name.
#[must_use]
pub fn resolve_request(
    rendered: &Rendered,
    kind: &dyn ProviderKind,
    tree: Option<Tree>,
) -> Option<ResolveRequest> {
    let wanted = !rendered.images.is_empty() || tree.is_some();
    wanted.then(|| ResolveRequest { tree, ..question(rendered, kind, rendered.images.clone()) })
}

/// Why there is no tree that an image could be made of.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTree {
    #[error("builder `{0}` checks out no codebase; give the pool's `build` a `codebase`")]
    NoCodebase(String),
    #[error("this build has no revision of codebase `{0}`")]
    NoRevision(String),
}

/// The part of the project's tree that a pool's image is made of, where it is made of one.
///
/// # Errors
/// Where the build has no such tree.
pub fn tree_of(
    rendered: &Rendered,
    kind: &dyn ProviderKind,
    wish: &Wish,
    reader: impl FnOnce() -> Reader,
) -> Result<Option<Tree>, NoTree> {
    let Some(wanted) = kind.tree(&rendered.options) else { return Ok(None) };
    let codebase = wanted.codebase.or_else(|| wish.scope.codebase.clone());
    let codebase = codebase.ok_or_else(|| NoTree::NoCodebase(wish.request.builder.clone()))?;
    let stamp = wish.stamps.iter().find(|stamp| stamp.codebase == codebase);
    let Some(revision) = stamp.and_then(|stamp| stamp.revision.clone()) else {
        return Err(NoTree::NoRevision(codebase));
    };
    let (folder, trust) = (wanted.folder, wish.request.trust);
    Ok(Some(Tree { codebase, revision, folder, trust, reader: reader() }))
}

/// The same for the services beside its workers, by their names.
#[must_use]
pub fn resolve_beside(rendered: &Rendered, kind: &dyn ProviderKind) -> BTreeMap<String, ResolveRequest> {
    let images = kind.images_beside(&rendered.options).into_iter();
    images.map(|(name, image)| (name, question(rendered, kind, vec![image]))).collect()
}

fn question(rendered: &Rendered, kind: &dyn ProviderKind, images: Vec<String>) -> ResolveRequest {
    let deciding = |key: &&str| rendered.options.get(*key).map(|value| ((*key).to_owned(), value.clone()));
    let options = kind.resolve_keys(&rendered.options).iter().filter_map(deciding).collect();
    ResolveRequest { images, options: Value::Object(options), secrets: Keyring::default(), tree: None }
}

/// Pools that can ever run a request, in the order in which they are tried: as the builder names them, else as the configuration has them.
#[must_use]
pub fn candidates<'a>(
    config: &'a Config,
    builder: &BuilderConfig,
    request: &Request,
) -> Vec<(&'a str, &'a PoolConfig)> {
    let named: Vec<String> = builder.pools.iter().map(ToString::to_string).collect();
    let wish = matching::Requirement { pools: &named, project: &request.project, trust: request.trust };
    let mut pools: Vec<(&str, &PoolConfig)> = config
        .pools
        .iter()
        .map(|(name, pool)| (name.as_str(), pool))
        .filter(|(name, pool)| {
            matching::fits(&wish, &matching::Offer { pool: name, accepts: pool.accepts }).is_ok()
        })
        .collect();
    if !named.is_empty() {
        pools.sort_by_key(|(name, _)| named.iter().position(|n| n == name));
    }
    pools
}
