//! Small sources with changes of each kind: what is woven, and what it does.

use std::collections::BTreeSet;
use std::process::Command;

use super::{Of, Woven, weave};
use crate::list::{Change, Kind};
use crate::places;

/// The first change stands at the `§` of the first needle, and is number 1.
pub fn changes(text: &str, all: &[(Kind, &str, &str)]) -> Vec<Change> {
    let change = |(number, (kind, needle, replacement)): (u32, &(Kind, &str, &str))| {
        let (before, after) = needle.split_once('§').unwrap();
        let found = text.find(&format!("{before}{after}")).unwrap_or_else(|| panic!("no {needle}"));
        let above = &text[..found + before.len()];
        Change {
            number,
            file: "a.rs".into(),
            kind: *kind,
            line: above.matches('\n').count() + 1,
            column: above.rsplit('\n').next().unwrap().chars().count() + 1,
            replacement: (*replacement).into(),
            name: (*needle).into(),
            hidden_type: false,
        }
    };
    (1..).zip(all).map(change).collect()
}

fn woven(text: &str, all: &[(Kind, &str, &str)], dropped: &[u32]) -> Woven {
    let changes = changes(text, all);
    let places = places::find(text, &changes.iter().collect::<Vec<_>>()).unwrap().places;
    weave(text, &places, &dropped.iter().copied().collect::<BTreeSet<_>>())
}

/// Of its expressions that end with the mark `// here`, the woven line without the mark.
fn line(woven: &Woven) -> &str {
    woven.text.lines().find_map(|line| line.trim().strip_suffix("// here")).unwrap().trim()
}

#[test]
fn the_code_as_it_stands_comes_first_and_then_each_change() {
    let text = "fn f(a: i32, b: i32) -> bool {\n    a < b // here\n}\n";
    let all = [(Kind::Binary, "a §< b", "<="), (Kind::Binary, "a §< b", "==")];
    let switch = "match crate::mutant_switch::on";
    let both = woven(text, &all, &[]);
    assert_eq!(line(&both), format!("({switch}(&[1, 2]) {{ 0 => (a < b), 1 => (a <= b), _ => (a == b), }})"));
    assert_eq!(both.places, [[1, 2]]);
    let one = woven(text, &all, &[1]);
    assert_eq!(line(&one), format!("({switch}(&[2]) {{ 0 => (a < b), _ => (a == b), }})"));
    assert_eq!(one.places, [[2]]);
    let none = woven(text, &all, &[1, 2]);
    assert_eq!(none.text, text);
    assert!(none.places.is_empty());
}

#[test]
fn a_complaint_is_about_the_innermost_change_around_it() {
    let text = "fn f(a: i32, b: i32) -> bool {\n    !(a < b) // here\n}\n";
    let all = [
        (Kind::Body, "§!(a < b)", "true"),
        (Kind::Unary, "§!(a < b)", ""),
        (Kind::Binary, "a §< b", "<="),
        (Kind::Binary, "a §< b", "bad"),
    ];
    let woven = woven(text, &all, &[]);
    let at = |needle: &str| woven.text.find(needle).unwrap_or_else(|| panic!("no {needle}: {}", woven.text));
    assert_eq!(woven.blame(at("return true"), Of::Change), Some([1].as_slice()));
    assert_eq!(woven.blame(at("a bad b"), Of::Change), Some([4].as_slice()));
    // What asks which change is on is there for all of its place.
    assert_eq!(woven.blame(at("on(&[3, 4])"), Of::Change), Some([3, 4].as_slice()));
    // The code as it stands is nobody's fault, or that of those around it.
    assert_eq!(woven.blame(at("a < b"), Of::Change), None);
    assert_eq!(woven.blame(at("a < b"), Of::Place), Some([3, 4].as_slice()));
    assert_eq!(woven.blame(at("fn f"), Of::Place), None);
}

#[test]
fn a_match_that_lacks_arms_is_the_fault_of_those_without_a_guard() {
    let text = "fn f(a: Option<i32>) -> i32 {\n    match a { _ if g() => 0, Some(1) if h() => 1, Some(b) => b, None => 2 } // here\n}\n";
    let all = [(Kind::Arm, "§Some(1) if", ""), (Kind::Arm, "§Some(b)", ""), (Kind::Arm, "§None", "")];
    let woven = woven(text, &all, &[]);
    assert_eq!(woven.blame(woven.text.find("a {").unwrap(), Of::Match), Some([2, 3].as_slice()));
    assert_eq!(woven.places, [[1], [2], [3]]);
}

#[test]
fn beside_a_let_there_is_no_place() {
    let text = "fn f(a: Option<i32>, b: i32) -> bool {\n    if let Some(a) = a && a < b { true } else { false } // here\n}\n";
    let all = [(Kind::Binary, "a §&& a", "||"), (Kind::Binary, "a §< b", ">")];
    let woven = woven(text, &all, &[]);
    assert_eq!(woven.places, [[2]]);
    assert!(line(&woven).starts_with("if let Some(a) = a && (match"), "{}", woven.text);
    let changes = changes(text, &all);
    assert_eq!(places::find(text, &changes.iter().collect::<Vec<_>>()).unwrap().impossible, [1]);
}

