//! Commands that read an argument, or their input, as code. A quoted reference is one word for the
//! shell, but `sh -c "echo $X"` hands that word to a second shell. This table catches the usual ones.

/// One word of a simple command, as the lexer saw it.
#[derive(Debug, Clone, Default)]
pub(super) struct Word {
    /// Its literal characters, quotes removed.
    pub text: String,
    /// The first hole in it: offset and length in the template, and how much of `text` came before it.
    pub hole: Option<(usize, usize, usize)>,
    /// The shell puts something of its own into it, without quotes: it may come to nothing, and then the next word stands in its place.
    pub expands: bool,
    /// The literal characters within a `${…}` in it.
    pub inside: String,
}

/// A hole that a command would read as code.
pub(super) struct Reading {
    pub offset: usize,
    pub length: usize,
    pub what: String,
}

const SHELLS: [&str; 12] =
    ["sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "fish", "su", "runuser", "pwsh", "ssh"];
const INTERPRETERS: [&str; 12] = [
    "python", "python2", "python3", "perl", "ruby", "node", "nodejs", "php", "lua", "tclsh", "psql", "mysql",
];
/// All their arguments are code.
const EVALUATORS: [&str; 6] = ["eval", "trap", "let", "ssh", "watch", "parallel"];
/// All their arguments are names of variables, and a name such as `a[$(reboot)]` is evaluated.
const NAMERS: [&str; 5] = ["unset", "read", "getopts", "mapfile", "readarray"];
const DECLARERS: [&str; 5] = ["declare", "typeset", "local", "readonly", "export"];
/// Their first argument is a program.
const EDITORS: [&str; 6] = ["sed", "awk", "gawk", "mawk", "nawk", "jq"];
/// Options of an editor that take a value which is not a program.
const EDITOR_VALUES: [(&str, usize); 8] = [
    ("-v", 1),
    ("-F", 1),
    ("-f", 1),
    ("--arg", 2),
    ("--argjson", 2),
    ("--slurpfile", 2),
    ("--rawfile", 2),
    ("-L", 1),
];
/// Words before the name of a command.
const LEADERS: [&str; 14] = [
    "if", "while", "until", "then", "do", "else", "elif", "!", "{", "time", "coproc", "exec", "command",
    "builtin",
];
/// Commands that run the command given to them.
const CARRIERS: [&str; 12] = [
    "sudo", "doas", "env", "nice", "nohup", "timeout", "xargs", "setsid", "stdbuf", "ionice", "chroot",
    "busybox",
];
const ARITHMETIC_TESTS: [&str; 8] = ["-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-v", "-R"];

pub(super) fn base(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

/// Whether a text is the name of a variable.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether a parenthesis after this word begins a list: `name=(`, `name+=(`.
pub(super) fn opens_list(word: &Word) -> bool {
    let name = word.text.strip_suffix('=').map(|name| name.strip_suffix('+').unwrap_or(name));
    name.is_some_and(is_name)
}

/// Whether bash takes a list among the arguments of this command as values and nothing more. `eval x=(…)` reads them as code, `declare -i x=(…)` as
/// arithmetic; for a command of which neither is known, it is not known.
pub(super) fn takes_list(words: &[Word]) -> bool {
    at_command(words) || declared_by(words).is_some_and(|rest| !declares_integers(rest))
}

/// Whether a command makes variables to which bash assigns only what it has evaluated.
pub(super) fn makes_integers(words: &[Word]) -> bool {
    declared_by(words).is_some_and(declares_integers)
}

/// What is given to a command that declares variables.
fn declared_by(words: &[Word]) -> Option<&[Word]> {
    let (name, rest) = command(words).split_first()?;
    DECLARERS.contains(&name.text.as_str()).then_some(rest)
}

fn declares_integers(rest: &[Word]) -> bool {
    rest.iter().any(|w| w.text.starts_with('-') && w.text.contains('i'))
}

fn is_assignment(text: &str) -> bool {
    text.contains('=') && is_name(text.split(['=', '[', '+']).next().unwrap_or_default())
}

/// The words from the command's name on: the first that is certain to be one.
fn command(words: &[Word]) -> &[Word] {
    let start = words
        .iter()
        .position(|w| !LEADERS.contains(&w.text.as_str()) && !is_assignment(&w.text) && !w.expands)
        .unwrap_or(words.len());
    &words[start..]
}

fn found(word: &Word, what: impl Into<String>) -> Option<Reading> {
    word.hole.map(|(offset, length, _)| Reading { offset, length, what: what.into() })
}

/// Whether the next word would be the name of a command.
pub(super) fn at_command(words: &[Word]) -> bool {
    command(words).is_empty()
}

/// Whether a command, given nothing to run, runs what comes on its input.
pub(super) fn reads_input_as_code(words: &[Word]) -> bool {
    let words = command(words);
    let mut at = 0;
    while at < words.len() && CARRIERS.contains(&base(&words[at].text)) {
        at += 1;
        while at < words.len() && (words[at].text.starts_with('-') || is_assignment(&words[at].text)) {
            at += 1;
        }
    }
    let Some(name) = words.get(at) else { return false };
    let name = base(&name.text);
    let rest = &words[at + 1..];
    let is = |flag: &str| rest.iter().any(|w| w.text == flag);
    match name {
        "ssh" => true,
        "su" | "runuser" => !is("-c"),
        _ if SHELLS.contains(&name) || INTERPRETERS.contains(&name) => {
            is("-s") || rest.iter().all(|w| w.text.starts_with('-') && !w.text.ends_with('c'))
        }
        _ => false,
    }
}

/// The first hole of a simple command that the command would read as code. `fed` is its here-string.
pub(super) fn judge(words: &[Word], fed: Option<&Word>) -> Option<Reading> {
    if words.iter().chain(fed).all(|w| w.hole.is_none()) {
        return None;
    }
    let fed = fed.filter(|_| reads_input_as_code(words)).and_then(|w| found(w, "input that is code"));
    let read = |words: &[Word]| code_argument(words).or_else(|| by_name(command(words)));
    fed.or_else(|| read(words)).or_else(|| read(&by_default(words)?))
}

/// The words of a command whose name comes of `${name:-word word}`, where those words are taken.
fn by_default(words: &[Word]) -> Option<Vec<Word>> {
    let start = words.len() - command(words).len();
    let at = words[..start].iter().position(|w| w.expands && !w.inside.is_empty())?;
    let (_, default) = words[at].inside.split_once(['-', '+', '='])?;
    let plain = |text: &str| Word { text: text.to_owned(), ..Word::default() };
    let mut taken: Vec<Word> = default.split_whitespace().map(plain).collect();
    // what is glued to it is a word of its own where the default ends with a blank
    let rest = Word { expands: false, inside: String::new(), ..words[at].clone() };
    taken.extend((rest.hole.is_some() || !rest.text.is_empty()).then_some(rest));
    taken.extend_from_slice(&words[at + 1..]);
    Some(taken)
}

/// `sh -c CODE`, `python3 -c CODE`, wherever in the command they stand (`docker run image sh -c …`).
fn code_argument(words: &[Word]) -> Option<Reading> {
    for (at, word) in words.iter().enumerate() {
        let name = base(&word.text);
        let shell = SHELLS.contains(&name);
        if word.hole.is_some() || !(shell || INTERPRETERS.contains(&name)) {
            continue;
        }
        let takes_code = |text: &str| match shell {
            true => text.starts_with('-') && !text.starts_with("--") && text.ends_with('c'),
            // `perl -lane`, `php -r`, `node --eval`; nothing longer, as `-source` is another option
            false => {
                let short =
                    text.starts_with('-') && text.len() <= 6 && text.ends_with(['c', 'e', 'E', 'r', 'p']);
                short || matches!(text, "--eval" | "--execute" | "--print")
            }
        };
        let Some(flag) = words[at + 1..].iter().position(|w| takes_code(&w.text)) else { continue };
        let flag = at + 1 + flag;
        let code = words[flag..].iter().skip(1).position(|w| !w.text.starts_with('-') || w.text.is_empty());
        let attached = words[flag].hole.is_some().then_some(&words[flag]);
        let code = attached.or_else(|| code.and_then(|c| words.get(flag + 1 + c)));
        if let Some(reading) = code.and_then(|w| found(w, format!("code for `{name}`"))) {
            return Some(reading);
        }
    }
    None
}

fn by_name(words: &[Word]) -> Option<Reading> {
    let carried = words.first().is_some_and(|w| CARRIERS.contains(&base(&w.text)));
    let names = if carried { words.len() } else { 1 };
    for at in 0..names.min(words.len()) {
        let name = base(&words[at].text);
        let rest = &words[at + 1..];
        let reading = if EVALUATORS.contains(&name) {
            rest.iter().find_map(|w| found(w, format!("code for `{name}`")))
        } else if NAMERS.contains(&name) {
            rest.iter().find_map(|w| found(w, format!("the name of a variable for `{name}`")))
        } else if DECLARERS.contains(&name) {
            declared(name, rest)
        } else if EDITORS.contains(&name) {
            program(name, rest)
        } else if name == "[[" {
            arithmetic_test(rest)
        } else if matches!(name, "[" | "test") && rest.iter().any(|w| w.text == "-v") {
            rest.iter().find_map(|w| found(w, "the name of a variable for `test -v`"))
        } else if name == "printf" && rest.first().is_some_and(|w| w.text == "-v") {
            rest.get(1).and_then(|w| found(w, "the name of a variable for `printf -v`"))
        } else {
            None
        };
        if reading.is_some() {
            return reading;
        }
    }
    None
}

fn declared(name: &str, rest: &[Word]) -> Option<Reading> {
    let integer = declares_integers(rest);
    rest.iter().find_map(|word| {
        let (_, _, at) = word.hole?;
        let (before, _) = word.text.split_at(at);
        let value = is_assignment(before) && !before.contains('[');
        match value && !integer {
            true => None,
            false => found(word, format!("the name of a variable for `{name}`")),
        }
    })
}

fn program(name: &str, rest: &[Word]) -> Option<Reading> {
    let what = || format!("a program for `{name}`");
    let mut at = 0;
    let mut given = false;
    while let Some(word) = rest.get(at) {
        let skipped = EDITOR_VALUES.iter().find(|(option, _)| word.text == *option);
        if let Some((option, values)) = skipped {
            given |= *option == "-f";
            at += 1 + values;
        } else if word.text == "-e" || word.text == "--expression" {
            given = true;
            if let Some(reading) = rest.get(at + 1).and_then(|w| found(w, what())) {
                return Some(reading);
            }
            at += 2;
        } else if word.text.starts_with('-') && word.text.len() > 1 {
            let glued = word.text.starts_with("-e") || word.text.starts_with("--expression");
            if glued && let Some(reading) = found(word, what()) {
                return Some(reading);
            }
            at += 1;
        } else {
            return if given { None } else { found(word, what()) };
        }
    }
    None
}

fn arithmetic_test(rest: &[Word]) -> Option<Reading> {
    let arithmetic = rest.iter().any(|w| w.hole.is_none() && ARITHMETIC_TESTS.contains(&w.text.as_str()));
    if !arithmetic {
        return None;
    }
    rest.iter().find_map(|w| found(w, "arithmetic in `[[ … ]]`"))
}
