//! Whatever is done to a good text: the checks end, every fault stands within its file and can be shown, and what passes the checker of
//! structure can be read as the types.

use super::check;
use crate::config::{Code, Faults};
use proptest::prelude::*;

const FULL: &str = include_str!("../../../config/full.yaml");
const SCRAPS: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    "\n",
    "  ",
    "\"",
    "'",
    "{{ ",
    " }}",
    "ü",
    "\t",
    "&a ",
    "*a",
    "!x ",
    "|",
    "#",
    "0",
    "null",
    "true",
    "-1.5",
    "\u{1f600}",
];

#[derive(Debug, Clone)]
enum Edit {
    Cut {
        from: usize,
        length: usize,
    },
    Put {
        at: usize,
        scrap: &'static str,
    },
    /// Copies a line to another place.
    Move {
        from: usize,
        to: usize,
    },
    /// Puts the value of one line in place of another's.
    Swap {
        from: usize,
        to: usize,
    },
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = 0..FULL.len();
    let line = 0..FULL.lines().count();
    prop_oneof![
        (at.clone(), 1..40_usize).prop_map(|(from, length)| Edit::Cut { from, length }),
        (at, prop::sample::select(SCRAPS.to_vec())).prop_map(|(at, scrap)| Edit::Put { at, scrap }),
        (line.clone(), line.clone()).prop_map(|(from, to)| Edit::Move { from, to }),
        (line.clone(), line).prop_map(|(from, to)| Edit::Swap { from, to }),
    ]
}

fn edited(text: &str, edit: &Edit) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let inside =
        |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    match edit {
        Edit::Cut { from, length } => format!("{}{}", &text[..inside(*from)], &text[inside(from + length)..]),
        Edit::Put { at, scrap } => format!("{}{scrap}{}", &text[..inside(*at)], &text[inside(*at)..]),
        Edit::Move { from, to } => {
            let line = lines.get(*from).cloned().unwrap_or_default();
            lines.insert((*to).min(lines.len()), line);
            lines.join("\n")
        }
        Edit::Swap { from, to } => {
            let value =
                lines.get(*from).and_then(|line| line.split_once(": ")).map(|(_, value)| value.to_owned());
            if let Some((line, value)) = lines.get_mut(*to).zip(value) {
                let key = line.split_once(": ").map_or(line.as_str(), |(key, _)| key);
                *line = format!("{key}: {value}");
            }
            lines.join("\n")
        }
    }
}

fn sound(faults: &Faults) -> Result<(), TestCaseError> {
    for fault in &faults.list {
        prop_assert_ne!(fault.code, Code::Internal, "{}", fault.message);
        let spans = fault.span.into_iter().chain(fault.related.iter().map(|(span, _)| *span));
        for span in spans {
            let text = &faults.sources[span.file].text;
            prop_assert!(text.get(span.start..span.end).is_some(), "{fault:?}");
        }
    }
    // Each is framed, none falls back to its bare message.
    let shown = faults.text(false).matches("┌─").count();
    prop_assert!(shown >= faults.list.len().min(200), "{}", faults.text(false));
    prop_assert_eq!(faults.records().len(), faults.list.len());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_breaks_the_checks(edits in prop::collection::vec(edit(), 1..5)) {
        let text = edits.iter().fold(FULL.to_owned(), |text, edit| edited(&text, edit));
        match check(&text) {
            Ok(loaded) => sound(&loaded.warnings)?,
            Err(faults) => sound(&faults)?,
        }
    }

    #[test]
    fn noise_is_no_configuration(text in "\\PC{0,200}") {
        if let Err(faults) = check(&text) {
            sound(&faults)?;
        }
    }
}
