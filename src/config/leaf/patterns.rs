//! Patterns as they are written, beside the matchers that `sources` makes of them: over branches, tags and paths, and over messages.

use super::{LeafFault, text_leaf};
use crate::config::fault::Code;
use crate::sources;
use crate::sources::PatternError;
use serde::{Deserialize, Serialize};

text_leaf!(
    /// A glob: `*` stays between two slashes, `**` crosses them; `!` in front says what does not count.
    Pattern, "glob", check_glob, { "minLength": 1, "examples": ["main", "release/*", "src/**", "!docs/**"] }
);

text_leaf!(
    /// Part of a commit message: `*` is any text, all else is itself; `!` in front says what does not count.
    MessagePattern, "message-pattern", check_message, { "minLength": 1, "examples": ["!*[skip ci]*"] }
);

fn check_glob(text: &str) -> Result<(), LeafFault> {
    not_empty(text)?;
    Ok(sources::Patterns::paths(&[text]).map(drop)?)
}

fn check_message(text: &str) -> Result<(), LeafFault> {
    not_empty(text)?;
    Ok(sources::Patterns::messages(&[text]).map(drop)?)
}

fn not_empty(text: &str) -> Result<(), LeafFault> {
    if text.strip_prefix('!').unwrap_or(text).is_empty() {
        return Err(LeafFault::new(Code::BadPattern, "an empty pattern matches nothing"));
    }
    Ok(())
}

impl From<PatternError> for LeafFault {
    fn from(error: PatternError) -> Self {
        let why = error.source.kind();
        if error.pattern.is_empty() {
            return Self::new(Code::BadPattern, format!("the patterns cannot be read: {why}"));
        }
        Self::new(Code::BadPattern, format!("`{}` is no pattern: {why}", error.pattern))
    }
}

macro_rules! patterns {
    ($(#[$doc:meta])* $name:ident of $leaf:ident by $make:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name {
            texts: Vec<$leaf>,
            matcher: sources::Patterns,
        }

        impl $name {
            /// # Errors
            /// Where all patterns together are larger than the matcher takes.
            pub fn new(texts: Vec<$leaf>) -> Result<Self, LeafFault> {
                let matcher = $make(&texts)?;
                Ok(Self { texts, matcher })
            }

            #[must_use]
            pub fn matches(&self, text: &str) -> bool {
                self.matcher.matches(text)
            }

            /// As they were written.
            #[must_use]
            pub fn texts(&self) -> &[$leaf] {
                &self.texts
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.texts == other.texts
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.texts.serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(Vec::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

patterns!(
    /// Patterns over branches, tags or paths: a text counts where one matches (or all are `!` patterns) and no `!` pattern does.
    Patterns of Pattern by sources::Patterns::paths
);
patterns!(
    /// Patterns over commit messages; the rule is that of [`Patterns`].
    MessagePatterns of MessagePattern by sources::Patterns::messages
);

impl Patterns {
    /// The first pattern that is one plain name and no wildcard.
    #[must_use]
    pub fn first_literal(&self) -> Option<&str> {
        self.texts
            .iter()
            .map(Pattern::as_str)
            .find(|t| !t.starts_with('!') && !t.ends_with('/') && !t.contains(['*', '?', '[', '{', '\\']))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Patterns {
        Patterns::new(texts.iter().map(|t| t.parse().expect(t)).collect()).expect("patterns")
    }

    #[test]
    fn literals_are_told_from_globs() {
        assert_eq!(patterns(&["!x", "a/", "release/*", "main"]).first_literal(), Some("main"));
        assert_eq!(patterns(&["release/*"]).first_literal(), None);
    }

    #[test]
    fn bad_globs_are_faults() {
        for bad in ["", "!", "[a", "{a"] {
            assert_eq!(bad.parse::<Pattern>().expect_err(bad).code, Code::BadPattern, "{bad:?}");
        }
        assert!("[skip ci]".parse::<MessagePattern>().is_ok());
        assert!("!".parse::<MessagePattern>().is_err());
    }

    #[test]
    fn patterns_survive_storage() {
        let p = patterns(&["a/**", "!b"]);
        let text = serde_json::to_string(&p).expect("json");
        assert_eq!(text, r#"["a/**","!b"]"#);
        let read = serde_json::from_str::<Patterns>(&text).expect("patterns");
        assert!(read == p && read.matches("a/x") && !read.matches("b"));
    }
}
