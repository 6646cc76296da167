//! What is left over, counted from outside: never what the product says of itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::docker::{Docker, Kind, Object};
use super::processes;

/// Where a worker's socket lies if the state folder will not do.
const SHARED: &str = "/var/tmp";

/// Remembers what was there before, and tells what has come since and belongs to one installation.
pub struct Leftovers {
    docker: Option<Docker>,
    objects: BTreeSet<Object>,
    shared: BTreeSet<PathBuf>,
    marks: Vec<String>,
    watched: Vec<Watched>,
}

struct Watched {
    folder: PathBuf,
    before: BTreeSet<PathBuf>,
}

impl Leftovers {
    /// Looks now. `folder` marks what is the scenario's: whatever process, container or volume mentions it.
    pub fn watch(folder: &Path, docker: Option<&Docker>) -> Self {
        Self {
            docker: docker.cloned(),
            objects: docker.map(Docker::objects).unwrap_or_default(),
            shared: entries(Path::new(SHARED)),
            // Scratch folders have random names of one length: none is the beginning of another.
            marks: vec![folder.display().to_string()],
            watched: Vec::new(),
        }
    }

    /// Another mark, such as an installation's id: objects and folders made in its name count too.
    pub fn mark(&mut self, mark: &str) {
        self.marks.push(mark.to_string());
    }

    /// Files that appear below this folder are left over, too.
    pub fn files_below(&mut self, folder: &Path) {
        self.watched.push(Watched { folder: folder.to_path_buf(), before: files_below(folder) });
    }

    /// Everything that is left now, in words.
    pub fn now(&self) -> Vec<String> {
        let mut left: Vec<String> = self
            .processes()
            .into_iter()
            .map(|seen| format!("process {}: {}", seen.pid, seen.command))
            .collect();
        left.extend(self.objects().iter().map(Object::to_string));
        left.extend(self.shared_folders().iter().map(|path| format!("folder {}", path.display())));
        for watched in &self.watched {
            let new: Vec<PathBuf> =
                files_below(&watched.folder).difference(&watched.before).cloned().collect();
            left.extend(new.iter().map(|path| format!("file {}", path.display())));
        }
        left
    }

    /// Everything left but what serves an installation as long as there is one: the agent's volume and image, link folders.
    pub fn of_workers(&self) -> Vec<String> {
        let mut left: Vec<String> = self
            .processes()
            .into_iter()
            .map(|seen| format!("process {}: {}", seen.pid, seen.command))
            .collect();
        left.extend(
            self.objects()
                .iter()
                .filter(|object| matches!(object.kind, Kind::Container | Kind::Network))
                .map(Object::to_string),
        );
        left
    }

    /// # Panics
    /// When something is still left after `patience`, with all of it.
    pub fn assert_none(&self, patience: Duration) {
        await_none(patience, || self.now());
    }

    /// The same for [`Self::of_workers`], while a master runs: its own process is not left over.
    pub fn assert_no_workers(&self, patience: Duration, master: i32) {
        let own = format!("process {master}:");
        await_none(patience, || {
            self.of_workers().into_iter().filter(|left| !left.starts_with(&own)).collect()
        });
    }

    /// Takes away what is there, so that a failed scenario does not disturb the others.
    pub fn clear(&self) {
        for seen in self.processes() {
            processes::kill9(seen.pid);
        }
        // One that a failed scenario has left dead holds nothing that could disturb others.
        if let Some(docker) = self.docker.as_ref().filter(|docker| docker.answers()) {
            // In the order of the kinds: a volume goes after the container that uses it.
            for object in self.objects() {
                docker.remove(&object);
            }
        }
        for folder in self.shared_folders() {
            let _ = std::fs::remove_dir_all(folder);
        }
    }

    fn processes(&self) -> Vec<processes::Seen> {
        let mut seen: Vec<_> = self.marks.iter().flat_map(|mark| processes::mentioning(mark)).collect();
        seen.sort();
        seen.dedup();
        seen
    }

    fn objects(&self) -> Vec<Object> {
        let Some(docker) = &self.docker else { return Vec::new() };
        let now = docker.objects();
        let new = now.difference(&self.objects);
        new.filter(|object| self.marks.iter().any(|mark| docker.mentions(object, mark))).cloned().collect()
    }

    /// `/var/tmp/rouse-<the first letters of the installation>-…`
    fn shared_folders(&self) -> Vec<PathBuf> {
        let new: Vec<PathBuf> = entries(Path::new(SHARED)).difference(&self.shared).cloned().collect();
        let ours = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.marks.iter().any(|mark| {
                let short: String = mark.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
                name.starts_with("rouse-") && name.contains(&short.to_ascii_lowercase())
            })
        };
        new.into_iter().filter(ours).collect()
    }
}

fn await_none(patience: Duration, left: impl Fn() -> Vec<String>) {
    let start = Instant::now();
    loop {
        let now = left();
        if now.is_empty() {
            return;
        }
        assert!(start.elapsed() < patience, "left over after {} s:\n{}", patience.as_secs(), now.join("\n"));
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn entries(folder: &Path) -> BTreeSet<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Files and sockets at any depth; links are not followed.
fn files_below(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for path in entries(folder) {
        if path.symlink_metadata().is_ok_and(|file| file.is_dir()) {
            found.extend(files_below(&path));
        } else {
            found.insert(path);
        }
    }
    found
}
