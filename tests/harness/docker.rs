//! A Docker daemon from outside, through its own client: images of our own, and listings before and after.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use rouse_testkit::back_ends;

use super::scratch::unique;

/// The daemon of this test run.
#[derive(Clone)]
pub struct Docker {
    host: String,
}

/// What a daemon can have too much of afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Container,
    Image,
    Volume,
    Network,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Container, Self::Image, Self::Volume, Self::Network];

    /// The client's word for it.
    fn noun(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Network => "network",
        }
    }
}

/// One object of a daemon.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    pub kind: Kind,
    pub id: String,
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind.noun(), self.id)
    }
}

impl Docker {
    /// `None`: the skip has been recorded, return from the test.
    pub fn of_this_run() -> Option<Self> {
        Some(Self { host: back_ends::docker_host()? })
    }

    /// Another one, by its address.
    pub fn at(host: &str) -> Self {
        Self { host: host.to_owned() }
    }

    /// For the master's environment or config: `unix://…`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Runs the client and gives back what it printed.
    pub fn run(&self, arguments: &[&str]) -> String {
        self.try_run(arguments)
            .unwrap_or_else(|complaint| panic!("docker {}: {complaint}", arguments.join(" ")))
    }

    /// The same where failing is an answer: its complaint.
    pub fn try_run(&self, arguments: &[&str]) -> Result<String, String> {
        let output =
            self.command().args(arguments).stdin(Stdio::null()).output().expect("docker is installed");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_string())
        }
    }

    /// Of a container that runs, as the host counts processes.
    pub fn first_process(&self, container: &str) -> Option<i32> {
        let pid = self.try_run(&["container", "inspect", "--format", "{{.State.Pid}}", container]).ok()?;
        pid.trim().parse().ok().filter(|pid| *pid > 0)
    }

    pub fn answers(&self) -> bool {
        self.try_run(&["version", "--format", "{{.Server.Version}}"]).is_ok()
    }

    fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.args(["--host", &self.host]);
        command
    }

    /// Everything that it has now.
    pub fn objects(&self) -> BTreeSet<Object> {
        Kind::ALL.into_iter().flat_map(|kind| self.list(kind)).collect()
    }

    fn list(&self, kind: Kind) -> Vec<Object> {
        let arguments: &[&str] = match kind {
            Kind::Container => &["container", "ls", "--all", "--quiet", "--no-trunc"],
            Kind::Image => &["image", "ls", "--all", "--quiet", "--no-trunc"],
            Kind::Volume => &["volume", "ls", "--quiet"],
            Kind::Network => &["network", "ls", "--quiet", "--no-trunc"],
        };
        self.run(arguments).lines().map(|id| Object { kind, id: id.to_string() }).collect()
    }

    /// Whether what the daemon says of the object has `mark` in it: a label, a name, a mount. What has gone says nothing.
    pub fn mentions(&self, object: &Object, mark: &str) -> bool {
        let described = self.try_run(&[object.kind.noun(), "inspect", &object.id]);
        described.is_ok_and(|text| text.contains(mark))
    }

    /// Takes an object away, if it is still there.
    pub fn remove(&self, object: &Object) {
        let _ = match object.kind {
            Kind::Container => self.try_run(&["container", "rm", "--force", "--volumes", &object.id]),
            Kind::Image => self.try_run(&["image", "rm", "--force", &object.id]),
            Kind::Volume => self.try_run(&["volume", "rm", "--force", &object.id]),
            Kind::Network => self.try_run(&["network", "rm", &object.id]),
        };
    }

    /// An image with a shell and the usual small programs, all of them busybox.
    pub fn busybox(&self, changes: &[&str]) -> Image {
        let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
        let listed = Command::new("/bin/busybox").arg("--list").output().expect("busybox runs");
        let mut files = vec![
            // Said, since a rootless Docker makes folders that are not such that root alone can enter them.
            File::folder("bin", 0o755),
            File::folder("etc", 0o755),
            File::program("bin/busybox", busybox),
            File::text(
                "etc/passwd",
                "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n",
            ),
            File::text("etc/group", "root:x:0:\nuser:x:1000:\n"),
            File::folder("root", 0o700),
            File::folder("tmp", 0o1777),
        ];
        for name in String::from_utf8_lossy(&listed.stdout).lines().filter(|name| *name != "busybox") {
            files.push(File::link(&format!("bin/{name}"), "/bin/busybox"));
        }
        self.image(&files, changes)
    }

    /// An image of just these files, and of `docker import`'s changes (`USER 1000`, `ENTRYPOINT …`).
    pub fn image(&self, files: &[File], changes: &[&str]) -> Image {
        let name = format!("{}:1", unique("image"));
        let mut command = self.command();
        command.arg("import");
        for change in changes {
            command.args(["--change", change]);
        }
        command.args(["-", &name]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("docker is installed");
        let mut input = child.stdin.take().expect("the child has an input");
        let written = input.write_all(&tar_of(files));
        drop(input);
        let output = child.wait_with_output().expect("the child ends");
        assert!(output.status.success(), "docker import: {}", String::from_utf8_lossy(&output.stderr));
        written.expect("an archive that was taken was read");
        Image { docker: self.clone(), name }
    }
}

/// An image under a name of its own. Removed when dropped.
pub struct Image {
    docker: Docker,
    name: String,
}

impl Image {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Puts it under another name too, such as one in a registry, and pushes it there.
    pub fn push_as(&self, name: &str) {
        self.docker.run(&["tag", &self.name, name]);
        self.docker.run(&["push", "--quiet", name]);
        self.docker.run(&["rmi", name]);
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = self.docker.try_run(&["image", "rm", "--force", &self.name]);
    }
}

/// One entry of an image.
pub struct File {
    path: String,
    mode: u32,
    content: Content,
}

enum Content {
    Bytes(Vec<u8>),
    Link(String),
    Folder,
}

impl File {
    pub fn program(path: &str, bytes: Vec<u8>) -> Self {
        Self { path: path.into(), mode: 0o755, content: Content::Bytes(bytes) }
    }

    pub fn text(path: &str, text: &str) -> Self {
        Self { path: path.into(), mode: 0o644, content: Content::Bytes(text.into()) }
    }

    pub fn link(path: &str, target: &str) -> Self {
        Self { path: path.into(), mode: 0o777, content: Content::Link(target.into()) }
    }

    pub fn folder(path: &str, mode: u32) -> Self {
        Self { path: path.into(), mode, content: Content::Folder }
    }
}

fn tar_of(files: &[File]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(file.mode);
        header.set_mtime(1);
        let added = match &file.content {
            Content::Bytes(bytes) => {
                header.set_size(bytes.len() as u64);
                archive.append_data(&mut header, &file.path, bytes.as_slice())
            }
            Content::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                archive.append_link(&mut header, &file.path, target)
            }
            Content::Folder => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
                archive.append_data(&mut header, format!("{}/", file.path), std::io::empty())
            }
        };
        added.expect("an archive in memory can be written");
    }
    archive.into_inner().expect("an archive in memory can be written")
}
