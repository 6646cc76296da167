//! The plain sinks: text, argument, path, image reference.

use minijinja::value::ValueKind;

use super::expression::wrong_kind;
use super::fault::{RenderError, TemplateFault};
use super::scope::Scope;
use super::template::{Piece, Template};

/// The longest text that a template may become.
const TEXT_MAX: usize = 1 << 20;

/// The kernel's limit for one argument or environment entry (128 KiB), less room for a name.
pub(super) const ARGUMENT_MAX: usize = (128 << 10) - 1024;

/// A filled template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    pub text: String,
    /// An untrusted build had a hand in it.
    pub tainted: bool,
}

/// Any text: a name, a message, a value of the environment.
pub fn text(source: &str, scope: &Scope) -> Result<Rendered, RenderError> {
    let rendered = fill(&Template::parse(source)?, scope)?;
    no_nul("the text", &rendered.text)?;
    Ok(rendered)
}

/// One element of an argument vector: no quoting, as no shell sees it.
pub fn argument(source: &str, scope: &Scope) -> Result<Rendered, RenderError> {
    let template = Template::parse(source)?;
    check_argument(&template)?;
    let rendered = fill(&template, scope)?;
    no_nul("the argument", &rendered.text)?;
    if rendered.text.len() > ARGUMENT_MAX {
        let reason = format!("it has {} bytes; the system takes {ARGUMENT_MAX}", rendered.text.len());
        return Err(RenderError::refused("the argument", &rendered.text, reason));
    }
    Ok(rendered)
}

/// A relative path that stays below its root.
pub fn path(source: &str, scope: &Scope) -> Result<Rendered, RenderError> {
    let template = Template::parse(source)?;
    check_path(&template)?;
    let rendered = fill(&template, scope)?;
    match path_trouble(&rendered.text) {
        Some(reason) => Err(RenderError::refused("the path", &rendered.text, reason)),
        None => Ok(rendered),
    }
}

/// The same for a path with globs: signs of a glob in a value stand for themselves.
pub fn pattern(source: &str, scope: &Scope) -> Result<Rendered, RenderError> {
    let template = Template::parse(source)?;
    check_path(&template)?;
    let rendered = fill_with(&template, scope, |value| {
        let sign = |c: char| matches!(c, '*' | '?' | '[' | '{');
        value.chars().map(|c| if sign(c) { format!("[{c}]") } else { c.to_string() }).collect()
    })?;
    match path_trouble(&rendered.text) {
        Some(reason) => Err(RenderError::refused("the path", &rendered.text, reason)),
        None => Ok(rendered),
    }
}

/// A container image reference, as a registry would take it.
pub fn image(source: &str, scope: &Scope) -> Result<Rendered, RenderError> {
    let template = Template::parse(source)?;
    check_image(&template)?;
    let whole = template.pieces.len() == 1;
    let mut rendered = Rendered { text: String::new(), tainted: false };
    for piece in &template.pieces {
        let expression = match piece {
            Piece::Literal { text, .. } => {
                rendered.text.push_str(text);
                continue;
            }
            Piece::Hole { expression, .. } => expression,
        };
        let evaluated = template.evaluate(expression, scope)?;
        // a version 3.10 that YAML read as the number 3.1 would pull another image
        if evaluated.value.kind() != ValueKind::String {
            return Err(wrong_kind(expression, &evaluated.value, "a text (quote it where it is set)"));
        }
        rendered.tainted |= evaluated.tainted;
        let value = evaluated.into_text(expression)?;
        if !whole && value.contains([':', '@']) {
            return Err(RenderError::refused(
                "the image part",
                &value,
                format!(
                    "`{{{{ {} }}}}` fills a part of the reference and must not bring its own `:` or `@`; \
                     `| tag` makes a valid tag of any text",
                    expression.trim()
                ),
            ));
        }
        rendered.text.push_str(&value);
    }
    match image_trouble(&rendered.text) {
        Some(reason) => Err(RenderError::refused("the image", &rendered.text, reason)),
        None => Ok(rendered),
    }
}

fn fill(template: &Template, scope: &Scope) -> Result<Rendered, RenderError> {
    fill_with(template, scope, |value| value)
}

fn fill_with(
    template: &Template,
    scope: &Scope,
    escape: impl Fn(String) -> String,
) -> Result<Rendered, RenderError> {
    let mut rendered = Rendered { text: String::new(), tainted: false };
    for piece in &template.pieces {
        match piece {
            Piece::Literal { text, .. } => rendered.text.push_str(text),
            Piece::Hole { expression, .. } => {
                let evaluated = template.evaluate(expression, scope)?;
                rendered.tainted |= evaluated.tainted;
                rendered.text.push_str(&escape(evaluated.into_text(expression)?));
            }
        }
        if rendered.text.len() > TEXT_MAX {
            let reason = format!("it grew beyond {TEXT_MAX} bytes");
            return Err(RenderError::refused("the text", &rendered.text, reason));
        }
    }
    Ok(rendered)
}

fn no_nul(sink: &'static str, value: &str) -> Result<(), RenderError> {
    match value.contains('\0') {
        true => Err(RenderError::refused(sink, value, "it contains a NUL character")),
        false => Ok(()),
    }
}

/// The parts of a template that need no values to be wrong.
fn literals(template: &Template) -> impl Iterator<Item = (usize, &str)> {
    template.pieces.iter().filter_map(|piece| match piece {
        Piece::Literal { offset, text } => Some((*offset, text.as_str())),
        Piece::Hole { .. } => None,
    })
}

