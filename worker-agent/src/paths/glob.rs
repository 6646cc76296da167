//! Globs over relative paths: `*` and `?` within a name, `[a-z]` and `[!a-z]`, `{a,b}`, and `**` for any number of directories.

use thiserror::Error;

/// A glob with its braces expanded into so many plain ones at most.
const MAX_ALTERNATIVES: usize = 256;

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum GlobError {
    #[error("glob has a `{{` without its `}}`")]
    Brace,
    #[error("glob has more than {MAX_ALTERNATIVES} alternatives")]
    TooMany,
    #[error("glob is no path")]
    Path(#[source] super::PathError),
}

/// One or several plain globs, each a list of parts.
#[derive(Clone, Debug)]
pub struct Glob(Vec<Vec<Vec<u8>>>);

impl Glob {
    pub fn new(text: &str) -> Result<Self, GlobError> {
        let mut out = Vec::new();
        let mut left = vec![text.as_bytes().to_vec()];
        while let Some(next) = left.pop() {
            if out.len() + left.len() >= MAX_ALTERNATIVES {
                return Err(GlobError::TooMany);
            }
            match expand_first(&next)? {
                Some(more) => left.extend(more),
                None => {
                    let parts = super::components(&next).map_err(GlobError::Path)?;
                    out.push(parts.into_iter().map(<[u8]>::to_vec).collect());
                }
            }
        }
        Ok(Self(out))
    }

    /// No glob at all.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Vec::is_empty)
    }

    /// Is there nothing to match, so that the text is a plain path?
    pub fn is_plain(text: &str) -> bool {
        !text.contains(['*', '?', '[', '{'])
    }

    /// The whole of a relative path.
    pub fn matches(&self, path: &[u8]) -> bool {
        let parts = parts_of(path);
        self.0.iter().any(|glob| matches_parts(glob, &parts, false))
    }

    /// Could something below this directory match?
    pub fn may_match_below(&self, dir: &[u8]) -> bool {
        let parts = parts_of(dir);
        self.0.iter().any(|glob| matches_parts(glob, &parts, true))
    }
}

fn parts_of(path: &[u8]) -> Vec<&[u8]> {
    path.split(|b| *b == b'/').filter(|part| !part.is_empty()).collect()
}

/// Replace the first outermost `{…}` by each of its alternatives; `None` if there is none.
fn expand_first(text: &[u8]) -> Result<Option<Vec<Vec<u8>>>, GlobError> {
    let (mut open, mut depth, mut from, mut alternatives) = (0, 0, 0, Vec::new());
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            // What stands in a class is a sign like others.
            b'[' => at += class_length(&text[at..]).unwrap_or(1) - 1,
            b'{' => {
                depth += 1;
                if depth == 1 {
                    (open, from) = (at, at + 1);
                }
            }
            b',' if depth == 1 => {
                alternatives.push(&text[from..at]);
                from = at + 1;
            }
            b'}' if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    alternatives.push(&text[from..at]);
                    let whole = |middle: &[u8]| [&text[..open], middle, &text[at + 1..]].concat();
                    return Ok(Some(alternatives.into_iter().map(whole).collect()));
                }
            }
            _ => {}
        }
        at += 1;
    }
    if depth > 0 { Err(GlobError::Brace) } else { Ok(None) }
}

/// How long the class is that begins here, with its `]`; `None` where it is not closed within its name.
fn class_length(glob: &[u8]) -> Option<usize> {
    let start = if matches!(glob.get(1), Some(b'!' | b'^')) { 2 } else { 1 };
    let close = start + 1 + glob.get(start + 1..)?.iter().position(|b| *b == b']')?;
    (!glob[..close].contains(&b'/')).then_some(close + 1)
}

/// With `begin`: is the path the beginning of something that could match?
fn matches_parts(glob: &[Vec<u8>], path: &[&[u8]], begin: bool) -> bool {
    match (glob.split_first(), path.split_first()) {
        (None, None) => !begin,
        (None, Some(_)) => false,
        (Some(_), None) if begin => true,
        (Some((first, rest)), _) if first == b"**" => {
            matches_parts(rest, path, begin)
                || path.split_first().is_some_and(|(_, below)| matches_parts(glob, below, begin))
        }
        (Some(_), None) => false,
        (Some((first, rest)), Some((name, below))) => {
            matches_name(first, name) && matches_parts(rest, below, begin)
        }
    }
}

/// `*`, `?` and classes within one name; the last star is the only one that is tried again.
fn matches_name(glob: &[u8], name: &[u8]) -> bool {
    let (mut g, mut n, mut retry) = (0, 0, None);
    loop {
        let step = match glob.get(g) {
            Some(b'*') => {
                retry = Some((g + 1, n));
                g += 1;
                continue;
            }
            None if n == name.len() => return true,
            Some(_) if n < name.len() => one(&glob[g..], name[n]),
            _ => None,
        };
        match (step, retry) {
            (Some(length), _) => (g, n) = (g + length, n + 1),
            (None, Some((after_star, taken))) if taken < name.len() => {
                retry = Some((after_star, taken + 1));
                (g, n) = (after_star, taken + 1);
            }
            (None, _) => return false,
        }
    }
}

