//! What can go wrong with a repository, in classes that a reader can act on.

use std::time::Duration;

/// What kind of trouble it is. Stable words; they stand in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The server wants to know who asks, or does not trust the answer.
    Auth,
    /// The server cannot be reached, or went away.
    Network,
    /// There is a server, and no repository at this address.
    NotARepository,
    Timeout,
    /// Larger than a limit allows.
    TooLarge,
    /// A branch, revision or file that is not there.
    Missing,
    /// The address or what was asked for is not allowed.
    Refused,
    /// The mirror is damaged; it is replaced when it is next used.
    Damaged,
    Other,
}

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("there is no codebase `{0}` in the configuration")]
    UnknownCodebase(String),

    #[error("the key of codebase `{codebase}` is not available")]
    Key {
        codebase: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    #[error("the address of the repository is refused: {0}")]
    Address(String),

    #[error("{what} is refused: {reason}")]
    Refused { what: String, reason: String },

    #[error("the repository of codebase `{0}` is empty")]
    Empty(String),

    #[error("the repository of codebase `{codebase}` does not have {what}")]
    Missing { codebase: String, what: String },

    /// `said` is what git wrote, without passwords and cut to a few lines.
    #[error("{doing}: {}; git said: {said}", in_words(*.class))]
    Git { doing: &'static str, class: Class, said: String },

    #[error("{doing}: not done after {} s", .after.as_secs())]
    Timeout { doing: &'static str, after: Duration },

    #[error("{what} is larger than {limit} bytes")]
    TooLarge { what: String, limit: u64 },

    #[error("{revision} cannot be merged into {onto}: conflicts in {}", listed(.files, *.more))]
    Conflict { revision: String, onto: String, files: Vec<String>, more: usize },

    #[error("submodule `{path}` ({url})")]
    Submodule {
        path: String,
        url: String,
        #[source]
        source: Box<SourceError>,
    },

    #[error("the repository has {refs} branches and tags; no more than {limit} are looked at")]
    TooMany { refs: usize, limit: usize },

    #[error("{doing}")]
    Io {
        doing: &'static str,
        #[source]
        source: std::io::Error,
    },
}

fn in_words(class: Class) -> &'static str {
    match class {
        Class::Auth => "the server refused access",
        Class::Network => "the server cannot be reached",
        Class::NotARepository => "there is no repository at this address",
        Class::Timeout => "it took too long",
        Class::TooLarge => "it is too large",
        Class::Missing => "it is not there",
        Class::Refused => "it is not allowed",
        Class::Damaged => "the mirror is damaged",
        Class::Other => "it failed",
    }
}

fn listed(files: &[String], more: usize) -> String {
    let clean =
        |name: &String| name.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>();
    let names = files.iter().map(clean).collect::<Vec<_>>().join(", ");
    match (files.is_empty(), more) {
        (true, _) => "its files".to_owned(),
        (_, 0) => names,
        (_, more) => format!("{names} and {more} more"),
    }
}

impl SourceError {
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Git { class, .. } => *class,
            Self::UnknownCodebase(_) | Self::Empty(_) | Self::Missing { .. } => Class::Missing,
            Self::Key { .. } => Class::Auth,
            Self::Address(_) | Self::Refused { .. } | Self::Conflict { .. } => Class::Refused,
            Self::Submodule { source, .. } => source.class(),
            Self::Timeout { .. } => Class::Timeout,
            Self::TooLarge { .. } | Self::TooMany { .. } => Class::TooLarge,
            Self::Io { .. } => Class::Other,
        }
    }

    pub(super) fn io(doing: &'static str, source: std::io::Error) -> Self {
        Self::Io { doing, source }
    }

    pub(super) fn missing(codebase: &str, what: impl Into<String>) -> Self {
        Self::Missing { codebase: codebase.to_owned(), what: what.into() }
    }

    pub(super) fn submodule(path: &str, url: &str, source: Self) -> Self {
        Self::Submodule { path: path.to_owned(), url: told(url), source: Box::new(source) }
    }

    pub(super) fn refused(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), reason: reason.into() }
    }

    /// From git's own words, which are the same in every locale as it runs with `LC_ALL=C`.
    #[must_use]
    pub fn from_git(doing: &'static str, stderr: &[u8]) -> Self {
        let text = String::from_utf8_lossy(stderr);
        Self::Git { doing, class: classify(&text), said: told(&text) }
    }
}

