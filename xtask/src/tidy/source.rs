//! Reads the paths that a Rust file names, from its tokens: comments and strings say nothing.

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// One path's first step that matters here.
#[derive(Debug, PartialEq, Eq)]
pub struct Reference {
    /// A module of this crate; otherwise the first name of an outer path.
    pub ours: bool,
    pub target: String,
    pub line: usize,
}

/// All references of a file whose module lies `depth` steps below the root.
pub fn references(text: &str, depth: usize) -> Result<Vec<Reference>> {
    let stream: TokenStream = text.parse().map_err(|error| anyhow!("the file cannot be read: {error}"))?;
    let mut found = Vec::new();
    walk(stream, depth, &mut found);
    Ok(found)
}

fn walk(stream: TokenStream, depth: usize, found: &mut Vec<Reference>) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let mut at = 0;
    let mut test_only = false;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Punct(mark) if mark.as_char() == '#' => {
                if let Some(TokenTree::Group(attribute)) = tokens.get(at + 1) {
                    test_only |= is_test_attribute(attribute);
                    at += 1;
                }
            }
            TokenTree::Ident(word) if word == "mod" => {
                if let (Some(TokenTree::Ident(_)), Some(TokenTree::Group(body))) =
                    (tokens.get(at + 1), tokens.get(at + 2))
                {
                    if !test_only {
                        walk(body.stream(), depth + 1, found);
                    }
                    at += 2;
                }
                test_only = false;
            }
            TokenTree::Ident(_) => {
                let starts = at == 0 || !follows_colons(&tokens, at);
                if starts {
                    at = read_path(&tokens, at, depth, found);
                }
            }
            TokenTree::Group(group) => {
                if !test_only {
                    walk(group.stream(), depth, found);
                }
                if group.delimiter() == Delimiter::Brace {
                    test_only = false;
                }
            }
            TokenTree::Punct(mark) if mark.as_char() == ';' => test_only = false,
            _ => {}
        }
        at += 1;
    }
}

/// `#[cfg(test)]`, `#[test]`, `#[tokio::test]` and their like.
fn is_test_attribute(attribute: &Group) -> bool {
    let text = attribute.stream().to_string().replace(' ', "");
    text == "cfg(test)" || text == "test" || text.ends_with("::test") || text.starts_with("cfg(all(test")
}

fn follows_colons(tokens: &[TokenTree], at: usize) -> bool {
    at >= 2 && is_colon(&tokens[at - 1]) && is_colon(&tokens[at - 2])
}

fn is_colon(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(mark) if mark.as_char() == ':')
}

/// Reads a path that begins at `at`; answers the index of its last token looked at.
fn read_path(tokens: &[TokenTree], at: usize, depth: usize, found: &mut Vec<Reference>) -> usize {
    let TokenTree::Ident(first) = &tokens[at] else { return at };
    let line = first.span().start().line;
    let Some(mut next) = after_colons(tokens, at) else { return at };
    let ours = match first.to_string().as_str() {
        "crate" => true,
        "self" | "Self" => return at,
        "super" => {
            let mut up = 1;
            while matches!(&tokens[next], TokenTree::Ident(word) if word == "super") {
                up += 1;
                match after_colons(tokens, next) {
                    Some(further) => next = further,
                    None => return next,
                }
            }
            if up < depth {
                return next - 1;
            }
            true
        }
        name => {
            found.push(Reference { ours: false, target: name.to_string(), line });
            return at;
        }
    };
    match &tokens[next] {
        TokenTree::Ident(target) => {
            found.push(Reference { ours, target: target.to_string(), line });
            next
        }
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
            for target in heads(group) {
                found.push(Reference { ours, target, line });
            }
            next
        }
        _ => next - 1,
    }
}

fn after_colons(tokens: &[TokenTree], at: usize) -> Option<usize> {
    let colons = is_colon(tokens.get(at + 1)?) && is_colon(tokens.get(at + 2)?);
    (colons && tokens.get(at + 3).is_some()).then_some(at + 3)
}

/// The first names in `{a::x, b, c::{d, e}}`.
fn heads(group: &Group) -> Vec<String> {
    let mut heads = Vec::new();
    let mut fresh = true;
    for token in group.stream() {
        match token {
            TokenTree::Ident(name) if fresh => {
                if name != "self" {
                    heads.push(name.to_string());
                }
                fresh = false;
            }
            TokenTree::Punct(mark) if mark.as_char() == ',' => fresh = true,
            _ => {}
        }
    }
    heads
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(text: &str, depth: usize) -> Vec<String> {
        let all = references(text, depth).unwrap();
        all.into_iter().filter(|reference| reference.ours).map(|reference| reference.target).collect()
    }

    #[test]
    fn paths_are_found_in_use_items_and_in_code() {
        let text =
            "use crate::render::Value;\nuse crate::{events, logs::{A, B}};\nfn f() { crate::fleet::go(); }";
        assert_eq!(ours(text, 1), ["render", "events", "logs", "fleet"]);
    }

    #[test]
    fn super_counts_once_it_reaches_the_root() {
        assert_eq!(ours("use super::fleet::X;", 1), ["fleet"]);
        assert_eq!(ours("use super::sibling::X;", 2), Vec::<String>::new());
        assert_eq!(ours("use super::super::fleet::X;", 2), ["fleet"]);
        assert_eq!(ours("mod inner { use super::super::fleet::X; }", 1), ["fleet"]);
    }

    #[test]
    fn comments_strings_and_tests_say_nothing() {
        let text = "// crate::a::x\nconst S: &str = \"crate::b::x\";\n#[cfg(test)]\nmod tests { use crate::c::X; }\n\
                    #[test] fn t() { crate::d::x(); }\nfn live() { crate::e::x(); }";
        assert_eq!(ours(text, 1), ["e"]);
    }

    #[test]
    fn outer_packages_are_named() {
        let all = references("use sqlx::Row;\nfn f() { bollard::go(); a.b(); }", 1).unwrap();
        let names: Vec<_> = all.iter().map(|reference| (reference.target.as_str(), reference.line)).collect();
        assert_eq!(names, [("sqlx", 1), ("bollard", 2)]);
    }
}