/// Does the first element of the glob match the byte, and how long is that element? A `[` that is never closed is itself.
fn one(glob: &[u8], byte: u8) -> Option<usize> {
    let class = |glob: &[u8]| -> Option<(bool, usize)> {
        let negated = matches!(glob.get(1), Some(b'!' | b'^'));
        let start = if negated { 2 } else { 1 };
        let close = class_length(glob)? - 1;
        let mut set = &glob[start..close];
        let mut found = false;
        while let Some((low, rest)) = set.split_first() {
            let (high, rest) = match rest {
                [b'-', high, rest @ ..] => (high, rest),
                _ => (low, rest),
            };
            found |= (low..=high).contains(&&byte);
            set = rest;
        }
        Some((found != negated, close + 1))
    };
    match glob[0] {
        b'?' => Some(1),
        b'[' if class(glob).is_some() => class(glob).and_then(|(matched, length)| matched.then_some(length)),
        literal => (literal == byte).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(glob: &str, path: &str) -> bool {
        Glob::new(glob).unwrap().matches(path.as_bytes())
    }

    #[test]
    fn what_matches_and_what_does_not() {
        let yes = [
            ("*", "a"),
            ("*.deb", "x.deb"),
            ("**", "a/b/c"),
            ("**/*.c", "x.c"),
            ("**/*.c", "a/b/x.c"),
            ("a/**/z", "a/z"),
            ("a/**/z", "a/b/c/z"),
            ("?x", "ax"),
            ("[a-c]1", "b1"),
            ("[!a-c]1", "d1"),
            ("{a,b}/c", "b/c"),
            ("x{,.y}", "x"),
            ("{a{1,2},b}", "a2"),
            ("./a", "a"),
            ("a*b*c", "aXbXbc"),
            ("[", "["),
            ("[]x]", "]"),
            ("[{]a,b}", "{a,b}"),
            ("{[{,}]x,b}", ",x"),
            ("[*][?][[]", "*?["),
            ("*", ".hidden"),
            ("dist", "dist"),
        ];
        for (glob, path) in yes {
            assert!(matches(glob, path), "{glob} should match {path}");
        }
        let no = [
            ("*", "a/b"),
            ("*.deb", "x.rpm"),
            ("**/*.c", "x.h"),
            ("a/**/z", "b/z"),
            ("?", ""),
            ("[a-c]", "d"),
            ("[!a-c]", "a"),
            ("{a,b}", "c"),
            ("a", "ab"),
            ("ab", "a"),
            ("a/*", "a"),
        ];
        for (glob, path) in no {
            assert!(!matches(glob, path), "{glob} should not match {path}");
        }
    }

    #[test]
    fn only_directories_that_may_hold_a_match_are_entered() {
        let glob = Glob::new("src/*/x.{c,h}").unwrap();
        for (dir, enter) in [("", true), ("src", true), ("src/a", true), ("src/a/b", false), ("doc", false)] {
            assert_eq!(glob.may_match_below(dir.as_bytes()), enter, "{dir}");
        }
        assert!(Glob::new("**").unwrap().may_match_below(b"a/b/c/d"));
    }

    #[test]
    fn faults_are_errors() {
        assert_eq!(Glob::new("{a").unwrap_err(), GlobError::Brace);
        assert_eq!(
            Glob::new("{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}").unwrap_err(),
            GlobError::TooMany
        );
        assert!(matches!(Glob::new("../*"), Err(GlobError::Path(_))));
        assert!(matches!(Glob::new("/etc/*"), Err(GlobError::Path(_))));
    }

    proptest! {
        #[test]
        fn any_glob_and_path_give_an_answer(glob in "[a*?\\[\\]{},/!-]{0,20}", path in "[ab/\\]-]{0,20}") {
            if let Ok(glob) = Glob::new(&glob) {
                let _ = (glob.matches(path.as_bytes()), glob.may_match_below(path.as_bytes()));
            }
        }

        #[test]
        fn a_star_matches_as_the_plainest_matcher_does(glob in "[ab*]{0,8}", name in "[ab]{0,10}") {
            fn plain(glob: &[u8], name: &[u8]) -> bool {
                match (glob.split_first(), name.split_first()) {
                    (None, None) => true,
                    (Some((b'*', rest)), _) => plain(rest, name) || name.split_first().is_some_and(|(_, n)| plain(glob, n)),
                    (Some((g, rest)), Some((n, below))) => g == n && plain(rest, below),
                    _ => false,
                }
            }
            prop_assert_eq!(matches_name(glob.as_bytes(), name.as_bytes()), plain(glob.as_bytes(), name.as_bytes()));
        }
    }
}