#[test]
fn lines_stay_lines() {
    let text = SAMPLE;
    assert_eq!(woven(text, EACH, &[]).text.lines().count(), text.lines().count());
}

/// One of each kind of change, some within others, some equally far as others.
const SAMPLE: &str = r#"mod mutant_switch;

#[derive(Default)]
struct Pair {
    a: i32,
    b: i32,
}

struct Ways;

impl Ways {
    /// Wörter mit Umlauten stehen vor dem Rest.
    fn nested(&self, a: i32, b: i32, c: i32) -> i32 {
        a - b * c // minus
    }
}

trait Named {
    fn name(&self) -> String {
        "given".to_string()
    }
}

impl Named for Ways {}

fn guarded(a: Option<i32>) -> &'static str {
    match a {
        Some(0) => "none",
        Some(n) if n > 5 => "many",
        Some(1) | Some(2) => "few",
        _ => "other",
    }
}

fn chained(a: Option<i32>, b: i32) -> bool {
    let ä = if let Some(a) = a && a < b { true } else { false };
    !ä
}

fn pair() -> i32 {
    let pair = Pair { a: 1, /* one */ b: 2, ..Default::default() };
    let mut sum = pair.a;
    sum += if pair.b == 2 { 10 } else { 20 } + 100;
    sum
}

fn main() {
    let ways = Ways;
    let guarded = [Some(0), Some(9), Some(2), Some(4)].map(guarded).join(",");
    println!("{} {} {guarded} {} {}", ways.nested(9, 2, 3), ways.name(), chained(Some(1), 2), pair());
}
"#;

const EACH: &[(Kind, &str, &str)] = &[
    (Kind::Binary, "a §- b", "+"),
    (Kind::Binary, "b §* c", "+"),
    (Kind::Body, "§a - b", "-1"),
    (Kind::Body, "§\"given\"", "String::new()"),
    (Kind::Arm, "§Some(0) => ", ""),
    (Kind::Arm, "§Some(n) if", ""),
    (Kind::Guard, "§n > 5", "true"),
    (Kind::Guard, "§n > 5", "false"),
    (Kind::Binary, "n §> 5", "<"),
    (Kind::Arm, "§Some(1) | Some(2)", ""),
    (Kind::Binary, "a §< b {", ">"),
    (Kind::Unary, "§!ä", ""),
    (Kind::Field, "§a: 1", ""),
    (Kind::Field, "§b: 2", ""),
    (Kind::Binary, "sum §+= if", "-="),
    (Kind::Binary, "} §+ 100", "*"),
    (Kind::Binary, "pair.b §== 2", "!="),
];

/// What the program says under each of them, 0 for none.
const SAID: &[&str] = &[
    "3 given none,many,few,other false 111",
    "15 given none,many,few,other false 111",
    "4 given none,many,few,other false 111",
    "-1 given none,many,few,other false 111",
    "3  none,many,few,other false 111",
    "3 given other,many,few,other false 111",
    "3 given none,other,few,other false 111",
    "3 given none,many,many,many false 111",
    "3 given none,other,few,other false 111",
    "3 given none,other,many,many false 111",
    "3 given none,many,other,other false 111",
    "3 given none,many,few,other true 111",
    "3 given none,many,few,other true 111",
    "3 given none,many,few,other false 110",
    "3 given none,many,few,other false 121",
    "3 given none,many,few,other false -109",
    "3 given none,many,few,other false 1001",
    "3 given none,many,few,other false 121",
];

#[test]
fn each_change_does_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let woven = woven(SAMPLE, EACH, &[]);
    assert_eq!(woven.places.iter().map(Vec::len).sum::<usize>(), EACH.len(), "{:?}", woven.places);
    std::fs::write(path("main.rs"), &woven.text).unwrap();
    std::fs::write(path("mutant_switch.rs"), include_str!("../../woven/switch.rs")).unwrap();
    let mut compiler = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    compiler.args(["--edition", "2024", "--cap-lints", "allow", "main.rs"]).current_dir(folder.path());
    let compiled = compiler.output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    for (number, said) in SAID.iter().enumerate() {
        let mut program = Command::new(path("main"));
        program.env("ROUSE_MUTANT", number.to_string()).env("ROUSE_MUTANT_REACHED", path("reached"));
        let output = program.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), *said, "change {number}");
    }
    let reached = std::fs::read_to_string(path("reached")).unwrap();
    let reached: BTreeSet<u32> = reached.lines().map(|line| line.parse().unwrap()).collect();
    let places: BTreeSet<u32> = woven.places.iter().map(|changes| changes[0]).collect();
    assert_eq!(reached, places);
}
