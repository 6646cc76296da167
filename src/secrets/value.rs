//! A secret's value, and the forms in which it may come out of a build. The master makes them all, once: an agent masks what it is told.
//!
//! Masking guards against accidents. Who means to print a secret can always print it letter by letter; that is what trust and reach are for.

use base64::Engine;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use std::fmt;

/// Shorter values and lines have no forms: they would mask half of every log.
const MIN_PIECE: usize = 6;
/// Longer lines have their forms piece by piece, and longer values have none as a whole: all of it travels with every command.
const MAX_PIECE: usize = 1024;
const MAX_WHOLE: usize = 8 * 1024;
/// Where tools break base64 into lines: `base64` and MIME, `openssl` and PEM.
const WIDTHS: [usize; 2] = [76, 64];
/// What the tools at hand leave as it is, beside letters, digits and `-._~`: nothing, paths, and what `encodeURIComponent` does.
const UNESCAPED: [&[u8]; 3] = [b"", b"/", b"!'()*"];

/// A value. It shows itself to nobody who does not ask.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(String);

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

impl SecretValue {
    pub(super) fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What must never stand in a log: the value, and of the whole of it and of each line the forms in base64, in addresses and in JSON.
    /// The lines as they are need not be told: whoever masks a value masks its lines.
    #[must_use]
    pub fn masks(&self) -> Vec<String> {
        let mut masks = vec![self.0.clone()];
        if (MIN_PIECE..=MAX_WHOLE).contains(&self.0.len()) {
            forms(&self.0, &mut masks);
            for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
                for value in [self.0.clone(), format!("{}\n", self.0)] {
                    whole(&value, engine, &mut masks);
                }
            }
        }
        for line in self.0.lines().map(str::trim) {
            pieces(line).for_each(|piece| forms(piece, &mut masks));
        }
        masks.sort_unstable();
        masks.dedup();
        masks
    }
}

/// A value in base64 by itself, in one line and in many. Padding is left alone: it says nothing, and is not always there.
fn whole(value: &str, engine: &GeneralPurpose, masks: &mut Vec<String>) {
    let text = engine.encode(value);
    for width in WIDTHS.into_iter().filter(|width| text.len() > *width) {
        masks.push(text.as_bytes().chunks(width).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n"));
    }
    masks.push(text);
}

/// A text as it looks within others.
fn forms(piece: &str, masks: &mut Vec<String>) {
    if piece.len() < MIN_PIECE {
        return;
    }
    for before in 0..3 {
        masks.extend([&STANDARD_NO_PAD, &URL_SAFE_NO_PAD].map(|engine| within(piece, before, engine)));
    }
    for kept in UNESCAPED {
        masks.push(escaped(piece, kept, char::to_ascii_uppercase));
    }
    masks.push(escaped(piece, b"", char::to_ascii_lowercase));
    // As forms are sent.
    masks.push(escaped(piece, b"", char::to_ascii_uppercase).replace("%20", "+"));
    let json = serde_json::Value::from(piece).to_string();
    masks.push(json[1..json.len() - 1].to_owned());
}

/// The letters of base64 that a text alone decides, where so many bytes (modulo 3) stand before it and anything after it.
fn within(piece: &str, before: usize, engine: &GeneralPurpose) -> String {
    let bytes = [&[0; 2][..before], piece.as_bytes()].concat();
    let (from, to) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
    engine.encode(bytes)[from..to].to_owned()
}

fn escaped(piece: &str, kept: &[u8], case: fn(&char) -> char) -> String {
    let mut text = String::with_capacity(piece.len());
    for byte in piece.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push('%');
            text.extend(format!("{byte:02x}").chars().map(|digit| case(&digit)));
        }
    }
    text
}

