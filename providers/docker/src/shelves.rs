//! Files that workers read, in a volume of the daemon's host for each shelf. They come as an archive into a container that has the volume and is never
//! started: so nothing on the host runs to put them there, and a daemon elsewhere takes them as well as one here. Workers have the volume
//! read-only, and the daemon removes none that a container has.

use crate::container;
use crate::daemon::Daemon;
use crate::failure::{Doing, Failed};
use crate::labels::{Owner, Part, is_part};
use async_trait::async_trait;
use bollard::models::{ContainerCreateBody, HostConfig, Mount, VolumeCreateRequest};
use bollard::query_parameters::{
    ListVolumesOptions, RemoveContainerOptions, RemoveVolumeOptions, UploadToContainerOptions,
};
use bytes::Bytes;
use futures::stream;
use rouse_contract::shelf::{SHELVES, WHOLE, files_of};
use rouse_contract::{ProviderError, Shelf, Shelves};
use rouse_model::failure::FailureClass;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Where the volume is in the container that takes the files.
const OUT: &str = "/out";
/// The layer for which a volume was made. When it was made the daemon cannot say: it tells when its folder was last changed.
const FIRST: &str = "rouse.layer";
/// Pieces of an archive on their way.
const PIECES: usize = 8;
const PIECE: usize = 256 << 10;

#[derive(Debug)]
pub(crate) struct DockerShelves {
    daemon: Daemon,
    owner: Owner,
}

/// A shelf among the mounts of a worker. One that is gone meanwhile is made by the daemon, empty.
pub(crate) fn mount(owner: &Owner, shelf: &Shelf) -> Mount {
    let target = format!("{}/{SHELVES}/{}", container::INSIDE, shelf.at);
    let mount = container::volume(Some(volume(owner, &shelf.name)), &target);
    Mount { read_only: Some(true), ..container::with_labels(mount, owner.of_part(Part::Shelf)) }
}

fn volume(owner: &Owner, shelf: &str) -> String {
    format!("rouse-shelf-{}-{shelf}", owner.short)
}

impl DockerShelves {
    pub(crate) fn new(daemon: Daemon, owner: Owner) -> Self {
        Self { daemon, owner }
    }

