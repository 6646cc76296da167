//! `providers`: accounts and endpoints that make instances. What their options mean is the provider's own business; this only knows
//! that each kind of provider has a name, a schema and checks.

use super::context::Context;
use super::fault::{Code, Fault};
use super::leaf::SecretRef;
use super::place::placed;
use super::tree::Path;
use crate::render::{self, Sink};
use indexmap::IndexMap;
use rouse_contract::kind::Leaf;
use rouse_contract::layers::Rates;
use rouse_contract::units::Rate;
use rouse_contract::{OptionFault, ProviderKind};
use rouse_model::placement::Room;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// An account or endpoint; its provider is a key, and holds its own options.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(rename = "Provider")]
pub(crate) struct RawProvider {
    /// No more workers are launched on it, and those that are there end with their builds. Default: `false`.
    #[serde(default)]
    drain: bool,
    /// The most calls that a master makes to it: so many looks and so many launches and ends, each, or `reads` and `writes` apart. Default: no limit until it
    /// says that it is asked too much.
    rate: Option<RawRate>,
    #[serde(flatten)]
    kinds: IndexMap<String, Value>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "ProviderRate")]
enum RawRate {
    /// Of each class so many.
    Each(Rate),
    Of(RawRates),
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ProviderRates")]
struct RawRates {
    /// The most looks: lists, inspections, consoles. Default: no limit.
    reads: Option<Rate>,
    /// The most launches and ends. A launch of several workers by one call counts once. Default: no limit.
    writes: Option<Rate>,
}

impl RawRate {
    fn rates(self) -> Rates {
        match self {
            Self::Each(rate) => Rates { reads: Some(rate), writes: Some(rate) },
            Self::Of(RawRates { reads, writes }) => Rates { reads, writes },
        }
    }
}

/// One account or endpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProviderConfig {
    /// `docker`, `local`.
    pub kind: String,
    /// What the provider's own types read.
    pub options: Value,
    /// What all its workers may take together.
    #[serde(skip)]
    pub capacity: Room,
    /// No more workers are launched on it.
    pub drain: bool,
    /// The most calls that a master makes to it.
    pub rate: Rates,
    /// Nobody wrote it: it is the usual account of its kind, used by pools that name none.
    pub implied: bool,
}

impl RawProvider {
    pub(crate) fn check(self, cx: &mut Context<'_>, path: &Path) -> Option<ProviderConfig> {
        let (kind, options) = only_kind(self.kinds, cx, path)?;
        let root = path.join(kind.name());
        if cx.is_clean(&root) {
            report(kind.check_account(&options), cx, &root);
        }
        let capacity = kind.capacity(&options);
        Some(ProviderConfig {
            kind: kind.name().to_owned(),
            options,
            capacity,
            drain: self.drain,
            rate: self.rate.map(RawRate::rates).unwrap_or_default(),
            implied: false,
        })
    }
}

/// The one kind among the keys of a pool or account, with its options; a fault where it is not exactly one.
pub(crate) fn only_kind(
    kinds: IndexMap<String, Value>,
    cx: &mut Context<'_>,
    path: &Path,
) -> Option<(Arc<dyn ProviderKind>, Value)> {
    let known: Vec<Arc<dyn ProviderKind>> = cx.kinds.to_vec();
    let mut chosen = kinds.into_iter().filter_map(|(key, options)| {
        known.iter().find(|kind| kind.name() == key).map(|kind| (Arc::clone(kind), options))
    });
    match (chosen.next(), chosen.next()) {
        (Some(one), None) => Some(one),
        _ => {
            let names: Vec<&str> = known.iter().map(|kind| kind.name()).collect();
            cx.one_of(path, &names, "provider");
            None
        }
    }
}

/// Faults of a provider's own check, with their places.
pub(crate) fn report(faults: Vec<OptionFault>, cx: &mut Context<'_>, path: &Path) {
    for OptionFault { path: below, message, help } in faults {
        let at = below.iter().fold(path.clone(), |at, part| at.join(part));
        let fault = Fault::new(Code::ProviderOption, cx.value(&at), placed(&message, &cx.place(&at)));
        cx.push(fault.label(help.unwrap_or_default()));
    }
}

/// Checks the strings of a pool's options: templates where they are rendered, none where they can reach the host.
pub(crate) fn check_leaves(kind: &dyn ProviderKind, options: &Value, cx: &mut Context<'_>, root: &Path) {
    let mut todo = vec![(options, Vec::new())];
    while let Some((value, path)) = todo.pop() {
        match value {
            Value::Object(map) => {
                todo.extend(map.iter().map(|(k, v)| (v, [path.clone(), vec![k.clone()]].concat())))
            }
            Value::Array(list) => {
                todo.extend(
                    list.iter().enumerate().map(|(i, v)| (v, [path.clone(), vec![i.to_string()]].concat())),
                );
            }
            Value::String(text) => check_leaf(kind, text, &path, cx, root),
            _ => {}
        }
    }
}

fn check_leaf(kind: &dyn ProviderKind, text: &str, path: &[String], cx: &mut Context<'_>, root: &Path) {
    match use_of(kind, path) {
        Leaf::Literal if !render::is_template(text) => {}
        Leaf::Literal => {
            let at = path.iter().fold(root.clone(), |at, part| at.join(part));
            // The provider itself may have said so, and why.
            let span = cx.value(&at);
            if cx.faults.iter().any(|fault| fault.span == Some(span)) {
                return;
            }
            let message = format!("{} is never filled in", cx.place(&at));
            let fault = Fault::new(Code::BadTemplate, span, message);
            cx.push(
                fault
                    .label("write it out")
                    .note("what can reach the host is literal, so that no build can change it"),
            );
        }
        Leaf::Secret => {
            let at = path.iter().fold(root.clone(), |at, part| at.join(part));
            // What is no reference was said to be none by the schema.
            if let Ok(secret) = text.parse::<SecretRef>() {
                cx.secret_of_pool(secret.name(), &at);
            }
        }
        Leaf::Codebase => {
            let at = path.iter().fold(root.clone(), |at, part| at.join(part));
            cx.refer("codebases", text, &at);
        }
        Leaf::Image => check_filled(text, &Sink::Image, path, cx, root),
        Leaf::Text | Leaf::Allowed => check_filled(text, &Sink::Text, path, cx, root),
    }
}

fn check_filled(text: &str, sink: &Sink, path: &[String], cx: &mut Context<'_>, root: &Path) {
    let Err(fault) = render::check_template(text, sink) else { return };
    let at = path.iter().fold(root.clone(), |at, part| at.join(part));
    let span = cx.part(&at, text, Some(&(fault.offset..fault.offset + fault.length)));
    let message = placed(&fault.message, &cx.place(&at));
    cx.push(Fault::new(Code::BadTemplate, span, message).label(fault.help.unwrap_or_default()));
}

/// As rendering asks: keys as they are, `*` for an index.
fn use_of(kind: &dyn ProviderKind, path: &[String]) -> Leaf {
    let path: Vec<&str> =
        path.iter().map(|part| if part.parse::<usize>().is_ok() { "*" } else { part }).collect();
    kind.leaf(&path)
}
