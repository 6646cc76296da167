//! Rendered scripts, run by real shells with values that try to get out.

use std::path::Path;
use std::process::{Command, Output};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rouse_testkit::chance;

use super::super::{RenderedScript, Shell, script};
use super::scope;

/// The shells of this machine whose quoting the lexer claims to know.
fn shells() -> Vec<Vec<&'static str>> {
    let all = [
        vec!["/bin/sh"],
        vec!["/bin/dash"],
        vec!["/bin/bash"],
        vec!["/bin/bash", "--posix"],
        vec!["/bin/busybox", "sh"],
    ];
    all.into_iter().filter(|words| Path::new(words[0]).exists()).collect()
}

fn render(source: &str, value: &str) -> Result<RenderedScript, String> {
    let mut scope = scope();
    scope.branch = Some(value.to_owned());
    script(source, &Shell::Posix, &scope).map_err(|e| e.to_string())
}

/// Runs a script in an empty folder with a `PATH` that holds only what the fragments use.
fn run(shell: &[&str], rendered: &RenderedScript, folder: &Path) -> Output {
    let file = folder.join("script");
    std::fs::write(&file, &rendered.text).unwrap();
    Command::new(shell[0])
        .args(&shell[1..])
        .arg(&file)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("CANARY", folder.join("canary"))
        .envs(&rendered.env)
        .current_dir(folder)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
}

/// Values that would do harm if any shell parsed them.
const NASTY: [&str; 26] = [
    "$(touch canary)",
    "`touch canary`",
    "';touch canary;'",
    "\";touch canary;\"",
    "\\\";touch canary;\\\"",
    "$(reboot)",
    "';id",
    "; touch canary #",
    "&& touch canary",
    "| touch canary",
    "\ntouch canary\n",
    "EOF\ntouch canary",
    "a[$(touch canary)]",
    "${x:=$(touch canary)}",
    "$((a[$(touch canary)]))",
    "*",
    "/*",
    "~",
    "$HOME",
    "  two  spaces ",
    "-n",
    "--help",
    "$'\\n'",
    "!!",
    "() { :; }; touch canary",
    "é\u{1F980}\u{7f}\\",
];

/// Scripts that print the value, and nothing else, in every way that is accepted.
const PRINTERS: [&str; 22] = [
    "printf %s {{ branch }}",
    "printf %s \"{{ branch }}\"",
    "printf %s ''{{ branch }}\"\"",
    "x={{ branch }}; printf %s \"$x\"",
    "x=\"{{ branch }}\"\nprintf %s \"$x\"",
    "x=$(printf %sX {{ branch }}); printf %s \"${x%X}\"",
    "x=\"$(printf %sX \"{{ branch }}\")\"; printf %s \"${x%X}\"",
    "x=$( ( printf %sX \"$(printf %s {{ branch }}X)\" ) ); printf %s \"${x%XX}\"",
    "cat <<EOF\n{{ branch }}\nEOF\n",
    "f() { printf %s \"$1\"; }; f {{ branch }}",
    "case {{ branch }} in \"{{ branch }}\") printf %s {{ branch }};; esac",
    "sh -c 'printf %s \"$1\"' _ {{ branch }}",
    "for x in {{ branch }}; do printf %s \"$x\"; done",
    "# it's a \"comment $( {{ branch }}\nprintf %s {{ branch }}",
    "printf %s {{ branch }} # don't",
    "V={{ branch }} sh -c 'printf %s \"$V\"'",
    "export V={{ branch }}; sh -c 'printf %s \"$V\"'",
    "if [ -n x{{ branch }} ]; then printf %s \\\n{{ branch }}; fi",
    "{ printf %s {{ branch }}; }",
    "set -eu; : $((1+2)) ${#} ${CANARY#*'x'}; printf %s {{ branch }}",
    "cat <<A >/dev/null; cat <<'B' >/dev/null; printf %s {{ branch }}\n$(echo \"it's {{ branch }}\")\nA\nit's $(\nB\n",
    "printf %s {{ branch }}>out; cat out",
];

