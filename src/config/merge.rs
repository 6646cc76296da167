//! Several files → one tree. A further file adds entries to the sections of the first and overrides nothing.

use super::fault::{Code, Fault};
use super::source::SourceFile;
use super::tree::{Data, Entry, Node, read};

/// Reads all sources and puts them together. `None` where the main file cannot be read as YAML at all, for then every other fault
/// would only follow from that.
pub(crate) fn merged(sources: &[SourceFile], faults: &mut Vec<Fault>) -> Option<Node> {
    let mut whole = None;
    for (file, source) in sources.iter().enumerate() {
        let before = faults.len();
        let node = read(file, &source.text, faults);
        let node = match node {
            Some(Node { data: Data::Map(_), .. }) => node,
            Some(node) => {
                let message = format!("a configuration is a map of sections, not {}", node.kind());
                faults.push(Fault::new(Code::WrongType, node.span, message));
                None
            }
            None => node,
        };
        match (node, &mut whole) {
            (Some(node), None) => whole = Some(node),
            (Some(node), Some(whole)) => add(whole, node, sources, faults),
            (None, None) if faults.len() == before => {
                faults.push(empty(file));
                return None;
            }
            (None, None) => return None,
            (None, Some(_)) => {}
        }
    }
    whole
}

fn empty(file: usize) -> Fault {
    let span = super::tree::Span { file, start: 0, end: 0 };
    Fault::new(Code::Version, span, "the configuration is empty")
        .note("the least that works begins with `version: 1`")
}

fn add(whole: &mut Node, more: Node, sources: &[SourceFile], faults: &mut Vec<Fault>) {
    let Data::Map(entries) = more.data else { return };
    for entry in entries {
        let Data::Map(sections) = &mut whole.data else { return };
        match sections.iter_mut().find(|section| section.key == entry.key) {
            None => sections.push(entry),
            Some(section) => add_section(section, entry, sources, faults),
        }
    }
}

fn add_section(section: &mut Entry, more: Entry, sources: &[SourceFile], faults: &mut Vec<Fault>) {
    let file = |span: super::tree::Span| sources.get(span.file).map_or("", |source| source.name.as_str());
    match (&mut section.value.data, more.value.data) {
        (Data::Map(entries), Data::Map(further)) => {
            for entry in further {
                let Some(first) = entries.iter().find(|e| e.key == entry.key) else {
                    entries.push(entry);
                    continue;
                };
                let message = format!("`{}` of `{}` is declared in two files", entry.key, section.key);
                let fault = Fault::new(Code::DuplicateKey, entry.key_span, message)
                    .label("again here")
                    .related(first.key_span, "first here")
                    .note(format!(
                        "{} and {}: a further file adds and never overrides",
                        file(first.key_span),
                        file(entry.key_span)
                    ));
                faults.push(fault);
            }
        }
        // Each file may say which rules it follows.
        (Data::Number(first, _), Data::Number(second, _)) if *first == second => {}
        // A section without anything in it adds nothing; the first one's own fault is reported where it stands.
        (_, Data::Null) => {}
        _ => {
            let fault = Fault::new(
                Code::DuplicateKey,
                more.key_span,
                format!("`{}` stands in two files", section.key),
            )
            .label("again here")
            .related(section.key_span, "first here");
            faults.push(fault);
        }
    }
}
