//! A daemon as a back end: real agents in containers, counted by labels and names with calls of the tests' own.

use async_trait::async_trait;
use bollard::models::{ContainerSummary, ImageSummary};
use bollard::query_parameters::{
    CreateImageOptions, KillContainerOptions, ListContainersOptions, ListImagesOptions, ListVolumesOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures::TryStreamExt;
use rouse_contract::conformance::{Bench, Joins, Of};
use rouse_contract::{
    Installation, Keyring, LaunchSpec, Provider, ProviderKind, ResolveRequest, Resolved, Tag,
};
use rouse_model::Trust;
use rouse_provider_docker::DockerKind;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// No shell, no library, no `/tmp`: one empty file, since an image cannot hold nothing.
pub const EMPTY: &str = "rouse-test-provider:empty";
/// With a user of its own and a shell.
pub const BUSYBOX: &str = "rouse-test-provider:busybox";

pub struct Host {
    pub docker: Docker,
    pub host: String,
    /// A master's folder, 0700 as it is in use.
    pub state: tempfile::TempDir,
    agents: PathBuf,
    id: String,
    /// Podman trips over itself where images are made and removed at the same time.
    _turn: Option<tokio::sync::MutexGuard<'static, ()>>,
}

pub async fn bench() -> Option<Host> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    // These files are two test programs, one for each daemon.
    let (host, turn) = match env!("CARGO_CRATE_NAME") {
        "podman" => (rouse_testkit::back_ends::podman_host()?, Some(TURN.lock().await)),
        _ => (rouse_testkit::back_ends::docker_host()?, None),
    };
    let agents = rouse_testkit::back_ends::agents()?;
    let docker = Docker::connect_with_unix(&host, 60, API_DEFAULT_VERSION).expect("the daemon's socket");
    let docker = docker.negotiate_version().await.expect("the daemon");
    images(&docker).await;
    let state = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .expect("a state folder");
    let id = format!("{:06x}{:02x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    Some(Host { docker, host, state, agents, id, _turn: turn })
}

/// Both images, under ids that stay: imported once, since importing anew moves the tag under whoever has resolved it.
async fn images(docker: &Docker) {
    static READY: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    let make = async {
        // Another run of these tests on the same daemon waits at the same file.
        let shell = std::fs::File::open("/bin/busybox").expect("busybox, of the package busybox-static");
        shell.lock().expect("locked");
        if docker.inspect_image(EMPTY).await.is_err() {
            import(docker, EMPTY, archive(&[("nothing", b"", 0o644)]), &[]).await;
        }
        if docker.inspect_image(BUSYBOX).await.is_err() {
            let shell = std::fs::read("/bin/busybox").expect("busybox");
            let passwd = b"root:x:0:0::/:/bin/sh\nbuilder:x:1000:1000::/:/bin/sh\n";
            let files: [(&str, &[u8], u32); 3] =
                [("bin/busybox", &shell, 0o755), ("bin/sh", &shell, 0o755), ("etc/passwd", passwd, 0o644)];
            import(docker, BUSYBOX, archive(&files), &["USER builder"]).await;
        }
    };
    READY.get_or_init(|| make).await;
}

impl Host {
    pub fn account(&self, id: &str, store_epoch: i64) -> Arc<dyn Provider> {
        let state = self.state.path().join(id);
        std::fs::create_dir_all(&state).expect("a state folder");
        let agents = self.agents.clone();
        let installation =
            Installation { id: id.to_owned(), store_epoch, agents, state, many_masters: false };
        DockerKind.connect("docker", &json!({"host": self.host}), &installation).expect("connected")
    }

    pub async fn image(&self, name: &str) -> Resolved {
        let id = self.docker.inspect_image(name).await.expect("the image").id.expect("its id");
        Resolved { image: name.to_owned(), id }
    }

    pub async fn spec_of(&self, image: &str, options: Value) -> LaunchSpec {
        let mut options = options;
        options["image"] = json!(image);
        let env = [("FROM_SPEC".to_owned(), "yes".to_owned())].into();
        let image = Some(self.image(image).await);
        LaunchSpec {
            pool: "suite".into(),
            project: "default".into(),
            trust: Trust::Trusted,
            image,
            options,
            env,
            secrets: Keyring::default(),
            shelves: Vec::new(),
            beside: [].into(),
            tree: None,
        }
    }

    /// All containers of a tag, running or not.
    pub async fn containers_of(&self, tag: &Tag) -> Vec<ContainerSummary> {
        let labels = vec![format!("rouse.token={}", tag.token.0)];
        let filters = HashMap::from([("label".to_owned(), labels)]);
        self.containers(Some(filters)).await
    }

    async fn images(&self) -> Vec<ImageSummary> {
        loop {
            match self.docker.list_images(None::<ListImagesOptions>).await {
                // Podman cannot while another test removes one.
                Err(error) if error.to_string().contains("locating image with ID") => {}
                list => return list.expect("images"),
            }
        }
    }

    async fn containers(&self, filters: Option<HashMap<String, Vec<String>>>) -> Vec<ContainerSummary> {
        let options = ListContainersOptions { all: true, filters, ..Default::default() };
        loop {
            match self.docker.list_containers(Some(options.clone())).await {
                // For a moment Podman has a state of its own.
                Err(error) if error.to_string().contains("unknown variant `stopped`") => {}
                list => return list.expect("containers"),
            }
        }
    }
}

pub async fn import(docker: &Docker, name: &str, tar: Vec<u8>, changes: &[&str]) {
    let options = CreateImageOptions {
        from_src: Some("-".into()),
        repo: Some(name.into()),
        changes: changes.iter().map(|&line| line.to_owned()).collect(),
        ..Default::default()
    };
    let body = bollard::body_full(tar.into());
    docker.create_image(Some(options), Some(body), None).try_collect::<Vec<_>>().await.expect("imported");
}

pub fn archive(files: &[(&str, &[u8], u32)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        tar.append_data(&mut header, path, *content).expect("packed");
    }
    tar.into_inner().expect("packed")
}

#[async_trait]
impl Bench for Host {
    fn provider(&self, of: Of) -> Arc<dyn Provider> {
        self.account(&self.installation(of), if of == Of::Restored { 2 } else { 1 })
    }

    fn installation(&self, of: Of) -> String {
        match of {
            Of::Ours | Of::Restored => format!("{}-ours", self.id),
            Of::Foreign => format!("{}-theirs", self.id.chars().rev().collect::<String>()),
        }
    }

    async fn spec(&self) -> LaunchSpec {
        self.spec_of(EMPTY, json!({"network": "none"})).await
    }

    fn join_document(&self, tag: &Tag, joins: Joins) -> Vec<u8> {
        match joins {
            Joins::InVain => json!({
                "version": 1, "installation": tag.installation, "worker": tag.name, "worker_id": tag.worker,
                "join_token": "suite", "store_epoch": tag.store_epoch, "endpoints": [{"unix": {"path": "sock"}}],
                "work_dir": "", "expiry_s": 600.0,
            })
            .to_string()
            .into_bytes(),
            Joins::Never => b"{".to_vec(),
        }
    }

    fn crowd(&self) -> usize {
        10
    }

    fn missing_image(&self) -> Option<(ResolveRequest, String)> {
        let name = "rouse-test-provider:there-is-none".to_owned();
        let request = ResolveRequest {
            images: vec![name.clone()],
            options: json!({"pull": "never"}),
            secrets: Keyring::default(),
            tree: None,
        };
        Some((request, name))
    }

    async fn running(&self, tag: &Tag) -> usize {
        let running = |c: &ContainerSummary| c.status.as_ref().is_some_and(|status| status.starts_with("Up"));
        self.containers_of(tag).await.iter().filter(|c| running(c)).count()
    }

    async fn kill(&self, tag: &Tag) {
        for container in self.containers_of(tag).await {
            let id = container.id.expect("its id");
            self.docker.kill_container(&id, None::<KillContainerOptions>).await.expect("killed");
        }
    }

    async fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        for id in [self.installation(Of::Ours), self.installation(Of::Foreign)] {
            let ours = |labels: &HashMap<String, String>| labels.get("rouse.installation") == Some(&id);
            let short = &id[..8];
            let containers = self.containers(None).await;
            let containers = containers.iter().filter(|c| c.labels.as_ref().is_some_and(ours));
            left.extend(containers.map(|c| format!("container {:?}", c.names)));
            let volumes =
                self.docker.list_volumes(None::<ListVolumesOptions>).await.expect("volumes").volumes;
            let volumes = volumes.unwrap_or_default().into_iter();
            let volumes = volumes.filter(|v| ours(&v.labels) || v.name.contains(short));
            left.extend(volumes.map(|v| format!("volume {}", v.name)));
            let images = self.images().await.into_iter();
            let images =
                images.filter(|i| ours(&i.labels) || i.repo_tags.iter().any(|tag| tag.contains(short)));
            left.extend(images.map(|i| format!("image {:?}", i.repo_tags)));
            left.extend(entries(Path::new("/var/tmp")).filter(|entry| entry.contains(short)));
            let run = self.state.path().join(&id).join("run");
            left.extend(run.exists().then(|| run.display().to_string()));
        }
        left
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = String> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path().display().to_string())
}
