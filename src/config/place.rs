//! What a person calls a place in a configuration: ``step `test` of builder `unit` ``.

use super::tree::{Node, Path};

/// Section → what one entry of it is called, and several.
const SECTIONS: [(&str, &str, &str); 8] = [
    ("secrets", "secret", "secrets"),
    ("projects", "project", "projects"),
    ("codebases", "codebase", "codebases"),
    ("providers", "account", "accounts"),
    ("locks", "lock", "locks"),
    ("pools", "pool", "pools"),
    ("builders", "builder", "builders"),
    ("schedulers", "scheduler", "schedulers"),
];

/// What one entry of a section is called.
pub(crate) fn singular(section: &str) -> &str {
    SECTIONS.iter().find(|(name, ..)| *name == section).map_or(section, |(_, one, _)| one)
}

fn plural(section: &str) -> Option<&'static str> {
    SECTIONS.iter().find(|(name, ..)| *name == section).map(|(_, _, many)| *many)
}

/// `mounts[0].from`.
fn dotted(parts: &[String]) -> String {
    let mut text = String::new();
    for part in parts {
        match part.parse::<usize>() {
            Ok(_) => text.push_str(&format!("[{part}]")),
            Err(_) if text.is_empty() => text.push_str(part),
            Err(_) => text.push_str(&format!(".{part}")),
        }
    }
    text
}

/// A message with its place: before the reason that follows a colon, after one that has none.
pub(crate) fn placed(message: &str, place: &str) -> String {
    let mut quoted = false;
    let colon = message.char_indices().find(|(at, c)| {
        quoted ^= *c == '`';
        !quoted && message[*at..].starts_with(": ")
    });
    match colon {
        Some((at, _)) => format!("{} in {place}{}", &message[..at], &message[at..]),
        None => format!("{message} in {place}"),
    }
}

/// Names places of one tree.
pub(crate) struct Places<'a> {
    pub(crate) tree: &'a Node,
    /// Keys that name kinds of providers: they stand between an object and its options, and nobody would say them.
    pub(crate) kinds: &'a [&'static str],
}

impl Places<'_> {
    /// The map, or the thing, that stands at a path.
    pub(crate) fn of(&self, path: &Path) -> String {
        let (head, rest) = self.head(&path.0);
        if rest.is_empty() { head } else { format!("`{}` of {head}", dotted(rest)) }
    }

    /// Whether what stands at a path is an object with a name, or a step.
    pub(crate) fn is_object(&self, path: &Path) -> bool {
        match path.0.as_slice() {
            [section, _] => plural(section).is_some(),
            [builders, _, steps, _] => builders == "builders" && steps == "steps",
            _ => false,
        }
    }

    /// The object that a path leads into, and the rest of the way.
    fn head<'p>(&self, parts: &'p [String]) -> (String, &'p [String]) {
        match parts {
            [] => ("the configuration".to_owned(), &[]),
            [section] => (format!("`{section}`"), &[]),
            [builders, builder, steps, step, rest @ ..] if builders == "builders" && steps == "steps" => {
                (format!("{} of builder `{builder}`", self.step(builder, step)), rest)
            }
            [section, name, kind, rest @ ..]
                if matches!(section.as_str(), "pools" | "providers")
                    && self.kinds.contains(&kind.as_str()) =>
            {
                (format!("{} `{name}`", singular(section)), rest)
            }
            [section, name, rest @ ..] if plural(section).is_some() => {
                (format!("{} `{name}`", singular(section)), rest)
            }
            [section, rest @ ..] => (format!("`{section}`"), rest),
        }
    }

    fn step(&self, builder: &str, step: &str) -> String {
        let number = step.parse::<usize>().unwrap_or_default();
        let steps = self.tree.get("builders").and_then(|b| b.get(builder)).and_then(|b| b.get("steps"));
        let name = steps.and_then(|steps| match &steps.data {
            super::tree::Data::List(items) => items.get(number)?.get("name")?.text(),
            _ => None,
        });
        name.map_or_else(|| format!("step {}", number + 1), |name| format!("step `{name}`"))
    }

    /// Who takes the keys of the map at a path: `pools take`, `docker pools take`.
    pub(crate) fn takers(&self, path: &Path) -> String {
        match path.0.as_slice() {
            [] => "a configuration takes".to_owned(),
            [builders, _, steps, _] if builders == "builders" && steps == "steps" => "steps take".to_owned(),
            [section, _] if let Some(many) = plural(section) => format!("{many} take"),
            [section, _, kind]
                if self.kinds.contains(&kind.as_str())
                    && let Some(many) = plural(section) =>
            {
                format!("{kind} {many} take")
            }
            [.., last] if last.parse::<usize>().is_ok() => "it takes".to_owned(),
            [.., last] => format!("`{last}` takes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::placed;

    #[test]
    fn a_reason_stays_at_the_end() {
        assert_eq!(placed("no image", "pool `a`"), "no image in pool `a`");
        assert_eq!(placed("not YAML: a tab", "it"), "not YAML in it: a tab");
        assert_eq!(placed("`a: b` is odd: why", "it"), "`a: b` is odd in it: why");
    }
}