/// A line in pieces of bounded length, cut between characters.
fn pieces(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(MAX_PIECE));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    use rouse_agent_protocol::masking::Masks;

    const TOKEN: &str = "tok?>en/5f+1e&9a 77\"c0";

    fn pem() -> String {
        let line = |i: u8| STANDARD.encode((0..48).map(|j| i.wrapping_mul(37) ^ (j * 5)).collect::<Vec<_>>());
        let lines: Vec<String> = (1..12).map(line).collect();
        format!("-----BEGIN PRIVATE KEY-----\n{}\nQQ==\n-----END PRIVATE KEY-----", lines.join("\n"))
    }

    fn masked(value: &str, text: &str) -> String {
        Masks::new(SecretValue::new(value).masks()).mask_text(text)
    }

    /// Whether five letters that follow one another are left of a form.
    fn is_gone(form: &str, shown: &str) -> bool {
        !form.as_bytes().windows(5).any(|five| shown.as_bytes().windows(5).any(|w| w == five))
    }

    #[test]
    fn base64_is_masked_whatever_stands_before_and_after() {
        for value in [TOKEN.to_owned(), pem()] {
            for engine in [&STANDARD, &URL_SAFE] {
                for (before, after) in
                    [("", ""), ("", "\n"), ("x", ""), ("me:", "\n"), ("ab", "c"), ("user:", "@host")]
                {
                    let text = engine.encode(format!("{before}{value}{after}"));
                    let shown = masked(&value, &text);
                    let bare = engine.encode(&value);
                    assert!(is_gone(&bare, &shown) && !shown.contains(&bare), "{before}|{after}: {shown}");
                    // Of what is around it a letter at each end may be left, and of the value so little that no byte can be read.
                    let left = shown.bytes().filter(|b| *b != b'*').count();
                    assert!(left <= (before.len() + after.len()) * 8 / 6 + 4, "{before}|{after}: {shown}");
                }
            }
        }
    }

    #[test]
    fn base64_in_lines_is_masked_line_by_line() {
        for width in WIDTHS {
            for end in ["\n", "\r\n", "\n  "] {
                for value in [pem(), pem() + "\n"] {
                    let text = STANDARD.encode(&value);
                    let lines: Vec<&str> =
                        text.as_bytes().chunks(width).map(|l| std::str::from_utf8(l).unwrap()).collect();
                    let shown = masked(&pem(), &lines.join(end));
                    assert!(shown.bytes().all(|b| b"*=\r\n ".contains(&b)), "{width}: {shown}");
                }
            }
        }
    }

    #[test]
    fn single_lines_of_a_key_are_masked_in_every_form() {
        let pem = pem();
        for line in pem.lines().filter(|line| line.len() > 20) {
            assert_eq!(masked(&pem, &format!("> {line}\r")), format!("> {}\r", "*".repeat(line.len())));
            let escaped =
                line.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D").replace(' ', "%20");
            assert_eq!(masked(&pem, &escaped), "*".repeat(escaped.len()), "{escaped}");
            for before in ["", "x", "xy"] {
                let shown = masked(&pem, &STANDARD.encode(format!("{before}{line}\\n")));
                assert!(shown.matches('*').count() >= line.len() * 4 / 3 - 2, "{shown}");
            }
        }
    }

    #[test]
    fn addresses_forms_and_json_are_masked() {
        for text in [
            "tok%3F%3Een%2F5f%2B1e%269a%2077%22c0",
            "tok%3f%3een%2f5f%2b1e%269a%2077%22c0",
            "tok%3F%3Een/5f%2B1e%269a%2077%22c0",
            "tok%3F%3Een%2F5f%2B1e%269a+77%22c0",
            r#"tok?>en/5f+1e&9a 77\"c0"#,
        ] {
            assert_eq!(masked(TOKEN, &format!("?a={text}&b")), format!("?a={}&b", "*".repeat(text.len())));
        }
        assert_eq!(masked("it's (a) key!", "it's%20(a)%20key!"), "*".repeat(17));
    }

    #[test]
    fn what_travels_with_a_command_stays_small_and_short_pieces_mask_nothing() {
        let count = |value: &str| SecretValue::new(value).masks().iter().map(String::len).sum::<usize>();
        assert_eq!(SecretValue::new("abc12").masks(), ["abc12"]);
        assert_eq!(SecretValue::new("tok-5f1e9a77c0").masks().len(), 6);
        assert!(count(&pem()) < 32 * 1024, "{}", count(&pem()));
        let long = "ü%".repeat(21 * 1024);
        assert!(count(&long) < 2 * 1024 * 1024, "{}", count(&long));
        let text = STANDARD.encode(format!("x{long}"));
        let shown = masked(&long, &text);
        let left = shown.bytes().filter(|b| *b != b'*').count();
        assert!(left < text.len() / 200, "{left} of {}", text.len());
        assert!(!format!("{:?}", SecretValue::new("hunter22")).contains("hunter"));
    }
}