    async fn made(&self, shelf: &str) -> Result<Option<String>, Failed> {
        match self.daemon.api().await?.inspect_volume(&volume(&self.owner, shelf)).await.map_err(Failed::from)
        {
            Ok(found) if self.owner.owns(&found.labels) => {
                Ok(Some(found.labels.get(FIRST).cloned().unwrap_or_default()))
            }
            Ok(_) => Err(Failed::said(FailureClass::Offering, "somebody else has a volume of its name")),
            Err(failed) if failed.is_absent() => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    async fn fill(&self, shelf: &str, layer: &str, folder: &Path) -> Result<String, Failed> {
        let name = volume(&self.owner, shelf);
        let mut labels = self.owner.of_part(Part::Shelf);
        labels.insert(FIRST.to_owned(), layer.to_owned());
        let request =
            VolumeCreateRequest { name: Some(name.clone()), labels: Some(labels), ..Default::default() };
        let api = self.daemon.api().await?;
        api.create_volume(request).await?;
        let image = self.image(shelf).await?;
        let container = api.create_container(None, self.taker(image.clone(), name)).await?.id;
        let options = UploadToContainerOptions { path: OUT.into(), ..Default::default() };
        let body = bollard::body_try_stream(archive(layer.to_owned(), folder.to_owned()));
        let put = api.upload_to_container(&container, Some(options), body).await;
        let options = RemoveContainerOptions { force: true, ..Default::default() };
        // What is left of it is listed, and removed as all that is listed.
        let removed = api.remove_container(&container, Some(options)).await;
        let image_removed = self.daemon.remove_image(&image).await;
        put?;
        removed?;
        image_removed.map_err(|error| Failed::said(error.class, error.to_string()))?;
        Ok(self.made(shelf).await?.unwrap_or_default())
    }

    /// A container needs an image also where nothing of it is ever used: one of our own, so that nobody else's is held.
    async fn image(&self, shelf: &str) -> Result<String, Failed> {
        let image = format!("{}:taker", volume(&self.owner, shelf));
        let labels = self.owner.of_part(Part::Installer);
        let changes = labels.iter().map(|(name, value)| format!("LABEL {name}={value:?}")).collect();
        let tar = nothing().map_err(|error| Failed::said(FailureClass::Master, error.to_string()))?;
        self.daemon.import(&image, tar, changes).await?;
        Ok(image)
    }

    fn taker(&self, image: String, volume: String) -> ContainerCreateBody {
        ContainerCreateBody {
            image: Some(image),
            entrypoint: Some(vec!["/never-started".to_owned()]),
            labels: Some(self.owner.of_part(Part::Shelf)),
            host_config: Some(HostConfig {
                mounts: Some(vec![container::volume(Some(volume), OUT)]),
                network_mode: Some("none".into()),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    async fn clear(&self, prefix: &str, kept: &[String]) -> Result<(), Failed> {
        let api = self.daemon.api().await?;
        let ours = self.owner.filter();
        let options = ListVolumesOptions { filters: Some(ours.asked()) };
        let found = api.list_volumes(Some(options)).await?.volumes.unwrap_or_default();
        let prefix = volume(&self.owner, prefix);
        let kept: Vec<String> = kept.iter().map(|shelf| volume(&self.owner, shelf)).collect();
        for found in found {
            if !ours.fits(&found.labels)
                || !is_part(&found.labels, Part::Shelf)
                || !found.name.starts_with(&prefix)
                || kept.contains(&found.name)
            {
                continue;
            }
            match api.remove_volume(&found.name, None::<RemoveVolumeOptions>).await.map_err(Failed::from) {
                Err(failed) if !failed.is_absent() && !failed.is_conflict() => return Err(failed),
                // A worker has it: another time.
                _ => {}
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Shelves for DockerShelves {
    async fn there(&self, shelf: &str) -> Result<Option<String>, ProviderError> {
        self.made(shelf).await.doing(|| format!("look for the volume of {shelf}"))
    }

    async fn put(&self, shelf: &str, layer: &str, folder: &Path) -> Result<String, ProviderError> {
        self.fill(shelf, layer, folder).await.doing(|| format!("put files into the volume of {shelf}"))
    }

    async fn keep(&self, prefix: &str, shelves: &[String]) -> Result<(), ProviderError> {
        self.clear(prefix, shelves).await.doing(|| "remove volumes that nobody needs any more".to_owned())
    }
}

/// An image cannot hold nothing.
fn nothing() -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o444);
    tar.append_data(&mut header, "nothing", io::empty())?;
    tar.into_inner()
}

/// The files of a layer as a tar, made as it is read.
fn archive(layer: String, folder: PathBuf) -> impl futures::Stream<Item = Result<Bytes, io::Error>> + Send {
    let (pieces, from) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let to = io::BufWriter::with_capacity(PIECE, Pieces(pieces.clone()));
        if let Err(error) = write(to, &layer, &folder) {
            // Where nobody reads any more nobody wants to know.
            let _ = pieces.blocking_send(Err(error));
        }
    });
    stream::unfold(from, |mut from| async move { from.recv().await.map(|piece| (piece, from)) })
}

struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(to: impl Write, layer: &str, folder: &Path) -> io::Result<()> {
    let mut tar = tar::Builder::new(to);
    let mut folders = std::collections::BTreeSet::from([layer.to_owned()]);
    let mut files = files_of(folder)?;
    files.push((WHOLE.to_owned(), folder.join(WHOLE)));
    for (name, _) in &files {
        let above = Path::new(name).ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
        folders.extend(above.map(|above| format!("{layer}/{}", above.display())));
    }
    for name in folders {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        tar.append_data(&mut header, format!("{name}/"), io::empty())?;
    }
    for (name, path) in files {
        let file = std::fs::File::open(path)?;
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o444);
        header.set_size(file.metadata()?.len());
        tar.append_data(&mut header, format!("{layer}/{name}"), file)?;
    }
    tar.into_inner()?.flush()
}
