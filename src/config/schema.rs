//! The JSON Schema (draft-07) of a configuration: made from the raw types, with the options of each kind of provider spliced in.
//! Editors read it, and the checker of structure walks along it: one list for both.

use super::check::RawConfig;
use super::leaf::{OneOrMany, ProviderName};
use super::{pool, scheduler, secret, step};
use rouse_contract::ProviderKind;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The schema, for these kinds of providers.
#[must_use]
pub fn schema(kinds: &[Arc<dyn ProviderKind>]) -> Value {
    let settings = SchemaSettings::draft07().with_transform(without_null);
    let mut root = settings.into_generator().into_root_schema_for::<RawConfig>().to_value();
    for kind in kinds {
        let account = options_of(kind.account_schema());
        let mut options = options_of(kind.pool_schema());
        add_on(&mut options);
        add_kind(&mut root, "Provider", kind.name(), account);
        add_kind(&mut root, "Pool", kind.name(), options);
    }
    for definition in ["Provider", "Pool"] {
        if let Some(definition) = definition_mut(&mut root, definition) {
            definition.insert("additionalProperties".to_owned(), Value::Bool(false));
        }
    }
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    for (definition, keys) in [
        ("Provider", names.as_slice()),
        ("Pool", &names),
        ("Step", &step::ACTIONS),
        ("Scheduler", &scheduler::TRIGGERS),
        ("Secret", &secret::SOURCES),
    ] {
        exactly_one(&mut root, definition, keys);
    }
    if let Some(root) = root.as_object_mut() {
        root.insert("title".to_owned(), "Rouse configuration, version 1".into());
    }
    root
}

fn definition_mut<'a>(root: &'a mut Value, name: &str) -> Option<&'a mut Map<String, Value>> {
    root.get_mut("definitions")?.get_mut(name)?.as_object_mut()
}

/// `oneOf: [{required: [checkout]}, …]`.
fn exactly_one(root: &mut Value, definition: &str, keys: &[&str]) {
    if let Some(definition) = definition_mut(root, definition) {
        let choices: Vec<Value> = keys.iter().map(|key| json!({ "required": [key] })).collect();
        definition.insert("oneOf".to_owned(), choices.into());
    }
}

/// Optional keys are left out, never null.
fn without_null(schema: &mut Schema) {
    schemars::transform::transform_subschemas(&mut without_null, schema);
    let Some(object) = schema.as_object_mut() else { return };
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            object.insert("type".to_owned(), one);
        }
    }
    let Some(Value::Array(members)) = object.get_mut("anyOf") else { return };
    let before = members.len();
    members.retain(|member| *member != json!({ "type": "null" }));
    if before == members.len() || members.len() != 1 {
        return;
    }
    let only = members.remove(0);
    object.shift_remove("anyOf");
    match only {
        // Draft-07 ignores whatever stands beside a reference.
        Value::Object(only) if only.contains_key("$ref") && !object.is_empty() => {
            object.insert("allOf".to_owned(), json!([only]));
        }
        Value::Object(only) => object.extend(only),
        _ => {}
    }
}

/// A provider's schema as a part of ours.
fn options_of(mut schema: Schema) -> Value {
    without_null(&mut schema);
    for of_a_root in ["$schema", "title"] {
        schema.remove(of_a_root);
    }
    schema.to_value()
}

/// `on` belongs to the configuration: accounts are names, of which the provider knows nothing.
fn add_on(options: &mut Value) {
    let on = OneOrMany::<ProviderName>::json_schema(&mut SchemaGenerator::default());
    let mut on = on.to_value();
    if let Some(on) = on.as_object_mut() {
        let text = "The accounts that it may use, declared under `providers`. Default: the only one of its kind, or else the usual one.";
        on.insert("description".to_owned(), text.into());
    }
    let Some(object) = options.as_object_mut() else { return };
    let properties = object.entry("properties").or_insert_with(|| json!({}));
    if let Some(properties) = properties.as_object_mut() {
        properties.shift_insert(0, pool::ON.to_owned(), on);
    }
}

fn add_kind(root: &mut Value, definition: &str, kind: &str, schema: Value) {
    let Some(definition) = definition_mut(root, definition) else { return };
    let properties = definition.entry("properties").or_insert_with(|| json!({}));
    if let Some(properties) = properties.as_object_mut() {
        properties.insert(kind.to_owned(), schema);
    }
}
