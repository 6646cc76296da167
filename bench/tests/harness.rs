//! The parts of the harness work: a master is measured at a size whose figures mean nothing, and nothing is left.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use rouse_testkit::back_ends;
use serde_json::Value;

/// The binaries that the tests of the workspace use; `cargo test` of this package alone does not build them.
fn rouse() -> Option<PathBuf> {
    let file = PathBuf::from(env!("CARGO_BIN_EXE_rouse-bench")).with_file_name("rouse");
    if !file.exists() {
        back_ends::skip("needs the master (`cargo build -p rouse` builds it)");
        return None;
    }
    back_ends::agents().map(|_| file)
}

fn measure(rouse: &PathBuf, works: &[&str]) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rouse-bench"));
    command.arg("run").arg("--rouse").arg(rouse).args(["--size", "tiny", "-o", "json"]);
    command.args(works.iter().flat_map(|work| ["--only", work]));
    let output = command.stdin(Stdio::null()).output().expect("the harness starts");
    let told = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[test]
fn builds_and_latency_are_measured_and_say_that_there_was_no_peer() {
    let Some(rouse) = rouse() else { return };
    let rows = measure(&rouse, &["builds", "latency"]);
    let names: Vec<_> = rows.iter().map(|row| row["work"].as_str().unwrap_or_default()).collect();
    assert_eq!(names, ["builds", "latency"]);
    for row in &rows {
        assert!(row["rouse"].as_f64().is_some_and(|figure| figure > 0.0), "{row:#}");
        assert!(row["bare"].as_f64().is_some_and(|figure| figure > 0.0), "{row:#}");
        // What was not measured is absent, and says why.
        assert!(row["peer"].is_null(), "{row:#}");
        assert!(row["notes"].to_string().contains("no peer"), "{row:#}");
    }
}

#[test]
fn a_work_that_does_not_exist_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_rouse-bench"))
        .args(["run", "--rouse", env!("CARGO_BIN_EXE_rouse-bench"), "--only", "nonsense"])
        .output()
        .expect("the harness starts");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no work `nonsense`"));
}

#[test]
fn a_second_checkout_is_measured_beside_the_first() {
    let Some(rouse) = rouse() else { return };
    let rows = measure(&rouse, &["cache"]);
    for row in &rows {
        assert!(row["rouse"].as_f64().is_some_and(|figure| figure > 0.0), "{row:#}");
        assert!(row["bare"].as_f64().is_some_and(|figure| figure > 0.0), "{row:#}");
    }
}
