//! Steps that a build prints: by the rules of the configuration, and with less to name than that.

use crate::config::check::RawConfig;
use crate::config::context::Context;
use crate::config::fault::Severity;
use crate::config::source::SourceFile;
use crate::config::{check_with, tree::Path};
use rouse_model::plan::{Action, DownloadFrom, PlannedStep};
use serde_json::Value;

/// Most steps that one build has.
pub const MAX_STEPS: usize = 500;
/// The name that they are checked under.
const BUILDER: &str = "printed";
/// Faults that are told.
const TOLD: usize = 3;

/// Steps as a JSON list.
///
/// # Errors
/// All that is wrong with them, for a person: it is not such a list, a step is not as it should be, or names what is for the configuration alone.
pub fn printed(text: &str) -> Result<Vec<PlannedStep>, String> {
    let list: Value =
        serde_json::from_str(text).map_err(|error| format!("its output is not JSON: {error}"))?;
    let Value::Array(steps) = &list else {
        return Err("its output is not a JSON list of steps".to_owned());
    };
    if steps.len() > MAX_STEPS {
        return Err(format!("its output has {} steps, and a build may have {MAX_STEPS}", steps.len()));
    }
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    let mut faults: Vec<String> = (1..).zip(steps).filter_map(|(n, step)| refused(n, step)).collect();
    if !faults.is_empty() {
        return Err(told(&mut faults));
    }
    // JSON on one line is YAML that stands anywhere.
    let source = SourceFile {
        name: BUILDER.into(),
        text: format!("version: 1\nbuilders:\n  {BUILDER}: {{steps: {list}}}\n"),
    };
    let (steps, found) = check_with(&[source], &[], steps_of);
    let wrong = found.into_iter().filter(|fault| fault.severity == Severity::Error);
    faults.extend(wrong.map(|fault| {
        let message = fault.message.replace(&format!(" of builder `{BUILDER}`"), "");
        if fault.label.is_empty() { message } else { format!("{message} ({})", fault.label) }
    }));
    match steps.flatten() {
        Some(steps) if faults.is_empty() => match steps.iter().find(|step| reaches_out(&step.action)) {
            Some(step) => Err(format!(
                "step `{}`: files of the build's parent are for the configuration alone to name",
                step.name
            )),
            None => Ok(steps),
        },
        _ => Err(told(&mut faults)),
    }
}

fn steps_of(mut raw: RawConfig, cx: &mut Context<'_>) -> Option<Vec<PlannedStep>> {
    let steps = raw.builders.shift_remove(BUILDER)?.steps?;
    let path = Path::of(["builders", BUILDER, "steps"]);
    super::check_names(&steps, cx, &path);
    let names = super::names(&steps);
    let checked = steps.into_iter().zip(names).enumerate();
    Some(checked.filter_map(|(i, (step, name))| step.check(name, cx, &path.join(i))).collect())
}

/// What a step names and must not, before it is looked at further.
fn refused(number: usize, step: &Value) -> Option<String> {
    let key = ["checkout", "steps_from", "trigger"].into_iter().find(|key| step.get(key).is_some());
    if let Some(key) = key {
        return Some(format!("step {number}: `{key}` is for the configuration alone"));
    }
    let secret = |value: &Value| value.as_str().is_some_and(|text| text.starts_with("secret:"));
    let (name, _) = step.get("env")?.as_object()?.iter().find(|(_, value)| secret(value))?;
    Some(format!("step {number}: the secret of `{name}` is for the configuration alone to name"))
}

fn reaches_out(action: &Action) -> bool {
    matches!(action, Action::Download { from: DownloadFrom::Parent, .. })
}

fn told(faults: &mut Vec<String>) -> String {
    let more = faults.len().saturating_sub(TOLD);
    faults.truncate(TOLD);
    let text = faults.join("; ");
    if more > 0 { format!("{text}; and {more} more") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_steps_becomes_steps() {
        let text = r#"[
            {"run": "make -j4\n", "name": "build", "env": {"A": "{{ branch }}"}},
            {"run": ["./test", "--part", "1"], "timeout": "5m", "halt_on_failure": false},
            {"upload": {"paths": "out/*", "as": "out"}, "always": true}
        ]"#;
        let steps = printed(text).unwrap();
        let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(names, ["build", "./test --part 1", "upload out"]);
        assert_eq!((steps[1].timeout_s, steps[1].rules.halt_on_failure), (Some(300), false));
        assert_eq!(printed(" [] ").unwrap(), []);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_step() {
        for (text, expected) in [
            ("", "its output is not JSON: EOF while parsing a value at line 1 column 0"),
            ("{}", "its output is not a JSON list of steps"),
            (r#"[{"run": "a"}, {"checkout": "app"}]"#, "step 2: `checkout` is for the configuration alone"),
            (r#"[{"steps_from": "a"}]"#, "step 1: `steps_from` is for the configuration alone"),
            (r#"[{"trigger": "deploy"}]"#, "step 1: `trigger` is for the configuration alone"),
            (
                r#"[{"run": "a", "env": {"K": "secret:key"}}]"#,
                "step 1: the secret of `K` is for the configuration alone to name",
            ),
            (
                r#"[{"download": {"artifact": "debs", "from": "parent"}}]"#,
                "step `download debs`: files of the build's parent are for the configuration alone to name",
            ),
            (r#"[{"rum": "a"}]"#, "unknown key `rum` in step 1"),
            (r#"[{"run": "echo '{{ branch }}'"}]"#, "within single quotes"),
            (r#"[{"run": "a", "name": "x"}, {"run": "b", "name": "x"}]"#, "two steps are called `x`"),
        ] {
            let said = printed(text).unwrap_err();
            assert!(said.contains(expected), "{text}\n{said}");
        }
    }
}
