//! A real sshd on a host of a network. Whoever has its key is root there, as far as a command with that host's Docker daemon goes.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::lan::{self, Host};
use super::{Scratch, wait};

/// Ends when dropped.
pub struct Sshd {
    address: Ipv4Addr,
    child: Child,
    folder: Scratch,
}

impl Sshd {
    pub fn on(host: &Host, docker: &str) -> Self {
        let folder = Scratch::new();
        let at = |name: &str| folder.path().join(name);
        for key in ["host", "client"] {
            let mut make = Command::new("ssh-keygen");
            make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at(key));
            assert!(make.status().expect("ssh-keygen is installed").success());
        }
        fs::copy(at("client.pub"), at("authorized")).expect("copied");
        let config = format!(
            "ListenAddress {}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\n\
             PermitRootLogin prohibit-password\nSetEnv DOCKER_HOST={docker}\n",
            host.address,
            at("host").display(),
            at("authorized").display(),
        );
        fs::write(at("sshd.conf"), config).expect("written");
        // Where it puts those who are not known yet.
        fs::create_dir_all("/run/sshd").expect("made");
        let within = lan::within(&host.namespace);
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).arg(within.get_program()).args(within.get_args());
        command.args(["/usr/sbin/sshd", "-D", "-e", "-f"]).arg(at("sshd.conf"));
        let log = fs::File::create(at("log")).expect("made");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let sshd = Self { address: host.address, child: child.expect("sshd is installed"), folder };
        sshd.write_client();
        wait::until_true("sshd to listen", wait::SOON, || TcpStream::connect((host.address, 22)).is_ok());
        sshd
    }

    /// What `ssh` must be told of it: the key, and where it is known; nobody is yet.
    pub fn settings(&self) -> String {
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        format!(
            "Host {}\n  IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n",
            self.address,
            at("client"),
            at("known")
        )
    }

    /// An `ssh` with these settings.
    fn write_client(&self) {
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        fs::write(at("ssh.conf"), self.settings()).expect("written");
        fs::create_dir(at("bin")).expect("made");
        let program = at("bin/ssh");
        fs::write(&program, format!("#!/bin/sh\nexec /usr/bin/ssh -F '{}' \"$@\"\n", at("ssh.conf")))
            .expect("written");
        fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("ours");
    }

    /// To stand first in a `PATH`.
    pub fn client(&self) -> PathBuf {
        self.folder.path().join("bin")
    }

    /// From now on the client knows it.
    pub fn introduce(&self) {
        let key = fs::read_to_string(self.folder.path().join("host.pub")).expect("made");
        fs::write(self.folder.path().join("known"), format!("{} {key}", self.address)).expect("written");
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
