//! Tests of rendering. The scripts are really run, by every POSIX shell that the machine has.

mod leaves;
mod scripts;
mod shells;

use serde_json::json;

use super::Scope;

/// A scope with one of everything.
fn scope() -> Scope {
    let mut scope = Scope {
        project: Some("shop".into()),
        codebase: Some("app".into()),
        branch: Some("release/1.2".into()),
        revision: Some("4f1c2aa".into()),
        ..Scope::default()
    };
    scope.builder.insert("name".into(), json!("unit"));
    scope.matrix.insert("cc".into(), json!("gcc12"));
    scope.props.set("version", json!("1.2.3"), "force by alice", false);
    scope.props.set("count", json!(3), "scheduler push", false);
    scope.props.set("fast", json!(true), "scheduler push", false);
    scope.props.set("list", json!(["a", "b"]), "scheduler push", false);
    scope.props.set("evil", json!("$(reboot)"), "step plan", true);
    scope
}
