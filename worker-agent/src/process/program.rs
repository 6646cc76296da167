//! Finding the program of a command, and saying in words what is missing when it can't be run.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// An executable file?
pub fn is_program(path: &Path) -> bool {
    path.is_file() && is_executable(path)
}

fn is_executable(path: &Path) -> bool {
    access(path, Access::EXEC_OK).is_ok()
}

/// What to do where a script has nothing to run it.
const OTHERWISE: &str =
    "use an image that has it, name another interpreter, or write the step as a list [program, argument, …]";

/// The file to run. `path` is the command's own `PATH`; a name with a slash is relative to `cwd`.
///
/// The error is for the user; `script` says that the name is the interpreter of a script.
pub fn find(name: &str, path: &OsStr, cwd: &Path, script: bool) -> Result<PathBuf, String> {
    if name.is_empty() {
        return Err("the program's name is empty".to_owned());
    }
    if name.contains('/') {
        let file = cwd.join(name);
        return if script && !file.exists() {
            Err(format!(
                "this step needs `{name}` to run its script, and the worker has no such file: {OTHERWISE}"
            ))
        } else {
            Ok(file)
        };
    }
    let dirs = || path.as_bytes().split(|b| *b == b':').filter(|dir| !dir.is_empty());
    let candidates = dirs().map(|dir| cwd.join(OsStr::from_bytes(dir)).join(name));
    let mut forbidden = None;
    for candidate in candidates.filter(|candidate| candidate.is_file()) {
        if is_executable(&candidate) {
            return Ok(candidate);
        }
        forbidden.get_or_insert(candidate);
    }
    if let Some(found) = forbidden {
        return Err(format!("`{}` is not executable for this user", found.display()));
    }
    let path = path.to_string_lossy();
    Err(if script {
        format!(
            "this step needs `{name}` to run its script, and there is no `{name}` in the worker's PATH ({path}): {OTHERWISE}"
        )
    } else {
        format!(
            "there is no program `{name}` in the worker's PATH ({path}): use an image that has it, or give its whole path"
        )
    })
}

/// Why the kernel would not run a file that was found.
pub fn explain(file: &Path, error: &io::Error) -> String {
    let shown = file.display();
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::NOENT) if file.exists() => explain_loader(file),
        Some(rustix::io::Errno::NOENT) => format!("there is no file `{shown}` on the worker"),
        Some(rustix::io::Errno::ACCESS) if file.is_dir() => {
            format!("`{shown}` is a directory, not a program")
        }
        Some(rustix::io::Errno::ACCESS) => {
            format!("`{shown}` is not executable for this user (or lies on a file system mounted noexec)")
        }
        Some(rustix::io::Errno::NOEXEC) => format!(
            "`{shown}` is not in a format that this machine runs: built for another platform, or a script without a `#!` line"
        ),
        Some(rustix::io::Errno::TOOBIG) => {
            "arguments and environment together are longer than the kernel allows".to_owned()
        }
        _ => format!("`{shown}` could not be started: {error}"),
    }
}

/// The file is there, so what it asks for is not: its `#!` interpreter, or its dynamic loader.
fn explain_loader(file: &Path) -> String {
    let shown = file.display();
    let mut head = Vec::new();
    let read = File::open(file).and_then(|f| f.take(256).read_to_end(&mut head));
    let line = head.split(|b| *b == b'\n').next().unwrap_or_default();
    match line.strip_prefix(b"#!") {
        Some(rest) => {
            let interpreter = rest.trim_ascii().split(|b| *b == b' ').next().unwrap_or_default();
            let interpreter = String::from_utf8_lossy(interpreter);
            let hint =
                if interpreter.ends_with('\r') { " (its first line ends in a carriage return)" } else { "" };
            format!(
                "`{shown}` asks for the interpreter `{}`, which is not on the worker{hint}",
                interpreter.trim_end()
            )
        }
        None if read.is_ok() => {
            format!("`{shown}` was built for another C library: its dynamic loader is not on the worker")
        }
        None => format!("`{shown}` or what it needs to be run is not on the worker"),
    }
}

/// The directory that a command runs in: below the work directory, made if missing, and no symbolic link leads out.
pub fn working_directory(work_dir: &Path, relative: &str) -> Result<PathBuf, String> {
    let parts =
        crate::paths::components(relative.as_bytes()).map_err(|e| format!("directory `{relative}`: {e}"))?;
    let refused = |error| format!("directory `{relative}` cannot be made or entered: {error}");
    let within = |dir: PathBuf| {
        let leads_out = || format!("directory `{relative}` leads out of the work directory");
        dir.starts_with(work_dir).then_some(dir).ok_or_else(leads_out)
    };
    // Mostly it is there.
    let mut dir = work_dir.to_owned();
    dir.extend(parts.iter().map(|part| OsStr::from_bytes(part)));
    match fs::canonicalize(&dir) {
        Ok(found) => dir = within(found)?,
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(error)),
        Err(_) => {
            dir = work_dir.to_owned();
            for part in parts {
                dir.push(OsStr::from_bytes(part));
                let found = match fs::canonicalize(&dir) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        fs::create_dir(&dir).map(|()| dir)
                    }
                    other => other,
                };
                dir = within(found.map_err(refused)?)?;
            }
        }
    }
    if dir.is_dir() { Ok(dir) } else { Err(format!("`{relative}` is not a directory")) }
}

/// A path as `exec` takes it.
pub fn c_path(path: PathBuf) -> Result<CString, String> {
    CString::new(path.into_os_string().into_vec()).map_err(|_| "a path cannot hold a zero byte".to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn directories_stay_within() {
        let dir = tempfile::tempdir().unwrap();
        let work = fs::canonicalize(dir.path()).unwrap().join("work");
        fs::create_dir(&work).unwrap();
        fs::create_dir(work.join("real")).unwrap();
        symlink("real", work.join("inside")).unwrap();
        symlink("..", work.join("outside")).unwrap();
        assert_eq!(working_directory(&work, "").unwrap(), work);
        assert_eq!(working_directory(&work, "a/./b").unwrap(), work.join("a/b"));
        assert_eq!(working_directory(&work, "inside/new").unwrap(), work.join("real/new"));
        for bad in ["../x", "/etc", "a/../../x", "outside/escaped", "outside"] {
            assert!(working_directory(&work, bad).is_err(), "{bad}");
        }
        assert!(!dir.path().join("escaped").exists());
        fs::write(work.join("file"), "").unwrap();
        assert!(working_directory(&work, "file").unwrap_err().contains("not a directory"));
    }

    #[test]
    fn messages_say_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().as_os_str();
        let message = find("sh", path, dir.path(), true).unwrap_err();
        assert!(message.contains("needs `sh`") && message.contains(path.to_str().unwrap()), "{message}");
        let script = dir.path().join("run.sh");
        fs::write(&script, "#!/opt/none/bash -e\n").unwrap();
        assert!(find("run.sh", path, dir.path(), false).unwrap_err().contains("not executable"));
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find("run.sh", path, dir.path(), false).unwrap(), script);
        let message = explain(&script, &io::Error::from_raw_os_error(libc::ENOENT));
        assert!(message.contains("interpreter `/opt/none/bash`"), "{message}");
        fs::write(&script, b"\x7fELF....").unwrap();
        assert!(explain(&script, &io::Error::from_raw_os_error(libc::ENOENT)).contains("dynamic loader"));
        let gone = dir.path().join("gone");
        assert!(explain(&gone, &io::Error::from_raw_os_error(libc::ENOENT)).contains("there is no file"));
    }
}
