//! The environment of commands: what the worker's image brings, less what belongs to a person's session, plus what the master says.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rouse_agent_protocol::{CommandId, ENV_COMMAND, ENV_TAGS, ENV_WORKER};
use rustix::fs::{Access, access};

/// Where programs are looked for when nobody says.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables of a login or a supervisor, which mean nothing to a build or would tie it to a person.
const OF_A_SESSION: [&str; 16] = [
    "USER",
    "LOGNAME",
    "MAIL",
    "SHELL",
    "SHLVL",
    "PWD",
    "OLDPWD",
    "_",
    "DISPLAY",
    "LS_COLORS",
    "NOTIFY_SOCKET",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LISTEN_FDS",
    "LISTEN_PID",
    "TERM",
];
const OF_A_SESSION_PREFIXES: [&str; 5] = ["ROUSE_", "SSH_", "SUDO_", "XDG_", "DBUS_"];

/// From the agent's own environment, which in a container is what the image says (`ENV`), and which a provider keeps clean elsewhere.
pub fn base_environment(
    own: impl Iterator<Item = (OsString, OsString)>,
    work_dir: &Path,
) -> Vec<(OsString, OsString)> {
    let of_a_session = |name: &OsStr| {
        OF_A_SESSION.iter().any(|n| name == *n)
            || OF_A_SESSION_PREFIXES.iter().any(|p| name.as_bytes().starts_with(p.as_bytes()))
    };
    let is_tag = |name: &OsStr| ENV_TAGS.iter().any(|tag| name == *tag);
    let mut env: BTreeMap<OsString, OsString> =
        own.filter(|(name, _)| is_tag(name) || !of_a_session(name)).collect();
    for (name, value) in [("PATH", DEFAULT_PATH), ("LANG", "C.UTF-8"), ("CI", "true")] {
        env.entry(name.into()).or_insert_with(|| value.into());
    }
    let home_works = env
        .get(OsStr::new("HOME"))
        .is_some_and(|home| Path::new(home).is_dir() && access(home, Access::WRITE_OK).is_ok());
    if !home_works {
        env.insert("HOME".into(), work_dir.into());
    }
    env.into_iter().collect()
}

/// The whole environment of one command.
#[derive(Debug)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// The tags come last: a command cannot hide from the agent by its own environment.
    pub fn new(
        base: &[(OsString, OsString)],
        added: &BTreeMap<String, Option<String>>,
        tty: bool,
        worker: &str,
        command: CommandId,
    ) -> Self {
        let mut env: BTreeMap<OsString, OsString> = base.iter().cloned().collect();
        if tty {
            env.insert("TERM".into(), "xterm-256color".into());
        }
        for (name, value) in added {
            match value {
                Some(value) => env.insert(name.into(), value.into()),
                None => env.remove(OsStr::new(name)),
            };
        }
        env.extend(base.iter().filter(|(name, _)| ENV_TAGS.iter().any(|tag| name == *tag)).cloned());
        env.insert(ENV_WORKER.into(), worker.into());
        env.insert(ENV_COMMAND.into(), command.0.to_string().into());
        Self(env)
    }

    /// Where this command's programs are looked for.
    pub fn path(&self) -> &OsStr {
        self.0.get(OsStr::new("PATH")).map_or(OsStr::new(""), OsString::as_os_str)
    }

    /// As `exec` takes it; the name of a variable that cannot be is the error.
    pub fn strings(&self) -> Result<Vec<CString>, String> {
        let string = |(name, value): (&OsString, &OsString)| {
            let mut text = name.as_bytes().to_vec();
            let plain = !text.is_empty() && !text.contains(&b'=');
            text.push(b'=');
            text.extend_from_slice(value.as_bytes());
            match CString::new(text) {
                Ok(text) if plain => Ok(text),
                _ => Err(name.to_string_lossy().into_owned()),
            }
        };
        self.0.iter().map(string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        list.iter().map(|(n, v)| (n.into(), v.into())).collect()
    }

    #[test]
    fn the_image_stays_and_the_session_goes() {
        let own = [
            ("PATH", "/opt/bin"),
            ("JAVA_HOME", "/jdk"),
            ("USER", "me"),
            ("ROUSE_X", "1"),
            ("ROUSE_TOKEN", "t"),
            ("SSH_AUTH_SOCK", "s"),
        ];
        let dir = tempfile::tempdir().unwrap();
        let base = base_environment(pairs(&own).into_iter(), dir.path());
        let home = dir.path().to_str().unwrap();
        let expected = pairs(&[
            ("CI", "true"),
            ("HOME", home),
            ("JAVA_HOME", "/jdk"),
            ("LANG", "C.UTF-8"),
            ("PATH", "/opt/bin"),
            ("ROUSE_TOKEN", "t"),
        ]);
        assert_eq!(base, expected);
    }

    #[test]
    fn added_values_win_null_unsets_and_tags_cannot_be_taken_away() {
        let added = [
            ("A", Some("2")),
            ("B", None),
            (ENV_COMMAND, None),
            (ENV_WORKER, Some("other")),
            ("ROUSE_TOKEN", None),
        ];
        let added = added.into_iter().map(|(n, v)| (n.to_owned(), v.map(str::to_owned))).collect();
        let base = pairs(&[("A", "1"), ("B", "1"), ("ROUSE_TOKEN", "t")]);
        let env = Environment::new(&base, &added, false, "w", CommandId(7));
        let strings: Vec<_> = env.strings().unwrap().into_iter().map(|s| s.into_string().unwrap()).collect();
        assert_eq!(strings, ["A=2", "ROUSE_COMMAND=7", "ROUSE_TOKEN=t", "ROUSE_WORKER=w"]);
    }

    #[test]
    fn impossible_names_are_named() {
        for name in ["A=B", "", "A\0"] {
            let added = [(name.to_owned(), Some(String::new()))].into();
            let env = Environment::new(&[], &added, false, "w", CommandId(7));
            assert_eq!(env.strings(), Err(name.to_owned()));
        }
    }
}
