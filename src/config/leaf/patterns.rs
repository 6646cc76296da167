//! Patterns: globs over branches, tags and paths, and wildcards over commit messages. A leading `!` says what does not count.

use super::{LeafFault, text_leaf};
use crate::config::fault::Code;
use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

text_leaf!(
    /// A glob: `*` stays between two slashes, `**` crosses them; `!` in front says what does not count.
    Pattern, "glob", check_glob, { "minLength": 1, "examples": ["main", "release/*", "src/**", "!docs/**"] }
);

fn split(text: &str) -> (bool, &str) {
    text.strip_prefix('!').map_or((true, text), |rest| (false, rest))
}

fn glob(text: &str) -> Result<Glob, LeafFault> {
    if text.is_empty() {
        return Err(LeafFault::new(Code::BadPattern, "an empty pattern matches nothing"));
    }
    GlobBuilder::new(text)
        .literal_separator(true)
        .build()
        .map_err(|error| LeafFault::new(Code::BadPattern, format!("`{text}` is no glob: {}", error.kind())))
}

fn check_glob(text: &str) -> Result<(), LeafFault> {
    glob(split(text).1).map(drop)
}

/// Several patterns: a text counts where one of them matches (or all are `!` patterns) and no `!` pattern does.
#[derive(Debug, Clone)]
pub struct Patterns {
    texts: Vec<Pattern>,
    /// `None` where only `!` patterns stand: all texts are wanted, but for those.
    wanted: Option<GlobSet>,
    unwanted: GlobSet,
}

impl Patterns {
    /// # Errors
    /// Where all patterns together are larger than the matcher takes.
    pub fn new(texts: Vec<Pattern>) -> Result<Self, LeafFault> {
        let mut wanted = GlobSetBuilder::new();
        let mut unwanted = GlobSetBuilder::new();
        let mut any_wanted = texts.is_empty();
        for text in &texts {
            let (want, pattern) = split(text);
            let set = if want { &mut wanted } else { &mut unwanted };
            set.add(glob(pattern)?);
            any_wanted |= want;
        }
        let build =
            |set: GlobSetBuilder| set.build().map_err(|e| LeafFault::new(Code::BadPattern, e.to_string()));
        let wanted = if any_wanted { Some(build(wanted)?) } else { None };
        Ok(Self { texts, wanted, unwanted: build(unwanted)? })
    }

    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.wanted.as_ref().is_none_or(|set| set.is_match(text)) && !self.unwanted.is_match(text)
    }

    /// As they were written.
    #[must_use]
    pub fn texts(&self) -> &[Pattern] {
        &self.texts
    }

    /// The first pattern that is one plain name and no wildcard.
    #[must_use]
    pub fn first_literal(&self) -> Option<&str> {
        self.texts
            .iter()
            .map(Pattern::as_str)
            .find(|t| !t.starts_with('!') && !t.contains(['*', '?', '[', '{', '\\']))
    }
}

impl PartialEq for Patterns {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

impl Serialize for Patterns {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.texts.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Vec::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

text_leaf!(
    /// Part of a commit message: `*` is any text, `?` one character, all else is itself; `!` in front says what does not count.
    MessagePattern, "message-pattern", check_message, { "minLength": 1, "examples": ["!*[skip ci]*"] }
);

fn check_message(text: &str) -> Result<(), LeafFault> {
    if split(text).1.is_empty() {
        return Err(LeafFault::new(Code::BadPattern, "an empty pattern matches nothing"));
    }
    Ok(())
}

fn wildcard(text: &str) -> Regex {
    let mut pattern = String::from("^");
    for c in text.chars() {
        match c {
            '*' => pattern.push_str(".*"),
            '?' => pattern.push('.'),
            c => pattern.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    pattern.push('$');
    RegexBuilder::new(&pattern)
        .dot_matches_new_line(true)
        .size_limit(64 << 20)
        .build()
        .expect("escaped text with `.*` and `.` is a pattern, and a config file is small")
}

/// Several message patterns; the rule is that of [`Patterns`].
#[derive(Debug, Clone)]
pub struct MessagePatterns {
    texts: Vec<MessagePattern>,
    wanted: Option<Vec<Regex>>,
    unwanted: Vec<Regex>,
}

impl MessagePatterns {
    #[must_use]
    pub fn new(texts: Vec<MessagePattern>) -> Self {
        let side = |want: bool| {
            texts
                .iter()
                .map(|t| split(t))
                .filter(|(w, _)| *w == want)
                .map(|(_, t)| wildcard(t))
                .collect::<Vec<_>>()
        };
        let (wanted, unwanted) = (side(true), side(false));
        let only_unwanted = wanted.is_empty() && !unwanted.is_empty();
        Self { texts, wanted: (!only_unwanted).then_some(wanted), unwanted }
    }

    #[must_use]
    pub fn matches(&self, message: &str) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted.iter().any(|r| r.is_match(message)))
            && !self.unwanted.iter().any(|r| r.is_match(message))
    }

    /// As they were written.
    #[must_use]
    pub fn texts(&self) -> &[MessagePattern] {
        &self.texts
    }
}

impl PartialEq for MessagePatterns {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

impl Serialize for MessagePatterns {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.texts.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for MessagePatterns {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Patterns {
        Patterns::new(texts.iter().map(|t| t.parse().expect(t)).collect()).expect("patterns")
    }

    #[test]
    fn a_star_stays_between_slashes() {
        let p = patterns(&["main", "release/*"]);
        assert!(p.matches("main") && p.matches("release/1.0"));
        assert!(!p.matches("release/1.0/fix") && !p.matches("mainline") && !p.matches("Main"));
        assert!(patterns(&["**"]).matches("a/b/c"));
        assert!(patterns(&["src/**"]).matches("src/a/b.rs"));
    }

    #[test]
    fn what_does_not_count_wins() {
        let p = patterns(&["src/**", "!src/doc/**"]);
        assert!(p.matches("src/a.rs") && !p.matches("src/doc/a.md") && !p.matches("README"));
        let p = patterns(&["!docs/**"]);
        assert!(p.matches("src/a.rs") && !p.matches("docs/a"));
        assert!(!patterns(&[]).matches("anything"));
    }

    #[test]
    fn literals_are_told_from_globs() {
        assert_eq!(patterns(&["!x", "release/*", "main"]).first_literal(), Some("main"));
        assert_eq!(patterns(&["release/*"]).first_literal(), None);
    }

    #[test]
    fn bad_globs_are_faults() {
        for bad in ["", "!", "[a", "{a"] {
            assert_eq!(bad.parse::<Pattern>().expect_err(bad).code, Code::BadPattern, "{bad:?}");
        }
    }

    #[test]
    fn messages_take_brackets_as_they_are() {
        let m = MessagePatterns::new(vec!["!*[skip ci]*".parse().expect("a pattern")]);
        assert!(m.matches("fix a crash\n\ndetails") && m.matches("skip"));
        assert!(!m.matches("docs [skip ci]\n\nmore"));
        let m = MessagePatterns::new(vec!["release ?.?*".parse().expect("a pattern")]);
        assert!(m.matches("release 1.0\nnotes") && !m.matches("a release 1.0"));
    }

    #[test]
    fn patterns_survive_storage() {
        let p = patterns(&["a/**", "!b"]);
        let text = serde_json::to_string(&p).expect("json");
        assert_eq!(text, r#"["a/**","!b"]"#);
        assert_eq!(serde_json::from_str::<Patterns>(&text).expect("patterns"), p);
    }
}
