//! Programs that a verb needs from the machine: installed where we may, named where we may not.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::{self, Interrupt};

/// A program, and the Debian packages that may bring it: the first one that this release has is taken.
pub struct Need {
    pub program: &'static str,
    pub packages: &'static [&'static str],
}

const GIT: Need = Need { program: "git", packages: &["git"] };
const CC: Need = Need { program: "cc", packages: &["gcc"] };
const MAKE: Need = Need { program: "make", packages: &["make"] };
const LIBC: Need = Need { program: "/usr/include/stdlib.h", packages: &["libc6-dev"] };

/// Sets one process's clock.
const FAKETIME: &str = if cfg!(target_arch = "aarch64") {
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1"
} else {
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
};

/// To compile the master and the agent, and for the project's sample repository.
pub const DEMO: &[Need] = &[GIT, CC, MAKE, LIBC];

/// For every test to have its real back end.
pub const TEST: &[Need] = &[
    GIT,
    Need { program: "git-lfs", packages: &["git-lfs"] },
    CC,
    MAKE,
    LIBC,
    // For the fuzzer.
    Need { program: "c++", packages: &["g++"] },
    Need { program: "docker", packages: &["docker-cli", "docker.io"] },
    Need { program: "dockerd", packages: &["docker.io"] },
    Need { program: "containerd", packages: &["containerd"] },
    Need { program: "runc", packages: &["runc"] },
    Need { program: "podman", packages: &["podman"] },
    // For daemons without root.
    Need { program: "rootlesskit", packages: &["rootlesskit"] },
    Need { program: "newuidmap", packages: &["uidmap"] },
    Need { program: "slirp4netns", packages: &["slirp4netns"] },
    Need { program: "useradd", packages: &["passwd"] },
    // Its networks, and names within them.
    Need { program: "/usr/lib/podman/netavark", packages: &["netavark"] },
    Need { program: "/usr/lib/podman/aardvark-dns", packages: &["aardvark-dns"] },
    Need { program: "ip", packages: &["iproute2"] },
    Need { program: "docker-registry", packages: &["docker-registry"] },
    Need { program: "initdb", packages: &["postgresql"] },
    Need { program: "psql", packages: &["postgresql-client"] },
    // For what comes as a Python package.
    Need { program: "python3", packages: &["python3-venv"] },
    Need { program: "busybox", packages: &["busybox-static"] },
    Need { program: FAKETIME, packages: &["libfaketime"] },
    // Hosts of their own: network namespaces.
    Need { program: "nsenter", packages: &["util-linux"] },
    Need { program: "ssh", packages: &["openssh-client"] },
    Need { program: "/usr/sbin/sshd", packages: &["openssh-server"] },
    Need { program: "setpriv", packages: &["util-linux"] },
    Need { program: "unshare", packages: &["util-linux"] },
    Need { program: "mount", packages: &["mount"] },
    Need { program: "tar", packages: &["tar"] },
];

/// Installs what is missing where we are root on a Debian system; answers what is still missing, in words.
pub fn ensure(needs: &[Need], interrupt: &Interrupt) -> Result<Vec<String>> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    if nix::unistd::geteuid().is_root() && find("apt-get").is_some() {
        // An install that fails is told by what is still missing afterwards; the reason stands above it.
        if let Err(error) = install(&missing, interrupt) {
            if error.is::<process::Interrupted>() {
                return Err(error);
            }
            eprintln!("{error:#}");
        }
    }
    Ok(self::missing(needs)
        .iter()
        .map(|need| format!("{} (Debian: apt-get install {})", need.program, need.packages.join(" or ")))
        .collect())
}

/// The same for what nothing can be done without.
pub fn require(needs: &[Need], interrupt: &Interrupt) -> Result<()> {
    let missing = ensure(needs, interrupt)?;
    if !missing.is_empty() {
        bail!("missing on this machine: {}", missing.join(", "));
    }
    Ok(())
}

fn missing(needs: &[Need]) -> Vec<&Need> {
    needs.iter().filter(|need| find(need.program).is_none()).collect()
}

fn install(needs: &[&Need], interrupt: &Interrupt) -> Result<()> {
    let names: Vec<&str> = needs.iter().map(|need| need.program).collect();
    eprintln!("installing: {}", names.join(", "));
    let _quiet = NoServices::begin()?;
    apt(&["update", "-qq"], interrupt)?;
    let packages: BTreeSet<&str> = needs.iter().filter_map(|need| available(need.packages)).collect();
    let mut arguments = vec!["install", "-qq", "-y", "--no-install-recommends", "-o=Dpkg::Use-Pty=0"];
    arguments.extend(packages);
    apt(&arguments, interrupt)
}

fn apt(arguments: &[&str], interrupt: &Interrupt) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    // Our standard output carries results only.
    command.stdout(std::io::stderr());
    if !process::run(&mut command, interrupt)?.success() {
        bail!("apt-get {} failed", arguments[0]);
    }
    Ok(())
}

fn available(packages: &'static [&'static str]) -> Option<&'static str> {
    match packages {
        [only] => Some(only),
        _ => packages.iter().copied().find(|package| is_known(package)),
    }
}

fn is_known(package: &str) -> bool {
    let mut command = Command::new("apt-cache");
    command.args(["show", package]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Where a program lies: the search path, the folders of root's programs, PostgreSQL's own folder. A name
/// with a slash is a file that must be there.
pub fn find(program: &str) -> Option<PathBuf> {
    if program.starts_with('/') {
        return Path::new(program).exists().then(|| program.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from));
    if matches!(program, "initdb" | "postgres" | "pg_isready") {
        // First, so that a server and its tools are of one version, whatever wrappers the path has.
        folders.splice(0..0, postgres_folders());
    }
    folders.into_iter().map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Newest first.
fn postgres_folders() -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, folder)| folder).collect()
}

/// While it lives, packages do not start their services: the tests start their own, and no service of the
/// machine is ours to start. Debian asks this file; one that is there already is left alone.
struct NoServices {
    made: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn begin() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { made: false });
        }
        std::fs::write(POLICY, "#!/bin/sh\nexit 101\n")
            .context("the policy for services cannot be written")?;
        std::fs::set_permissions(POLICY, std::fs::Permissions::from_mode(0o755))
            .context("the policy for services cannot be made executable")?;
        Ok(Self { made: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.made {
            let _ = std::fs::remove_file(POLICY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_and_a_missing_one_is_named() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-here").is_none());
        let needs = [
            Need { program: "no-such-program-here", packages: &["x"] },
            Need { program: "sh", packages: &[] },
        ];
        let names: Vec<_> = missing(&needs).iter().map(|need| need.program).collect();
        assert_eq!(names, ["no-such-program-here"]);
    }
}
