//! Patterns over branches, changed files and commit messages, as configs write them.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// A pattern that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("`{pattern}` is not a pattern")]
pub struct PatternError {
    pub pattern: String,
    #[source]
    pub source: globset::Error,
}

/// A list of patterns. It matches what one of them matches and no pattern with a leading `!` does; a
/// list of `!` patterns alone matches everything else. The order does not matter.
#[derive(Debug, Clone)]
pub struct Patterns {
    wanted: GlobSet,
    unwanted: GlobSet,
    any: bool,
}

impl Patterns {
    /// Patterns over paths or branch names: `*` stays within one part, `**` crosses `/`, and a name
    /// that ends in `/` stands for all below it.
    pub fn paths<S: AsRef<str>>(patterns: &[S]) -> Result<Patterns, PatternError> {
        Patterns::build(patterns, |pattern| {
            let below = pattern.ends_with('/').then(|| format!("{pattern}**"));
            GlobBuilder::new(below.as_deref().unwrap_or(pattern)).literal_separator(true).build()
        })
    }

    /// Patterns over messages: only `*` is special, so that `*[skip ci]*` means what it looks like.
    pub fn messages<S: AsRef<str>>(patterns: &[S]) -> Result<Patterns, PatternError> {
        Patterns::build(patterns, |pattern| {
            let mut glob = String::new();
            for c in pattern.chars() {
                match c {
                    '*' => glob.push('*'),
                    '[' | ']' | '{' | '}' | '?' | '\\' | '!' => {
                        glob.push('\\');
                        glob.push(c);
                    }
                    c => glob.push(c),
                }
            }
            GlobBuilder::new(&glob).literal_separator(false).backslash_escape(true).build()
        })
    }

    fn build<S, F>(patterns: &[S], glob: F) -> Result<Patterns, PatternError>
    where
        S: AsRef<str>,
        F: Fn(&str) -> Result<globset::Glob, globset::Error>,
    {
        let mut wanted = GlobSetBuilder::new();
        let mut unwanted = GlobSetBuilder::new();
        let mut any = true;
        for pattern in patterns {
            let pattern = pattern.as_ref();
            let fault = |source| PatternError { pattern: pattern.to_owned(), source };
            match pattern.strip_prefix('!') {
                Some(rest) => unwanted.add(glob(rest).map_err(fault)?),
                None => {
                    any = false;
                    wanted.add(glob(pattern).map_err(fault)?)
                }
            };
        }
        let fault = |source| PatternError { pattern: String::new(), source };
        Ok(Patterns {
            wanted: wanted.build().map_err(fault)?,
            unwanted: unwanted.build().map_err(fault)?,
            any,
        })
    }

    pub fn matches(&self, text: &str) -> bool {
        (self.any || self.wanted.is_match(text)) && !self.unwanted.is_match(text)
    }

    /// Whether any of the texts matches.
    pub fn match_any<'a>(&self, mut texts: impl Iterator<Item = &'a str>) -> bool {
        texts.any(|text| self.matches(text))
    }
}

#[cfg(test)]
mod tests {
    use super::Patterns;

    fn matching(patterns: &[&str], texts: &[&str]) -> Vec<bool> {
        let patterns = Patterns::paths(patterns).unwrap();
        texts.iter().map(|text| patterns.matches(text)).collect()
    }

    #[test]
    fn a_star_stays_within_a_part_and_two_cross() {
        assert_eq!(matching(&["release/*"], &["release/1", "release/1/x", "main"]), [true, false, false]);
        assert_eq!(matching(&["src/**"], &["src/a.rs", "src/a/b.rs", "docs/src/a.rs"]), [true, true, false]);
        assert_eq!(matching(&["**"], &["main", "a/b/c"]), [true, true]);
        assert_eq!(matching(&["docs/"], &["docs/a/b", "docs"]), [true, false]);
    }

    #[test]
    fn an_exclamation_mark_takes_away_whatever_the_order() {
        for patterns in [["src/**", "!src/gen/**"], ["!src/gen/**", "src/**"]] {
            assert_eq!(matching(&patterns, &["src/a", "src/gen/a", "b"]), [true, false, false]);
        }
        assert_eq!(matching(&["!docs/**"], &["src/a", "docs/a"]), [true, false]);
        assert_eq!(matching(&[], &["anything"]), [true]);
    }

    #[test]
    fn in_messages_only_the_star_is_special() {
        let patterns = Patterns::messages(&["!*[skip ci]*"]).unwrap();
        assert!(patterns.matches("fix a bug"));
        assert!(!patterns.matches("docs [skip ci]"));
        assert!(!patterns.matches("docs\n\nlong text / with a slash [skip ci]\n"));
        let literal = Patterns::messages(&["a{b}?\\!*"]).unwrap();
        assert!(literal.matches("a{b}?\\! and more"));
        assert!(!literal.matches("abx"));
    }

    #[test]
    fn a_broken_pattern_is_named() {
        let error = Patterns::paths(&["src/[a"]).unwrap_err();
        assert_eq!(error.to_string(), "`src/[a` is not a pattern");
    }
}
