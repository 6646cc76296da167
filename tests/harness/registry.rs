//! A registry of a scenario's own, for daemons that do not share this host's loopback.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use super::{Scratch, wait};

/// The file with those who are let in.
const LOGINS: &str = "htpasswd";

/// Ends when dropped.
pub struct Registry {
    address: String,
    child: Child,
    folder: Scratch,
}

impl Registry {
    pub fn start(at: Ipv4Addr) -> Self {
        Self::begin(at, None)
    }

    /// One that lets in who has a login: lines of `user:HASH`, by bcrypt.
    pub fn with_login(at: Ipv4Addr, logins: &str) -> Self {
        Self::begin(at, Some(logins))
    }

    /// From now on these have a login, and nobody else.
    pub fn change_logins(&self, logins: &str) {
        let file = self.folder.path().join(LOGINS);
        std::fs::write(&file, logins).expect("written");
        // The registry looks at the time of the last change, to the second.
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
        let opened = std::fs::File::options().write(true).open(file).expect("it is there");
        opened.set_modified(later).expect("the file is ours");
    }

    fn begin(at: Ipv4Addr, logins: Option<&str>) -> Self {
        let port =
            TcpListener::bind((at, 0)).and_then(|free| free.local_addr()).expect("a port is free").port();
        let address = format!("{at}:{port}");
        let folder = Scratch::new();
        let config = folder.path().join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}/store}}}}\nhttp: {{addr: \"{address}\"}}\n",
            folder.path().display()
        );
        let auth = logins.map_or_else(String::new, |logins| {
            let file = folder.path().join(LOGINS);
            std::fs::write(&file, logins).expect("written");
            format!("auth: {{htpasswd: {{realm: rouse-test, path: {}}}}}\n", file.display())
        });
        std::fs::write(&config, text + &auth).expect("written");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--", "docker-registry", "serve"]).arg(config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("docker-registry is installed");
        wait::until_true("the registry to listen", wait::SOON, || TcpStream::connect(&address).is_ok());
        Self { address, child, folder }
    }

    /// What names of images in it begin with, without the slash.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
