//! Which shell a script is for.

/// The interpreter of a script, as far as its quoting rules are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shell {
    /// `/bin/sh`, whichever shell that is.
    Posix,
    Bash,
    /// Not a shell whose quoting Rouse knows; such scripts take values by `env:` only.
    Other(String),
}

impl Shell {
    /// From the name or path of an interpreter.
    pub fn named(name: &str) -> Shell {
        match name.rsplit('/').next().unwrap_or(name) {
            "bash" => Shell::Bash,
            "sh" | "dash" | "ash" | "ksh" | "mksh" => Shell::Posix,
            other => Shell::Other(other.to_owned()),
        }
    }

    /// From the command that a script is handed to: `[/bin/sh, -e]`, `[env, bash]`.
    pub fn of_interpreter<S: AsRef<str>>(command: &[S]) -> Shell {
        Shell::of_words(command.iter().map(AsRef::as_ref))
    }

    /// From the `#!` line of a script, if there is one.
    pub fn from_shebang(script: &str) -> Option<Shell> {
        let line = script.strip_prefix("#!")?.lines().next().unwrap_or_default();
        Some(Shell::of_words(line.split_whitespace()))
    }

    fn of_words<'a>(mut words: impl Iterator<Item = &'a str>) -> Shell {
        let first = words.next().unwrap_or_default();
        let command = match first.rsplit('/').next() {
            Some("env") => words.find(|word| !word.starts_with('-') && !word.contains('=')),
            Some("busybox") => words.next(),
            _ => Some(first),
        };
        Shell::named(command.unwrap_or_default())
    }
}
