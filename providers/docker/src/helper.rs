//! Credential helpers: programs of the master's host that know a login for a registry, often one that ends soon. Spoken to as Docker's own client does
//! it: `docker-credential-NAME get`, the registry on its input, `{"Username": …, "Secret": …}` on its output.

use crate::registry::Login;
use rouse_contract::Revealed;
use serde::Deserialize;
use std::collections::HashMap;
use std::io;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::Instant;

/// How long a helper may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long its answer is used again. Short: nobody says when it ends.
const KEPT: Duration = Duration::from_secs(60);
/// More is no login.
const MOST: u64 = 64 * 1024;
/// What is shown of a complaint.
const SHOWN: usize = 300;

/// Why a helper gave no login. Never says one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelperError {
    #[error("credential helper {program} cannot be run on the master's host: {source}")]
    Run { program: String, source: io::Error },
    #[error("credential helper {program} did not answer within {} s", PATIENCE.as_secs())]
    Late { program: String },
    #[error("credential helper {program} failed ({status}): {said}")]
    Failed { program: String, status: std::process::ExitStatus, said: String },
    #[error("credential helper {program} did not answer with a `Username` and a `Secret`")]
    NoLogin { program: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// The helpers that one account asks, with what they said lately.
#[derive(Debug, Default)]
pub(crate) struct Helpers {
    known: Mutex<HashMap<(String, String), (Instant, Login)>>,
}

impl Helpers {
    pub(crate) async fn get(&self, helper: &str, server: &str, fresh: bool) -> Result<Login, HelperError> {
        let key = (helper.to_owned(), server.to_owned());
        let now = Instant::now();
        {
            let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            known.retain(|_, (at, _)| now.duration_since(*at) < KEPT);
            if let Some((_, login)) = known.get(&key).filter(|_| !fresh) {
                return Ok(login.clone());
            }
        }
        let login = ask(&program(helper), server).await?;
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.insert(key, (now, login.clone()));
        Ok(login)
    }
}

/// A path stays one, a name is looked up as Docker's client does.
pub(crate) fn program(helper: &str) -> String {
    if helper.starts_with('/') { helper.to_owned() } else { format!("docker-credential-{helper}") }
}

/// A path from the root, or a plain name.
pub(crate) fn is_fine(helper: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    helper.starts_with('/') || helper.chars().all(plain)
}

async fn ask(program: &str, server: &str) -> Result<Login, HelperError> {
    let name = || program.to_owned();
    let run = |source| HelperError::Run { program: name(), source };
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(run)?;
    let (mut input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let talk = async {
        if let Some(input) = &mut input {
            // Who does not read it knows without.
            let _ = input.write_all(server.as_bytes()).await;
        }
        drop(input);
        let (said, complaint) = tokio::join!(read(output), read(errors));
        Ok::<_, io::Error>((child.wait().await?, said?, complaint?))
    };
    let late = HelperError::Late { program: name() };
    let (status, said, complaint) =
        tokio::time::timeout(PATIENCE, talk).await.map_err(|_| late)?.map_err(run)?;
    if !status.success() {
        return Err(HelperError::Failed { program: name(), status, said: complaint_of(&said, &complaint) });
    }
    match serde_json::from_slice::<Answer>(&said) {
        Ok(Answer { username, secret }) if !secret.is_empty() => {
            Ok(Login { user: username, password: Revealed::new(secret) })
        }
        _ => Err(HelperError::NoLogin { program: name() }),
    }
}

async fn read(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(MOST).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// Helpers complain on their output; what looks like a login is not shown.
fn complaint_of(said: &[u8], complaint: &[u8]) -> String {
    let lines = [said, complaint].map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
    let shown = lines.into_iter().find(|text| !text.is_empty() && !text.contains(['{', '"']));
    shown.map_or_else(|| "it said nothing".into(), |text| text.chars().take(SHOWN).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn script(folder: &Path, text: &str) -> String {
        let path = folder.join("docker-credential-test");
        // Another test's child may still have a file open that was written here, so it is a shell that runs it.
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        path.display().to_string()
    }

    async fn get(text: &str) -> Result<Login, HelperError> {
        let folder = tempfile::tempdir().unwrap();
        let helper = script(folder.path(), text);
        loop {
            match Helpers::default().get(&helper, "r:5000", false).await {
                Err(HelperError::Run { source, .. })
                    if source.kind() == io::ErrorKind::ExecutableFileBusy => {}
                answer => return answer,
            }
        }
    }

    #[tokio::test]
    async fn it_is_told_the_registry_and_says_the_login() {
        let said =
            r#"read server; printf '{"ServerURL":"%s","Username":"%s","Secret":"s1"}' "$server" "$server""#;
        let login = get(said).await.unwrap();
        assert_eq!((login.user.as_str(), login.password.reveal()), ("r:5000", "s1"));
    }

    #[tokio::test]
    async fn what_it_complains_of_is_shown_and_no_login_ever() {
        let said = |error: HelperError| error.to_string();
        let failed = get("echo credentials not found in native keychain; exit 1").await.unwrap_err();
        assert!(said(failed).contains("not found in native keychain"));
        let login = r#"echo '{"Username":"ci","Secret":"s3cr3t"}'"#;
        let failed = get(&format!("{login}; exit 3")).await.unwrap_err();
        assert!(!said(failed).contains("s3cr3t"));
        for text in ["true", "echo '{\"Username\":\"ci\"}'", "echo '{\"Username\":\"ci\",\"Secret\":\"\"}'"] {
            assert!(matches!(get(text).await, Err(HelperError::NoLogin { .. })), "{text}");
        }
        let none = Helpers::default().get("/nowhere/helper", "r", false).await.unwrap_err();
        assert!(said(none).contains("/nowhere/helper"));
    }
}
