//! Whole documents: maps of environment variables, trees of options. Leaves are rendered, keys and
//! structure never.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::fault::RenderError;
use super::leaf::{self, Rendered};
use super::scope::Scope;

/// A value of the environment: text that is known now, or a secret that is fetched late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenderedValue {
    Text(Rendered),
    /// The name of a secret; whoever starts the command puts its value in.
    Secret(String),
}

/// Renders one value of the environment.
///
/// `secret:NAME` counts only as it stands in the config; a property whose value looks like one stays text.
pub fn environment_value(source: &str, scope: &Scope) -> Result<RenderedValue, RenderError> {
    if let Some(name) = source.strip_prefix("secret:") {
        if let Err(reason) = rouse_model::check_name(name) {
            return Err(RenderError::refused("the secret's name", name, reason));
        }
        return Ok(RenderedValue::Secret(name.to_owned()));
    }
    // it becomes an entry of the environment, which has the limits of an argument
    leaf::argument(source, scope).map(RenderedValue::Text)
}

/// Renders the values of an `env:` map.
pub fn environment(
    source: &BTreeMap<String, String>,
    scope: &Scope,
) -> Result<BTreeMap<String, RenderedValue>, RenderError> {
    source.iter().map(|(name, value)| Ok((name.clone(), environment_value(value, scope)?))).collect()
}

/// Renders the text leaves of a tree. `leaf` gets the path of each (map keys and list indices) and
/// its text, so that the caller, who knows what the options mean, picks the sink.
pub fn document<F>(tree: &Json, leaf: &mut F) -> Result<Json, RenderError>
where
    F: FnMut(&[String], &str) -> Result<Json, RenderError>,
{
    walk(tree, &mut Vec::new(), leaf)
}

fn walk<F>(tree: &Json, path: &mut Vec<String>, leaf: &mut F) -> Result<Json, RenderError>
where
    F: FnMut(&[String], &str) -> Result<Json, RenderError>,
{
    match tree {
        Json::String(text) => leaf(path, text),
        Json::Array(items) => {
            let mut out = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                path.push(index.to_string());
                out.push(walk(item, path, leaf)?);
                path.pop();
            }
            Ok(Json::Array(out))
        }
        Json::Object(map) => {
            let mut out = serde_json::Map::new();
            for (key, item) in map {
                path.push(key.clone());
                out.insert(key.clone(), walk(item, path, leaf)?);
                path.pop();
            }
            Ok(Json::Object(out))
        }
        other => Ok(other.clone()),
    }
}
