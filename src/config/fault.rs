//! Faults: what is wrong with a configuration, with a stable code and the place where it stands.

use super::tree::Span;
use serde::Serialize;

/// One list: variant, code, title, paragraph.
macro_rules! codes {
    ($($variant:ident = $code:literal, $title:literal, $text:literal;)*) => {
        /// What kind of fault it is. The codes are stable: a code never changes its meaning and is never used again.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $text] $variant,)*
        }

        impl Code {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// `C012`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// A few words.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// A paragraph: what it means and what to do.
            #[must_use]
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

codes! {
    Unreadable = "C001", "a file cannot be read",
        "A file of the configuration is missing, may not be read, is larger than 4 MiB or is not UTF-8 text.";
    NotYaml = "C002", "not YAML",
        "The text is not YAML. Frequent causes: a tab in the indentation, a quote that is not closed, a value with `: ` in it that wants quotes.";
    TooLarge = "C003", "too deep or too large",
        "The document nests deeper than 64 levels or has more than 200,000 values once its aliases are expanded. An alias that multiplies itself is the usual cause.";
    UnusedYaml = "C004", "a part of YAML that is not taken",
        "Several documents in one file, tags (`!name`), and merge keys (`<<`) are not taken. A builder inherits with `like:`; plain anchors and aliases work.";
    DuplicateKey = "C005", "a key twice",
        "The same key stands twice in one map, or the same object is declared in two files. Nothing is overridden silently: remove one or rename it.";
    BadKey = "C006", "a key that is no text",
        "Keys are plain texts. A value that begins with `{{` is read by YAML as a map within a map: put it in quotes.";
    Version = "C010", "the version",
        "`version: 1` stands at the top of the main file and says which rules the file follows. A number that this Rouse does not know is refused.";
    MissingKey = "C011", "a key is missing",
        "A key that has no default is not there.";
    UnknownKey = "C012", "a key that is not known",
        "Keys that are not known are errors, because a typo that is ignored is found much later. The message names the nearest key and lists those that are taken here.";
    WrongType = "C013", "a value of another type",
        "A list where a text is wanted, a number where a length of time is wanted, a key without a value. Texts that look like numbers want quotes.";
    UnknownChoice = "C014", "not one of the choices",
        "The value is not among those that are taken here. The message names the nearest and lists all.";
    BadName = "C015", "a name that is not taken",
        "Names of objects have letters, digits, `-`, `_` and `.`, begin with a letter or digit and have at most 64 characters. Names of properties, parameters and environment variables have letters, digits and `_`, and do not begin with a digit.";
    BadUnit = "C016", "a quantity without its unit",
        "Quantities are written with their unit: `30s`, `5m`, `1h30m`, `90d`; `4 GiB`.";
    OutOfRange = "C017", "a number out of range",
        "The number is smaller or larger than what makes sense here, or two numbers contradict each other, as a `min` above its `max`.";
    OneOf = "C018", "not exactly one of several keys",
        "A step has exactly one action, a pool exactly one provider, a scheduler exactly one trigger, a secret exactly one source.";
    Together = "C019", "keys that do not go together",
        "A key that is only taken together with another, or that the other excludes. The message says which.";
    Empty = "C020", "nothing in it",
        "A list, script or pattern that must not be empty is empty.";
    BadReference = "C021", "a reference to nothing",
        "A builder, pool, codebase, project, provider, scheduler or secret is named that is not declared. The message names the nearest that is.";
    Cycle = "C022", "a cycle",
        "Builders that are `like` one another in a ring, or schedulers that run `after` one another in a ring.";
    BadTemplate = "C023", "a template that cannot work",
        "A template does not parse, or names a variable or filter that does not exist. Templates see project, codebase, branch, revision, builder, matrix, props and worker.";
    BadCron = "C024", "not a cron expression",
        "A cron expression has five fields: minute, hour, day of month, month, day of week. `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly` are taken too.";
    BadZone = "C025", "not a time zone",
        "Time zones are named as in the IANA database: `UTC`, `Europe/Paris`. Abbreviations like `CEST` are not taken.";
    BadPattern = "C026", "not a pattern",
        "A glob or a regular expression that does not parse. In globs `*` stays between two slashes and `**` crosses them; a leading `!` says what does not count.";
    SecretReach = "C027", "a secret out of reach",
        "A secret that names `builders` or `projects` is for those alone. Add the builder or project to its reach, or use another secret.";
    SecretInText = "C028", "a secret in the text",
        "Values of secrets never stand in a configuration, which is stored, shown and compared. Declare the secret under `secrets:` and refer to it as `secret:NAME`.";
    ProviderOption = "C029", "an option that the provider refuses",
        "The provider's own check of a pool's or account's options found a fault that their shape alone does not show.";
    NotRunnable = "C030", "a builder that is no recipe",
        "A builder that is not a `template` has steps, its own or inherited. A `template` is there for `like` alone and cannot be scheduled.";
    NeverRuns = "C031", "a builder that can never run",
        "No pool would ever take a build of this builder, so its requests would wait for ever. The message says for each pool why not.";
    BadDefault = "C032", "a default that its parameter refuses",
        "The default of a force parameter does not fit the parameter's own rules.";
    BadPath = "C033", "a path that leads outside",
        "Paths of steps are relative to the build's folder and stay below it.";
    BadAddress = "C034", "not an address",
        "The text is no address of the kind that is wanted here.";
    DuplicateName = "C035", "two of one name",
        "Two steps of one builder have the same name, or two codebases of one checkout the same folder.";
    Useless = "C050", "something without effect",
        "A warning: what is written is taken, but has no effect as it stands.";
    Unsafe = "C051", "something risky",
        "A warning: what is written is taken, but lets code of unknown origin come close to the machine of the master.";
    Internal = "C099", "a fault of Rouse itself",
        "A configuration passed all checks and could not be read after all. Please report it with the text.";
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Code {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let text = text.strip_prefix("ROUSE-").unwrap_or(text);
        Self::ALL.iter().copied().find(|code| code.as_str().eq_ignore_ascii_case(text)).ok_or(())
    }
}

/// How much it matters: an error refuses the configuration, a warning does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub code: Code,
    pub severity: Severity,
    /// One line, lower case, names in backticks.
    pub message: String,
    /// Where it stands; `None` for a file that could not be read.
    pub span: Option<Span>,
    /// What stands at the caret: usually the suggestion.
    pub label: String,
    /// Below the frame: what would be taken, what to do.
    pub notes: Vec<String>,
    /// Other places that belong to it, each with a word.
    pub related: Vec<(Span, String)>,
}

impl Fault {
    pub(crate) fn new(code: Code, span: impl Into<Option<Span>>, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            span: span.into(),
            label: String::new(),
            notes: Vec::new(),
            related: Vec::new(),
        }
    }

    pub(crate) fn warning(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::new(code, span, message) }
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    pub(crate) fn related(mut self, span: Span, word: impl Into<String>) -> Self {
        self.related.push((span, word.into()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_ordered_and_found_by_name() {
        let codes: Vec<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
        let mut sorted = codes.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(codes, sorted);
        for code in Code::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert_eq!(format!("rouse-{code}").to_uppercase().parse(), Ok(*code));
        }
    }
}
