//! Where the real back ends of this test run answer.
//!
//! `cargo xtask test` (and `cargo xtask back-ends -- COMMAND`) starts them and exports their addresses; this
//! module only reads them. A back end that is not there is a visible skip on a person's machine, recorded for
//! the summary, and a failure where `CI` is set. It must not know how a back end is started.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

/// An own Docker daemon, as `unix:///…`: the caller passes it on explicitly, never through `DOCKER_HOST`.
/// `None` means: return from the test, the skip has been recorded.
pub fn docker_host() -> Option<String> {
    wanted("Docker", "ROUSE_TEST_DOCKER_HOST")
}

/// An own Podman, as [`docker_host`] gives a Docker daemon.
pub fn podman_host() -> Option<String> {
    wanted("Podman", "ROUSE_TEST_PODMAN_HOST")
}

/// An own image registry on a loopback port, as `HOST:PORT`, which lets anybody push and pull.
pub fn registry() -> Option<String> {
    wanted("an image registry", "ROUSE_TEST_REGISTRY")
}

/// The same registry behind basic authentication.
pub fn registry_with_login() -> Option<RegistryLogin> {
    let url = wanted("an image registry with a login", "ROUSE_TEST_REGISTRY_LOGIN")?;
    let (login, address) = url.split_once('@').expect("xtask writes USER:PASSWORD@HOST:PORT");
    let (user, password) = login.split_once(':').expect("xtask writes USER:PASSWORD@HOST:PORT");
    Some(RegistryLogin { address: address.into(), user: user.into(), password: password.into() })
}

#[derive(Clone, Debug)]
pub struct RegistryLogin {
    /// `HOST:PORT`
    pub address: String,
    pub user: String,
    pub password: String,
}

/// An own PostgreSQL server, as a URL of its `postgres` database; the user may create databases, and each
/// test makes one of its own.
pub fn postgres_url() -> Option<String> {
    wanted("PostgreSQL", "ROUSE_TEST_POSTGRES_URL")
}

/// An own object store that speaks S3, as `http://HOST:PORT`: it takes any key, and each test makes a bucket of its own.
pub fn s3() -> Option<String> {
    wanted("an object store", "ROUSE_TEST_S3")
}

/// The folder with the built agents (`<os>-<arch>/rouse-agent`): the one beside this test's own binary, or `ROUSE_TEST_AGENTS`.
pub fn agents() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("ROUSE_TEST_AGENTS") {
        return Some(folder.into());
    }
    // target/PROFILE/deps/TEST, or target/PROFILE/PROGRAM
    let own = std::env::current_exe().ok()?;
    let found = own.ancestors().skip(1).take(2).map(|above| above.join("agents")).find(|f| f.is_dir());
    if found.is_none() {
        skip("needs the agent (`cargo xtask agent` builds it)");
    }
    found
}

fn wanted(what: &str, variable: &str) -> Option<String> {
    if let Some(address) = std::env::var(variable).ok().filter(|value| !value.is_empty()) {
        return Some(address);
    }
    skip(&format!("needs {what} ({variable} is not set; `cargo xtask test` sets it)"));
    None
}

/// Records that the current test cannot run here. Where `CI` is set that is a failure instead.
///
/// # Panics
/// In CI: a test that silently does nothing there would be worth nothing.
pub fn skip(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_string();
    assert!(!in_ci(), "{test} {why}, and in CI nothing is skipped");
    eprintln!("skipped: {test} {why}");
    if let Some(path) = std::env::var_os("ROUSE_TEST_SKIPS") {
        let line = format!("{test} {why}\n");
        // One short append: whole lines even when several test processes write at once.
        let written =
            OpenOptions::new().append(true).open(path).and_then(|mut f| f.write_all(line.as_bytes()));
        if let Err(error) = written {
            eprintln!("the skip could not be recorded: {error}");
        }
    }
}

fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}
