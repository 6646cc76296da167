//! `docs/reference/agent-protocol.md` says what the code does: every example is decoded, none has a field that the code does not know,
//! and every kind of message has one.

use std::collections::BTreeSet;
use std::path::Path;

use rouse_agent_protocol::{
    JoinDocument, OutcomeKind, ToAgent, ToMaster, close, decode_to_agent, decode_to_master, exit,
    kinds_to_agent, kinds_to_master,
};
use serde::Serialize;
use serde_json::Value;

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/agent-protocol.md");
    std::fs::read_to_string(path).expect("the document is there")
}

/// The fenced blocks of one language.
fn blocks(language: &str) -> Vec<String> {
    let text = document();
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// Everything in the example is in what the code makes of it.
fn check_known(example: &Value, decoded: &Value, at: &str) {
    match (example, decoded) {
        (Value::Object(example), Value::Object(decoded)) => {
            for (name, value) in example {
                let found = decoded.get(name).unwrap_or_else(|| panic!("{at}: the code knows no `{name}`"));
                check_known(value, found, &format!("{at}.{name}"));
            }
        }
        (Value::Array(example), Value::Array(decoded)) => {
            assert_eq!(example.len(), decoded.len(), "{at}");
            example.iter().zip(decoded).for_each(|(example, decoded)| check_known(example, decoded, at));
        }
        (Value::Number(example), Value::Number(decoded)) => {
            assert_eq!(example.as_f64(), decoded.as_f64(), "{at}")
        }
        _ => assert_eq!(example, decoded, "{at}"),
    }
}

fn check<T: Serialize>(text: &str, decoded: &T) -> String {
    let example: Value = serde_json::from_str(text).expect("it was decoded");
    check_known(&example, &serde_json::to_value(decoded).expect("plain data"), "example");
    example.as_object().and_then(|object| object.keys().next()).cloned().unwrap_or_default()
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn examples_of_messages_are_complete_and_right() {
    let decode = |text: &String| -> (String, ToAgent) {
        let message =
            decode_to_agent(text).unwrap_or_else(|e| panic!("{e:?} in {text}")).expect("a known kind");
        (check(text, &message), message)
    };
    let to_agent: BTreeSet<String> = blocks("json to-agent").iter().map(|text| decode(text).0).collect();
    assert_eq!(to_agent, names(kinds_to_agent()));
    let decode = |text: &String| -> String {
        let message: ToMaster =
            decode_to_master(text).unwrap_or_else(|e| panic!("{e:?} in {text}")).expect("known");
        check(text, &message)
    };
    let to_master: BTreeSet<String> = blocks("json to-master").iter().map(decode).collect();
    assert_eq!(to_master, names(kinds_to_master()));
    for text in blocks("json join") {
        let join: JoinDocument = serde_json::from_str(&text).expect("a join document");
        check(&text, &join);
    }
}

#[test]
fn outcomes_in_the_table_are_right() {
    let text = document();
    let table = text
        .split("`kind` is one of:")
        .nth(1)
        .and_then(|rest| rest.split("\nBeside it").next())
        .expect("it is there");
    let examples: Vec<&str> = table.split('`').filter(|part| part.starts_with("{\"")).collect();
    assert!(examples.len() >= 9);
    for example in examples {
        let kind: OutcomeKind = serde_json::from_str(example).unwrap_or_else(|e| panic!("{e} in {example}"));
        check(example, &kind);
    }
}

#[test]
fn codes_are_the_documents() {
    let text = document();
    for code in [
        close::PROTOCOL,
        close::OLDER_MASTER,
        close::NO_COMMON_VERSION,
        close::WRONG_INSTALLATION,
        close::ENDING,
    ] {
        assert!(text.contains(&format!("| {code} |")), "close code {code}");
    }
    for code in [exit::ENDED, exit::INTERNAL, exit::USAGE, exit::REFUSED, exit::EXPIRED, exit::SIGNALLED] {
        assert!(text.contains(&format!("| {code} |")), "exit code {code}");
    }
}

/// Name, value: the bounds as the code has them.
macro_rules! caps {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), u64::try_from(rouse_agent_protocol::$name).expect("it fits"))),*] };
}

#[test]
fn caps_are_the_documents() {
    let all = caps![
        MAX_CONTROL_BYTES,
        MAX_FRAME_BYTES,
        MAX_LINE_BYTES,
        MAX_MESSAGE_BYTES,
        MAX_LISTED,
        MAX_NAME_BYTES,
        MAX_COMMANDS,
        MAX_FILE_LOGS,
        MAX_STREAMS,
        MAX_HELLO_TEXT,
        MAX_HELLO_WORDS,
        MAX_HELLO_SECONDS,
        MAX_STRANGER_SECONDS,
        MAX_STRANGERS,
        MAX_CONNECTIONS,
        MAX_LOG_BYTES,
        MAX_UPLOAD_FILES,
        MAX_UPLOAD_BYTES,
        MAX_PATH_BYTES,
        MAX_PROPERTIES_BYTES,
        MAX_PROPERTIES,
        MAX_PROPERTY_NAME,
        MAX_PROPERTY_BYTES,
    ];
    let source = include_str!("../src/caps.rs");
    assert_eq!(source.matches("pub const ").count(), all.len(), "every cap is looked at");
    let text = document();
    for (name, value) in all {
        let row = text.lines().find(|line| line.starts_with("| ") && line.contains(&format!("`{name}`")));
        let row = row.unwrap_or_else(|| panic!("{name} has no row"));
        let bound = row.split('|').nth(2).unwrap_or_default();
        let numbers: Vec<&str> = bound.split(|c: char| !c.is_ascii_digit()).collect();
        assert!(numbers.contains(&value.to_string().as_str()), "{name} is {value}, and the row says {bound}");
    }
}
