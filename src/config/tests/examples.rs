//! Every file under `config/` is good, and the schema that editors read agrees.

use super::kinds;
use crate::config::{SourceFile, load, schema, tree};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let entries = std::fs::read_dir(folder)
        .expect("the folder of examples")
        .map(|entry| entry.expect("an entry").path());
    let mut examples: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    examples.sort();
    assert!(!examples.is_empty());
    examples
}

fn plain(text: &str) -> Value {
    tree::read(0, text, &mut Vec::new()).expect("a document").to_value()
}

#[test]
fn every_example_is_good() {
    for example in examples() {
        let loaded = load(&example, &kinds::all()).unwrap_or_else(|faults| panic!("{faults}"));
        assert!(loaded.warnings.list.is_empty(), "{}", loaded.warnings);
    }
}

#[test]
fn the_schema_takes_every_example() {
    let schema = schema(&kinds::all());
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    jsonschema::meta::validate(&schema).unwrap_or_else(|error| panic!("{error}"));
    let validator = jsonschema::draft7::new(&schema).unwrap_or_else(|error| panic!("{error}"));
    for example in examples() {
        let value = plain(&std::fs::read_to_string(&example).expect("an example"));
        let faults: Vec<_> =
            validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(faults.is_empty(), "{}: {faults:#?}", example.display());
    }
}

#[test]
fn the_schema_refuses_what_the_checker_of_structure_refuses() {
    let schema = schema(&kinds::all());
    let validator = jsonschema::draft7::new(&schema).unwrap_or_else(|error| panic!("{error}"));
    for bad in [
        "{}",
        "version: 2",
        "version: 1\npool: {}",
        "version: 1\nprojects: {-a: {}}",
        "version: 1\nprojects: {a: }",
        "version: 1\nserver: {keep: {builds: 90}}",
        "version: 1\npools: {a: {}}",
        "version: 1\npools: {a: {docker: {imgae: x}}}",
        "version: 1\npools: {a: {docker: {image: x}, local: {}}}",
        "version: 1\nbuilders: {a: {steps: []}}",
        "version: 1\nbuilders: {a: {steps: [{name: x}]}}",
        "version: 1\nbuilders: {a: {steps: [{run: make, exit: {300x: skipped}}]}}",
        "version: 1\nschedulers: {a: {builders: b}}",
        "version: 1\nschedulers: {a: {every: 1h, builders: b, missed: never}}",
        "version: 1\nschedulers: {a: {force: {parameters: {x: {strng: {}}}}, builders: b}}",
    ] {
        assert!(!validator.is_valid(&plain(bad)), "{bad}");
        let sources = [SourceFile::new("rouse.yaml", bad)];
        assert!(crate::config::parse(&sources, &kinds::all()).is_err(), "{bad}");
    }
}

/// What `rouse config schema` prints stands beside the examples. After a change that is meant, run the tests with `UPDATE_EXPECT=1`.
#[test]
fn the_kept_schema_is_the_one_in_force() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/rouse-v1.schema.json");
    let text = serde_json::to_string_pretty(&schema(&kinds::all())).expect("JSON") + "\n";
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, text).expect("the folder of examples can be written");
    } else {
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == text, "{} is not in step: cargo xtask generate", path.display());
    }
}

#[test]
fn the_full_example_has_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/full.yaml");
    let text = std::fs::read_to_string(path).expect("the example");
    let schema = schema(&[]);
    let definitions = schema["definitions"].as_object().expect("definitions");
    let keys = std::iter::once(&schema).chain(definitions.values()).flat_map(keys_of);
    let missing: Vec<_> = keys.filter(|key| !text.contains(&format!("{key}:"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

fn keys_of(definition: &Value) -> Vec<&str> {
    let members = definition.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let all = std::iter::once(definition).chain(members);
    let properties = all.filter_map(|schema| schema.get("properties").and_then(Value::as_object));
    properties.flat_map(|map| map.keys()).map(String::as_str).collect()
}