/// What a printer writes; a here-document adds its line end.
fn expected(printer: &str, value: &str) -> String {
    let end = if printer.starts_with("cat <<EOF") { "\n" } else { "" };
    format!("{value}{end}")
}

fn check_printer(printer: &str, value: &str, folder: &Path) -> Result<(), TestCaseError> {
    let rendered = render(printer, value).map_err(TestCaseError::fail)?;
    for shell in shells() {
        let output = run(&shell, &rendered, folder);
        let printed = String::from_utf8_lossy(&output.stdout);
        prop_assert_eq!(&*printed, &*expected(printer, value), "{:?} on {}: {:?}", shell, printer, output);
        prop_assert!(!folder.join("canary").exists(), "{:?} on {} ran the value {:?}", shell, printer, value);
    }
    Ok(())
}

#[test]
fn nasty_values_are_text_in_every_shell() {
    let folder = tempfile::tempdir().unwrap();
    for printer in PRINTERS {
        for value in NASTY {
            check_printer(printer, value, folder.path()).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_value_is_text(
        value in "[ -~\\n\u{e9}'\"$`(){}\\\\;&|<>*?#!]{0,30}",
        printer in 0..PRINTERS.len(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        check_printer(PRINTERS[printer], &value, folder.path())?;
    }
}

/// Pieces of shell that open, close and confuse; a random pile of them is mostly nonsense, and of
/// the piles that pass the check none may run what is in the value.
const PIECES: [&str; 53] = [
    "<(",
    "<<<",
    "eval ",
    "x=(",
    "[",
    "declare ",
    "declare -i x\n",
    "test ",
    "let ",
    "{{ branch }}",
    "{{ branch }}",
    "\"{{ branch }}\"",
    "'",
    "\"",
    "`",
    "$(",
    ")",
    "(",
    "${x:-",
    "${x",
    "}",
    "$((",
    "))",
    "((",
    "\\",
    "\n",
    " ",
    ";",
    "#",
    " #",
    "<<E\n",
    "<<-E\n",
    "<<'E'\n",
    "\nE\n",
    "$'",
    "$\"",
    "a",
    "x=",
    "x[",
    "]=",
    "case a in a) ",
    ";; esac",
    "echo ",
    "cat ",
    "[[ ",
    " ]]",
    " -eq 1",
    "|",
    "&",
    ">f ",
    "$",
    "$[",
    "]",
];

const HARMS: [&str; 8] = [
    "$(touch canary)",
    "`touch canary`",
    "a[$(touch canary)]",
    "';touch canary;'",
    "\";touch canary;\"",
    "\ntouch canary\n",
    "E\ntouch canary\nE",
    "x}$(touch canary)",
];

const SEARCH: &str = "whatever_passes_the_check_runs_no_value";

/// The same piles in every run, so that a run that fails says something of what has changed; a soak looks for new ones.
fn search() -> ProptestConfig {
    let (asked, soak) = (chance::seed_asked_for(), chance::soak());
    let seed = asked.unwrap_or_else(|| if soak { chance::fresh_seed() } else { 1 });
    let long = soak || asked.is_some();
    if long {
        eprintln!("again: {}", chance::again(seed, SEARCH));
    }
    ProptestConfig {
        cases: ProptestConfig::default().cases * if long { 600 } else { 12 },
        max_global_rejects: u32::MAX,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(search())]

    #[test]
    fn whatever_passes_the_check_runs_no_value(
        pieces in proptest::collection::vec(0..PIECES.len(), 1..14),
        harm in 0..HARMS.len(),
    ) {
        let source: String = pieces.iter().map(|i| PIECES[*i]).collect();
        prop_assume!(source.contains("{{"));
        // a value as the whole name of a command is the author's wish, and no shell parses it
        let Ok(rendered) = render(&source, HARMS[harm]) else { return Ok(()) };
        let folder = tempfile::tempdir().unwrap();
        for shell in shells() {
            let output = run(&shell, &rendered, folder.path());
            prop_assert!(
                !folder.path().join("canary").exists(),
                "{shell:?} ran {:?} in {source:?}, rendered {:?}: {output:?}", HARMS[harm], rendered.text
            );
        }
    }
}
