//! Configurations as files.

use super::good::SMALLEST;
use super::kinds;
use crate::config::{Code, load};
use std::fs;

#[test]
fn the_folder_beside_the_main_file_adds_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let main = folder.path().join("rouse.yaml");
    fs::write(&main, SMALLEST).expect("written");
    assert_eq!(load(&main, &kinds::all()).expect("good").sources.len(), 1);

    let more = folder.path().join("rouse.d");
    fs::create_dir(&more).expect("made");
    for (name, text) in [
        ("b.yaml", "projects: {b: {}}"),
        ("a.yml", "projects: {a: {}}"),
        (".b.yaml.swp.yaml", "not: {a: configuration"),
        ("README", "nor is this"),
    ] {
        fs::write(more.join(name), text).expect("written");
    }
    let loaded = load(&main, &kinds::all()).expect("good");
    let names: Vec<_> = loaded.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["rouse.yaml", "rouse.d/a.yml", "rouse.d/b.yaml"]);
    assert_eq!(
        loaded.config.projects.keys().map(|key| key.as_str()).collect::<Vec<_>>(),
        ["a", "b", "default"]
    );

    // A fault names the file as a shell would find it.
    fs::write(more.join("b.yaml"), "projects: {b: {shre: 1}}").expect("written");
    let faults = load(&main, &kinds::all()).expect_err("bad");
    let shown = more.join("b.yaml").display().to_string();
    assert!(faults.to_string().contains(&format!("{shown}:1:16")), "{faults}");
    assert_eq!(faults.records()[0].file.as_deref(), Some(shown.as_str()));
}

#[test]
fn what_cannot_be_read_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let main = folder.path().join("rouse.yaml");
    let fault = |wanted: &str| {
        let faults = load(&main, &kinds::all()).expect_err(wanted);
        assert_eq!(faults.list[0].code, Code::Unreadable);
        let text = faults.to_string();
        assert!(text.contains(wanted) && text.contains("rouse.yaml"), "{text}");
    };
    fault("No such file");
    fs::write(&main, b"version: 1\nprojects: {\xff: {}}\n").expect("written");
    fault("line 2 is not UTF-8 text");
    fs::write(&main, "#".repeat((4 << 20) + 1)).expect("written");
    fault("larger than 4 MiB");
    fs::remove_file(&main).expect("removed");
    fs::create_dir(&main).expect("made");
    fault("Is a directory");
}

#[test]
fn a_byte_order_mark_is_no_fault() {
    let folder = tempfile::tempdir().expect("a folder");
    let main = folder.path().join("rouse.yaml");
    fs::write(&main, format!("\u{feff}{SMALLEST}")).expect("written");
    assert!(load(&main, &kinds::all()).is_ok());
}