/// The first row that matches decides, so what is certain stands before what is vague.
const SIGNS: [(Class, &[&str]); 6] = [
    (
        Class::Refused,
        &[
            "transport '",
            "protocol error: bad line",
            "strange hostname",
            "strange pathname",
            "dubious ownership",
        ],
    ),
    (
        Class::Damaged,
        &[
            "loose object",
            "is corrupt",
            "corrupt loose",
            "object file",
            "index file",
            "bad object",
            "bad tree object",
            "missing blob",
            "missing tree",
            "missing commit",
            "unable to read tree",
            "could not parse commit",
            "could not read object",
            "cannot be accessed",
            "inflate:",
            "garbage at end",
            "unable to find all commit-graph",
            "not a git repository: '.'",
        ],
    ),
    (
        Class::Auth,
        &[
            "permission denied",
            "authentication failed",
            "could not read username",
            "could not read password",
            "terminal prompts disabled",
            "host key verification failed",
            "access denied",
            "returned error: 401",
            "returned error: 403",
            "invalid format",
            "certificate",
        ],
    ),
    (
        Class::Network,
        &[
            "could not resolve host",
            "connection refused",
            "connection timed out",
            "connection reset",
            "connection closed",
            "network is unreachable",
            "no route to host",
            "operation timed out",
            "operation too slow",
            "failed to connect",
            "couldn't connect",
            "unable to look up",
            "unable to connect",
            "empty reply",
            "early eof",
            "hung up unexpectedly",
            "rpc failed",
            "returned error: 5",
        ],
    ),
    (
        Class::NotARepository,
        &[
            "does not appear to be a git repository",
            "not a git repository",
            "repository not found",
            "not found",
            "does not exist",
            "returned error: 404",
            "no such file or directory",
            "not valid: is this a git repository",
        ],
    ),
    (Class::Missing, &["couldn't find remote ref", "not our ref", "unknown revision", "no such ref"]),
];

fn classify(said: &str) -> Class {
    let said = said.to_lowercase();
    // a ref or an object that the server does not have is told in a sentence of its own
    if said.contains("couldn't find remote ref") || said.contains("not our ref") {
        return Class::Missing;
    }
    // what a server says closes the connection afterwards; its reason counts, not the hang-up
    SIGNS
        .iter()
        .filter(|(class, _)| {
            *class != Class::Network || !said.contains("does not appear to be a git repository")
        })
        .find(|(_, signs)| signs.iter().any(|sign| said.contains(sign)))
        .map_or(Class::Other, |(class, _)| *class)
}

/// Git's last lines, in one, without what is secret or would disturb a terminal.
fn told(said: &str) -> String {
    const LINES: usize = 4;
    const LENGTH: usize = 600;
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(LINES)..].join(" / ");
    let clean: String = without_names(&last).chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if clean.is_empty() {
        return "nothing".to_owned();
    }
    match clean.char_indices().nth(LENGTH) {
        Some((at, _)) => format!("{}…", &clean[..at]),
        None => clean,
    }
}

/// Addresses without the user, and so the password, before the `@`.
fn without_names(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let end = tail.find(['/', ' ', '\'', '"']).unwrap_or(tail.len());
        rest = tail[..end].rfind('@').map_or(tail, |at| &tail[at + 1..]);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::{Class, classify, told};

    #[test]
    fn servers_are_understood() {
        let cases = [
            (
                Class::Auth,
                "git@example.org: Permission denied (publickey).\r\nfatal: Could not read from remote repository.",
            ),
            (
                Class::Auth,
                "fatal: could not read Username for 'https://example.org': terminal prompts disabled",
            ),
            (Class::Auth, "Host key verification failed.\nfatal: Could not read from remote repository."),
            (
                Class::Network,
                "ssh: connect to host example.org port 22: Connection refused\nfatal: Could not read",
            ),
            (Class::Network, "fatal: unable to access 'https://x/': Could not resolve host: x"),
            (Class::Network, "fatal: the remote end hung up unexpectedly"),
            (
                Class::NotARepository,
                "fatal: '/x' does not appear to be a git repository\nfatal: the remote end hung up unexpectedly",
            ),
            (Class::NotARepository, "remote: Not Found\nfatal: repository 'https://x/y.git/' not found"),
            (Class::Missing, "fatal: couldn't find remote ref refs/heads/gone"),
            (Class::Refused, "fatal: transport 'ext' not allowed"),
            (
                Class::Damaged,
                "error: object file ./objects/aa/bb is empty\nfatal: loose object aabb is corrupt",
            ),
            (Class::Other, "fatal: something new"),
        ];
        for (class, said) in cases {
            assert_eq!(classify(said), class, "{said}");
        }
    }

    #[test]
    fn passwords_and_control_characters_do_not_pass() {
        let said = told("fatal: unable to access 'https://me:hunter2@example.org/x.git/': \x1b[31mno\n");
        assert_eq!(said, "fatal: unable to access 'https://example.org/x.git/': ?[31mno");
        let two = told("from ssh://a@h/x to ssh://b@h/y and https://plain.example/");
        assert_eq!(two, "from ssh://h/x to ssh://h/y and https://plain.example/");
        assert_eq!(told(""), "nothing");
        assert!(told(&"x".repeat(5000)).chars().count() < 700);
    }
}
