//! The machine: the state folder and who may do what in it, room on its disk, the agent's program.

use super::{Finding, Patient};
use crate::keys::InstallationKey;
use crate::supervisor::chain;
use crate::upkeep::is_half_restored;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

/// With less room than this builds end soon.
const LITTLE: u64 = 64 << 20;
/// With less room than this somebody should look.
const SCARCE: u64 = 1 << 30;
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn state(patient: &Patient) -> Vec<Finding> {
    let state = &patient.state;
    let shown = state.display();
    let meta = match std::fs::metadata(state) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mend = "say where it is with --state or ROUSE_STATE; the first start of a master makes it";
            return vec![Finding::warn("state", format!("{shown} does not exist"), mend)];
        }
        Err(error) => {
            let mend = "run as the user that the master runs as";
            return vec![Finding::fail("state", format!("{shown}: {error}"), mend)];
        }
    };
    let mut findings = vec![folder(state, &meta), key(state)];
    if is_half_restored(state) {
        let mend = "restore it again, with --replace";
        findings.push(Finding::fail("restore", "a backup was not restored to its end", mend));
    }
    findings
}

fn folder(state: &Path, meta: &std::fs::Metadata) -> Finding {
    let shown = state.display();
    let mode = meta.mode() & 0o777;
    let probe = state.join(format!("doctor.{}", std::process::id()));
    if let Err(error) = std::fs::write(&probe, "probe").and_then(|()| std::fs::remove_file(&probe)) {
        let mend = format!("run as its owner, user {}; or: chmod u+rwx {shown}", meta.uid());
        return Finding::fail("state", format!("{shown} cannot be written: {error}"), mend);
    }
    if mode & 0o022 != 0 {
        let found = format!("{shown} can be written by others (mode {mode:o})");
        return Finding::fail("state", found, format!("chmod 711 {shown}"));
    }
    if mode & 0o044 != 0 {
        let found = format!("{shown} can be listed by others (mode {mode:o})");
        return Finding::warn("state", found, format!("chmod 711 {shown}"));
    }
    Finding::ok("state", format!("{shown} can be written, by its owner alone"))
}

fn key(state: &Path) -> Finding {
    let path = state.join("installation.key");
    if !path.exists() {
        return Finding::ok("key", "none yet; the first start of a master makes it");
    }
    match InstallationKey::load_or_make(&path) {
        Ok(_) => Finding::ok("key", "only its owner can read it"),
        Err(error) => Finding::fail("key", chain(&error), format!("chmod 600 {}", path.display())),
    }
}

/// Room for logs, artifacts and the database.
pub(super) fn disk(state: &Path) -> Finding {
    // Where there is none yet, the disk that it will be on.
    let place = state.ancestors().find(|place| place.exists()).unwrap_or(Path::new("."));
    let place = if place.as_os_str().is_empty() { Path::new(".") } else { place };
    let room = match rustix::fs::statvfs(place) {
        Ok(room) => room,
        Err(error) => return Finding::skip("disk", format!("{}: {error}", place.display())),
    };
    let (free, all) = (room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize);
    let found = format!("{} MiB of {} MiB are free at {}", free >> 20, all >> 20, place.display());
    let mend = "make room: keep less (server.keep), or give the state folder a larger disk";
    let no_files = room.f_files > 0 && room.f_favail * 100 < room.f_files;
    if free < LITTLE || no_files {
        let found = if no_files { format!("{found}, and hardly a file more can be made") } else { found };
        Finding::fail("disk", found, mend)
    } else if free < SCARCE.min(all / 10) {
        Finding::warn("disk", found, mend)
    } else {
        Finding::ok("disk", found)
    }
}

/// The agent for this machine's own kind of workers: it starts, and is of this version.
pub(super) async fn agent(patient: &Patient) -> Finding {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let path = patient.agents.join(format!("{os}-{arch}/rouse-agent"));
    let shown = path.display();
    let mend = "install it beside the master's binary; from the sources: cargo xtask agent";
    let Ok(meta) = std::fs::metadata(&path) else {
        return Finding::fail("agent", format!("there is no {shown}"), mend);
    };
    if meta.permissions().mode() & 0o111 == 0 {
        let mend = format!("chmod +x {shown}");
        return Finding::fail("agent", format!("{shown} cannot be executed"), mend);
    }
    let mut command = tokio::process::Command::new(&path);
    command.arg("version").kill_on_drop(true);
    match tokio::time::timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) if output.status.success() => {
            let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            if said.split(' ').nth(1) == Some(env!("CARGO_PKG_VERSION")) {
                Finding::ok("agent", said)
            } else {
                let found = format!("{said} beside rouse {}", env!("CARGO_PKG_VERSION"));
                Finding::warn("agent", found, "install master and agents of one version")
            }
        }
        Ok(Ok(output)) => Finding::fail("agent", format!("{shown} ended with {}", output.status), mend),
        Ok(Err(error)) => Finding::fail("agent", format!("{shown} cannot be started: {error}"), mend),
        Err(_) => Finding::fail("agent", format!("{shown} does not answer"), mend),
    }
}
