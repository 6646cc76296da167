//! Images that we pulled, and the end of those that have not been used for longest once they are more than a host is to keep.
//!
//! What we pulled is on record where it lies: a tag of ours, `rouse-pulled/INSTALLATION:ID`, on each image that was not there before its pull. So it
//! outlives any master and is the same for all of them. Each use sets the tag once more, by which the daemon knows when that was.

use crate::build;
use crate::daemon::Daemon;
use crate::failure::Failed;
use crate::labels::Owner;
use crate::observe;
use bollard::models::ImageInspect;
use bollard::query_parameters::{
    ListContainersOptions, ListImagesOptions, RemoveImageOptions, TagImageOptions,
};
use rouse_contract::Collected;
use std::collections::{HashMap, HashSet};

/// How the images are marked that an installation has pulled to a daemon.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    repository: String,
    /// Bytes.
    keep: u64,
}

impl Marks {
    pub(crate) fn new(owner: &Owner, keep: u64) -> Self {
        Self { repository: format!("rouse-pulled/{}", owner.mark()), keep }
    }

    /// The images that are there, before one is pulled.
    pub(crate) async fn before(&self, daemon: &Daemon) -> Result<HashSet<String>, Failed> {
        let found = observe::listed_images(daemon, ListImagesOptions::default()).await?;
        Ok(found.into_iter().map(|image| image.id).collect())
    }

    /// Notes that an image is used now. `before` is what was there before it was pulled, where it was.
    pub(crate) async fn used(
        &self,
        daemon: &Daemon,
        found: &ImageInspect,
        before: Option<&HashSet<String>>,
    ) -> Result<(), Failed> {
        let Some(id) = &found.id else { return Ok(()) };
        let new = before.is_some_and(|before| !before.contains(id));
        if !new && !names(found).any(|name| self.is_mark(name)) {
            return Ok(());
        }
        let tag = id.rsplit(':').next().unwrap_or(id).chars().take(32).collect();
        let options = TagImageOptions { repo: Some(self.repository.clone()), tag: Some(tag) };
        Ok(daemon.api().await?.tag_image(id, Some(options)).await?)
    }

    fn is_mark(&self, name: &str) -> bool {
        name.rsplit_once(':').is_some_and(|(repository, _)| repository == self.repository)
    }

    /// Removes images of ours until no more than is to be kept is there: never one that a container has or that is wanted, nor one that
    /// somebody else has given a name.
    pub(crate) async fn collect(
        &self,
        daemon: &Daemon,
        wanted: &HashSet<String>,
    ) -> Result<Vec<Collected>, Failed> {
        let api = daemon.api().await?;
        let filters = HashMap::from([("reference".to_owned(), vec![self.repository.clone()])]);
        let options = ListImagesOptions { filters: Some(filters), ..Default::default() };
        let ours = observe::listed_images(daemon, options).await?;
        let size = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
        let mut there: u64 = ours.iter().map(|image| size(image.size)).sum();
        if there <= self.keep {
            return Ok(Vec::new());
        }
        let options = ListContainersOptions { all: true, ..Default::default() };
        let containers = api.list_containers(Some(options)).await?;
        let held: HashSet<String> =
            containers.into_iter().filter_map(|container| container.image_id).collect();
        let mut candidates = Vec::new();
        for image in ours.iter().filter(|image| !held.contains(&image.id)) {
            let Some(found) = look(daemon, &image.id).await? else { continue };
            if !wanted.contains(&image.id) && !names(&found).any(|name| wanted.contains(name)) {
                candidates.push((last_used(&found), image));
            }
        }
        candidates.sort_by(|a, b| a.0.cmp(&b.0));
        let mut gone = Vec::new();
        for (used, image) in candidates {
            if there <= self.keep {
                break;
            }
            // It may have been used, or named, since.
            let Some(found) = look(daemon, &image.id).await? else { continue };
            if last_used(&found) == used
                && !self.is_named_by_others(&found)
                && self.remove(daemon, &found).await?
            {
                there = there.saturating_sub(size(image.size));
                let known_as = names(&found).filter(|name| !self.is_mark(name)).map(str::to_owned);
                let known_as = known_as.chain([image.id.clone()]).collect();
                gone.push(Collected { known_as, bytes: size(image.size) });
            }
        }
        Ok(gone)
    }

    /// What was pulled under a name has its registry's digest under that name, too; a name without one was given by somebody, or by us to what we made.
    fn is_named_by_others(&self, found: &ImageInspect) -> bool {
        let digests: HashSet<&str> = found
            .repo_digests
            .iter()
            .flatten()
            .filter_map(|digest| digest.split_once('@').map(|(repository, _)| repository))
            .collect();
        let mut tags = found.repo_tags.iter().flatten();
        tags.any(|tag| {
            !self.is_mark(tag)
                && !tag.starts_with(build::REPOSITORIES)
                && tag.rsplit_once(':').is_none_or(|(repository, _)| !digests.contains(repository))
        })
    }

    /// By its names, our own last: as long as that is there the image is on record. `false` where it stays, as somebody has begun to use it.
    async fn remove(&self, daemon: &Daemon, found: &ImageInspect) -> Result<bool, Failed> {
        let (ours, others): (Vec<&str>, Vec<&str>) = names(found).partition(|name| self.is_mark(name));
        for name in others.into_iter().chain(ours) {
            let options = RemoveImageOptions::default();
            match daemon.api().await?.remove_image(name, Some(options), None).await.map_err(Failed::from) {
                Err(failed) if failed.is_conflict() => return Ok(false),
                // With the last tag of a repository the daemon takes its digests away.
                Err(failed) if !failed.is_absent() => return Err(failed),
                _ => {}
            }
        }
        Ok(true)
    }
}

async fn look(daemon: &Daemon, id: &str) -> Result<Option<ImageInspect>, Failed> {
    match daemon.api().await?.inspect_image(id).await.map_err(Failed::from) {
        Ok(found) => Ok(Some(found)),
        Err(failed) if failed.is_absent() => Ok(None),
        Err(failed) => Err(failed),
    }
}

fn names(found: &ImageInspect) -> impl Iterator<Item = &str> {
    found.repo_tags.iter().chain(&found.repo_digests).flatten().map(String::as_str)
}

/// As the daemon writes moments; they sort as text.
fn last_used(found: &ImageInspect) -> Option<String> {
    found.metadata.as_ref().and_then(|metadata| metadata.last_tag_time.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_digest_was_given_by_somebody() {
        let marks = Marks { repository: "rouse-pulled/12".into(), keep: 0 };
        let named = |tags: &[&str]| {
            let texts = |texts: &[&str]| Some(texts.iter().map(|&text| text.to_owned()).collect());
            marks.is_named_by_others(&ImageInspect {
                repo_tags: texts(tags),
                repo_digests: texts(&["r:5000/app@sha256:aa", "debian@sha256:aa"]),
                ..Default::default()
            })
        };
        assert!(!named(&[]));
        assert!(!named(&["rouse-pulled/12:ab", "r:5000/app:1", "debian:12"]));
        assert!(!named(&["rouse-pulled/12:ab", "rouse-built/12:cd"]));
        assert!(named(&["rouse-pulled/12:ab", "mine:1"]));
        assert!(named(&["rouse-pulled/34:ab"]));
    }
}
