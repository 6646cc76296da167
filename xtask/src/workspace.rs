//! What cargo knows about the workspace: where it lies, its packages, and what they depend on.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::{self, Interrupt};

pub struct Workspace {
    pub root: PathBuf,
    /// Where cargo builds; may lie outside the clone.
    pub target: PathBuf,
    pub packages: Vec<Package>,
    cargo: OsString,
}

/// A package of ours.
pub struct Package {
    pub name: String,
    pub dependencies: Vec<Dependency>,
}

pub struct Dependency {
    pub name: String,
    /// Used by tests alone.
    pub dev: bool,
    /// Another package of the workspace.
    pub ours: bool,
}

impl Workspace {
    pub fn load() -> Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let metadata = metadata(&cargo, &["--no-deps"])?;
        let path = |key: &str| -> Result<PathBuf> {
            Ok(metadata[key].as_str().with_context(|| format!("cargo metadata has no {key}"))?.into())
        };
        let packages = array(&metadata["packages"]).map(Package::read).collect::<Result<_>>()?;
        Ok(Self { root: path("workspace_root")?, target: path("target_directory")?, packages, cargo })
    }

    /// The cargo that runs us, at the root of the workspace.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new(&self.cargo);
        command.current_dir(&self.root);
        command
    }

    /// Everything that is compiled in, third-party packages too.
    pub fn resolved(&self) -> Result<Value> {
        metadata(&self.cargo, &["--locked", "--filter-platform", &host_triple()])
    }

    /// Where `cargo build` lays the binaries that the tests and the demo use.
    pub fn binaries(&self) -> PathBuf {
        self.target.join("debug")
    }

    /// The master as the tests and the demo run it.
    pub fn master(&self) -> Command {
        let mut command = Command::new(self.binaries().join("rouse"));
        command.current_dir(&self.root);
        command
    }

    pub fn build_master(&self, interrupt: &Interrupt) -> Result<()> {
        let mut command = self.cargo();
        command.args(["build", "--quiet", "--locked", "--package", "rouse"]).stdout(std::io::stderr());
        if !process::run(&mut command, interrupt)?.success() {
            bail!("the master does not compile");
        }
        Ok(())
    }

    /// Whether the master has a verb: its help names it.
    pub fn master_knows(&self, verb: &[&str]) -> Result<bool> {
        let output =
            self.master().args(verb).arg("--help").output().context("the master could not be asked")?;
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(output.status.success() && help.contains(&format!("rouse {}", verb.join(" "))))
    }

    /// Files under version control, relative to the root; in a clone without git, all that is not built.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(&self.root)
            .output()
            .context("git could not be run")?;
        if !listed.status.success() {
            bail!("git could not list the files of {}", self.root.display());
        }
        let text = String::from_utf8(listed.stdout).context("a file's name is not UTF-8")?;
        let mut files: Vec<PathBuf> =
            text.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect();
        files.retain(|file| self.root.join(file).is_file());
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// The tracked text of one file, or `None` for a binary one.
    pub fn text(&self, file: &Path) -> Result<Option<String>> {
        let bytes = std::fs::read(self.root.join(file))
            .with_context(|| format!("{} cannot be read", file.display()))?;
        Ok(String::from_utf8(bytes).ok())
    }
}

impl Package {
    fn read(package: &Value) -> Result<Self> {
        let name = package["name"].as_str().context("a package has no name")?.to_string();
        let dependencies = array(&package["dependencies"])
            .map(|dependency| Dependency {
                name: dependency["name"].as_str().unwrap_or_default().to_string(),
                dev: dependency["kind"] == "dev",
                ours: dependency["path"].is_string(),
            })
            .collect();
        Ok(Self { name, dependencies })
    }
}

/// The elements of a JSON array; nothing where there is none.
pub fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

/// The triple that the agent is built for: the machine's own, with the C library linked in.
pub fn host_triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

fn metadata(cargo: &OsString, more: &[&str]) -> Result<Value> {
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1"])
        .args(more)
        .output()
        .context("cargo could not be run")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata is not JSON")
}
