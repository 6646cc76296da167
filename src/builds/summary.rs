//! The one line that a person reads first of a red step.

use regex::Regex;
use std::sync::LazyLock;

/// What most tools write before the thing that matters.
static TELLING: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\b(error|fatal|failed|failure|assert\w*|panicked|exception|expected|not found|undefined|cannot)\b")
        .expect("a constant pattern")
});

const LONGEST: usize = 160;

/// The first telling line of a log's plain text, or else its last line that says anything.
pub(super) fn first_error(text: &str) -> Option<String> {
    let said = || text.lines().map(str::trim).filter(|l| !l.is_empty());
    let line = said().find(|l| TELLING.is_match(l)).or_else(|| said().next_back())?;
    let mut short: String = line.chars().take(LONGEST).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    Some(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_telling_line_wins() {
        let log = "running 14 tests\nok 1\nwords_test.sh:12: expected 3, got 4\nFAILED\n";
        assert_eq!(first_error(log).unwrap(), "words_test.sh:12: expected 3, got 4");
        assert_eq!(first_error("all quiet\nthe end\n\n").unwrap(), "the end");
        assert_eq!(first_error("\n \n"), None);
    }
}