pub(super) fn check_argument(template: &Template) -> Result<(), TemplateFault> {
    for (offset, text) in literals(template) {
        if let Some(at) = text.find('\0') {
            return Err(TemplateFault::new(offset + at, 1, "an argument cannot contain a NUL character"));
        }
    }
    Ok(())
}

pub(super) fn check_path(template: &Template) -> Result<(), TemplateFault> {
    let fault = |reason: String| TemplateFault::new(0, 1, format!("this path is refused: {reason}"));
    if let Some(Piece::Literal { offset: 0, text }) = template.pieces.first()
        && text.starts_with('/')
    {
        return Err(fault(ABSOLUTE.to_owned()));
    }
    if let [] | [Piece::Literal { .. }] = template.pieces.as_slice() {
        let whole = literals(template).map(|(_, text)| text).next().unwrap_or_default();
        return path_trouble(whole).map_or(Ok(()), |reason| Err(fault(reason)));
    }
    Ok(())
}

const ABSOLUTE: &str = "it is absolute, and must stay below its root";

/// Why a path does not stay below the root that it is joined to.
fn path_trouble(path: &str) -> Option<String> {
    if path.is_empty() {
        return Some("it is empty; the root itself is `.`".to_owned());
    }
    if path.contains('\0') {
        return Some("it contains a NUL character".to_owned());
    }
    if path.starts_with('/') {
        return Some(ABSOLUTE.to_owned());
    }
    if path.split('/').any(|part| part == "..") {
        return Some("it leaves its root through `..`".to_owned());
    }
    if path.len() > 4000 || path.split('/').any(|part| part.len() > 255) {
        return Some("it is longer than a file system takes".to_owned());
    }
    None
}

pub(super) fn check_image(template: &Template) -> Result<(), TemplateFault> {
    if let Some((_, offset)) = template.names.iter().find(|(name, _)| name == "worker") {
        return Err(TemplateFault::new(*offset, 2, "an image is chosen before there is a worker")
            .help("use project, codebase, branch, revision, builder, matrix or props"));
    }
    for (offset, text) in literals(template) {
        if let Some(at) = text.find(|c: char| !image_character(c)) {
            let odd = text[at..].chars().next().unwrap_or(' ');
            return Err(TemplateFault::new(
                offset + at,
                odd.len_utf8(),
                format!("{odd:?} cannot stand in an image reference"),
            ));
        }
    }
    if !template.has_holes() {
        let whole: String = literals(template).map(|(_, text)| text).collect();
        if let Some(reason) = image_trouble(&whole) {
            return Err(TemplateFault::new(
                0,
                whole.len().max(1),
                format!("this is no image reference: {reason}"),
            ));
        }
    }
    Ok(())
}

fn image_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':' | '@')
}

/// Why a text is no image reference, by the grammar that registries share:
/// `[host[:port]/]part(/part)*[:tag][@sha256:hex]`.
fn image_trouble(reference: &str) -> Option<String> {
    if reference.is_empty() {
        return Some("it is empty".to_owned());
    }
    if let Some(odd) = reference.chars().find(|c| !image_character(*c)) {
        return Some(format!("{odd:?} cannot stand in an image reference"));
    }
    let (rest, digest) = match reference.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (reference, None),
    };
    if let Some(digest) = digest {
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Some("a digest is `sha256:` and 64 hexadecimal digits".to_owned());
        }
    }
    let last_slash = rest.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match rest[last_slash..].find(':') {
        Some(colon) => (&rest[..last_slash + colon], Some(&rest[last_slash + colon + 1..])),
        None => (rest, None),
    };
    if let Some(tag) = tag
        && (tag.is_empty() || tag.len() > 128 || tag.starts_with(['.', '-']) || tag.contains(':'))
    {
        return Some(format!(
            "`{tag}` is no tag: up to 128 letters, digits, `_`, `.`, `-`, not starting with `.` or `-`"
        ));
    }
    name_trouble(name)
}

fn name_trouble(name: &str) -> Option<String> {
    if name.len() > 255 {
        return Some("its name is longer than 255 characters".to_owned());
    }
    let mut parts: Vec<&str> = name.split('/').collect();
    let is_host = parts.len() > 1
        && (parts[0].contains(['.', ':'])
            || parts[0] == "localhost"
            || parts[0].bytes().any(|b| b.is_ascii_uppercase()));
    if is_host {
        let host = parts.remove(0);
        let (host, port) = host.split_once(':').map_or((host, None), |(h, p)| (h, Some(p)));
        let label = |l: &str| !l.is_empty() && !l.starts_with('-') && !l.ends_with('-') && !l.contains('_');
        if !host.split('.').all(label) {
            return Some(format!("`{host}` is no host name"));
        }
        if port.is_some_and(|port| port.parse::<u16>().is_err()) {
            return Some("the port after the host is no number".to_owned());
        }
    }
    parts.into_iter().find(|part| !name_part(part)).map(|part| {
        format!("`{part}` is no part of an image name: lower-case letters and digits, with `.`, `_`, `__` or `-` between")
    })
}

/// Lower-case letters and digits, joined by one `.`, one or two `_`, or any number of `-`.
fn name_part(part: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends = bytes.first().copied().is_some_and(word) && bytes.last().copied().is_some_and(word);
    ends && part
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|b| b == b'-'))
}
