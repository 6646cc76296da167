//! Files to the master, each with one `PUT`. An interrupted one goes on where the master has it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use hyper::{Method, Request};
use rouse_agent_protocol::{
    FailureClass, MAX_NAME_BYTES, MAX_UPLOAD_FILES, OutcomeKind, Pack, RECEIVED_HEADER, SHA256_HEADER,
    TransferredFile, Upload,
};
use sha2::{Digest, Sha256};

use super::direct;
use super::http::{Client, HttpError, escape_path};
use super::pack::pack;
use crate::control::Control;
use crate::host::Host;
use crate::paths::{Glob, Kind, Root, components};
use crate::random;

/// The relative paths that the master will see, each with where the file really is: its parts below the work directory.
type Files = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

pub fn upload(host: &Host, control: &Control, upload: &Upload) -> OutcomeKind {
    match try_upload(host, control, upload) {
        Ok(files) => OutcomeKind::Transferred { files },
        Err(kind) => kind,
    }
}

fn user(message: String) -> OutcomeKind {
    OutcomeKind::Failed { message, class: FailureClass::User }
}

fn try_upload(host: &Host, control: &Control, upload: &Upload) -> Result<Vec<TransferredFile>, OutcomeKind> {
    let root = Root::open(&host.work_dir).map_err(|error| OutcomeKind::Failed {
        message: format!("the work directory cannot be opened: {error}"),
        class: FailureClass::Infrastructure,
    })?;
    if let Some(pack) = &upload.pack {
        return upload_archive(host, control, upload, &root, pack);
    }
    let files = collect(&root, &host.work_dir, upload).map_err(user)?;
    if files.len() > MAX_UPLOAD_FILES {
        return Err(user(format!(
            "{} files are more than the {MAX_UPLOAD_FILES} that one upload may have",
            files.len()
        )));
    }
    if files.keys().map(Vec::len).sum::<usize>() > MAX_NAME_BYTES {
        return Err(user(format!("the names of the files are longer than {MAX_NAME_BYTES} bytes together")));
    }
    let mut client = Client::new(host, control)?;
    let (mut done, mut total) = (Vec::new(), 0);
    for (name, parts) in &files {
        let shown = String::from_utf8_lossy(name).into_owned();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let unreadable = |error: io::Error| user(format!("`{shown}` cannot be read: {error}"));
        let (mut file, size, sha256) = match root.open_file(&parts).map_err(unreadable)? {
            Some(file) => hash(file, upload.max_bytes - total).map_err(unreadable)?,
            None => continue,
        };
        total += size;
        if total > upload.max_bytes {
            return Err(user(format!(
                "the files are more than {} bytes, which is what may be uploaded",
                upload.max_bytes
            )));
        }
        send(&mut client, upload, name, &mut file, size, &sha256)?;
        done.push(TransferredFile { path: shown, size, sha256 });
    }
    Ok(done)
}

fn send(
    client: &mut Client<'_>,
    upload: &Upload,
    name: &[u8],
    file: &mut File,
    size: u64,
    sha256: &str,
) -> Result<(), OutcomeKind> {
    let url = format!("{}/{}", upload.url_path.trim_end_matches('/'), escape_path(name));
    if direct::put(client, upload, &url, file, size, sha256)? {
        return Ok(());
    }
    put(client, upload, &url, file, size, sha256)
}

/// A directory as one file, which is nowhere but here.
fn upload_archive(
    host: &Host,
    control: &Control,
    upload: &Upload,
    root: &Root,
    how: &Pack,
) -> Result<Vec<TransferredFile>, OutcomeKind> {
    let base = &upload.base_dir;
    let parts = components(base.as_bytes()).map_err(|e| user(format!("directory `{base}`: {e}")))?;
    let name = upload.paths.first().ok_or_else(|| user("the archive has no name".to_owned()))?;
    let unpackable = |error: io::Error| match control.stop_reason() {
        Some(reason) => OutcomeKind::Stopped { reason },
        None => user(format!("`{base}` cannot be packed: {error}")),
    };
    let go_on = || control.stop_reason().is_none();
    let word = format!("archive-{}", hex::encode(random::bytes::<8>()));
    let mut archive = host.private.nameless_file(&word).map_err(|error| OutcomeKind::Failed {
        message: format!("there is no place for an archive: {error}"),
        class: FailureClass::Infrastructure,
    })?;
    if !pack(root, &parts, &mut archive, upload.max_bytes, &go_on).map_err(unpackable)? {
        return Ok(Vec::new());
    }
    let (mut archive, size, sha256) = hash(archive, u64::MAX).map_err(unpackable)?;
    if how.known.as_deref() != Some(sha256.as_str()) {
        send(&mut Client::new(host, control)?, upload, name.as_bytes(), &mut archive, size, &sha256)?;
    }
    Ok(vec![TransferredFile { path: name.clone(), size, sha256 }])
}

/// Stops one byte past `most`: that is enough to know.
fn hash(mut file: File, most: u64) -> io::Result<(File, u64, String)> {
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 128 * 1024];
    let mut size = 0;
    let mut limited = (&mut file).take(most.saturating_add(1));
    loop {
        match limited.read(&mut piece)? {
            0 => break,
            length => {
                hasher.update(&piece[..length]);
                size += length as u64;
            }
        }
    }
    Ok((file, size, hex::encode(hasher.finalize())))
}

fn put(
    client: &mut Client<'_>,
    upload: &Upload,
    url: &str,
    file: &mut File,
    size: u64,
    sha256: &str,
) -> Result<(), OutcomeKind> {
    let mut first = true;
    client.persist(|client| {
        let from = if std::mem::take(&mut first) { 0 } else { received(client, upload, url)?.min(size) };
        let local = |error: io::Error| {
            HttpError::Final(format!("read the file again: {error}"), FailureClass::Infrastructure)
        };
        file.seek(SeekFrom::Start(from)).map_err(local)?;
        let body = client.file_body(Some(file.try_clone().map_err(local)?), size - from);
        let mut request = request(Method::PUT, upload, url)
            .header(SHA256_HEADER, sha256)
            .header("content-length", size - from);
        if from > 0 {
            let range = if from < size { format!("{from}-{}", size - 1) } else { "*".to_owned() };
            request = request.header("content-range", format!("bytes {range}/{size}"));
        }
        client.exchange(request.body(body).map_err(odd)?)?;
        Ok(())
    })
}

/// How much the master has of a `PUT` that broke.
fn received(client: &mut Client<'_>, upload: &Upload, url: &str) -> Result<u64, HttpError> {
    let body = client.file_body(None, 0);
    match client.exchange(request(Method::HEAD, upload, url).body(body).map_err(odd)?) {
        Ok(response) => {
            let header = response.headers().get(RECEIVED_HEADER);
            Ok(header.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0))
        }
        // It does not know of it, or does not do this.
        Err(HttpError::Final(..)) => Ok(0),
        Err(error) => Err(error),
    }
}

pub(super) fn request(method: Method, upload: &Upload, url: &str) -> hyper::http::request::Builder {
    Request::builder()
        .method(method)
        .uri(url)
        .header("host", "rouse")
        .header("authorization", format!("Bearer {}", upload.token.reveal()))
}

/// A URL or token that no request can hold.
pub(super) fn odd(error: hyper::http::Error) -> HttpError {
    HttpError::Final(format!("the transfer cannot be asked for: {error}"), FailureClass::Infrastructure)
}

/// Everything that the paths and globs mean.
fn collect(root: &Root, work_dir: &Path, upload: &Upload) -> Result<Files, String> {
    let base = components(upload.base_dir.as_bytes())
        .map_err(|e| format!("directory `{}`: {e}", upload.base_dir))?;
    let mut files = Files::new();
    for pattern in &upload.paths {
        let before = files.len();
        collect_one(root, work_dir, &base, pattern, &mut files)
            .map_err(|error| format!("`{pattern}`: {error}"))?;
        if files.len() == before && !upload.optional && !any_known(&files, pattern) {
            return Err(format!("`{pattern}` matches no file"));
        }
    }
    Ok(files)
}

/// Did an earlier pattern bring what this one matches?
fn any_known(files: &Files, pattern: &str) -> bool {
    Glob::new(pattern).is_ok_and(|glob| files.keys().any(|name| glob.matches(name)))
}

fn collect_one(
    root: &Root,
    work_dir: &Path,
    base: &[&[u8]],
    pattern: &str,
    files: &mut Files,
) -> io::Result<()> {
    let invalid =
        |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidInput, error.to_string());
    let plain = Glob::is_plain(pattern);
    let own = if plain { components(pattern.as_bytes()).map_err(|e| invalid(&e))? } else { Vec::new() };
    let glob = Glob::new(pattern).map_err(|e| invalid(&e))?;
    let start: Vec<&[u8]> = base.iter().chain(&own).copied().collect();
    let prefix = own.join(b"/".as_slice());
    // Once a directory matches, all files below it do.
    let mut within: Option<Vec<u8>> = None;
    root.visit(&start, &mut |visit| {
        let name = join(&prefix, visit.path);
        let inherited = within.as_ref().is_some_and(|dir| below(dir, &name));
        let matched = plain || inherited || glob.matches(&name);
        match visit.kind {
            Kind::Directory if matched && !inherited => within = Some(name.clone()),
            Kind::File if matched => {
                files.insert(
                    name.clone(),
                    base.iter().copied().map(<[u8]>::to_vec).chain(split(&name)).collect(),
                );
            }
            Kind::Link if matched => {
                if let Some(parts) = resolve(work_dir, base, &name)? {
                    files.insert(name.clone(), parts);
                }
            }
            _ => {}
        }
        Ok(matched || glob.may_match_below(&name))
    })
}

/// A link to a file below the work directory means that file. One that leads out is refused; to a directory or nowhere, it is skipped.
fn resolve(work_dir: &Path, base: &[&[u8]], name: &[u8]) -> io::Result<Option<Vec<Vec<u8>>>> {
    let mut path = work_dir.to_owned();
    path.extend(base.iter().map(|part| std::ffi::OsStr::from_bytes(part)));
    path.push(std::ffi::OsStr::from_bytes(name));
    let Ok(target) = fs::canonicalize(&path) else { return Ok(None) };
    let Ok(relative) = target.strip_prefix(work_dir) else {
        let message =
            format!("`{}` is a link that leads out of the work directory", String::from_utf8_lossy(name));
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    };
    Ok(target.is_file().then(|| split(relative.as_os_str().as_bytes()).collect()))
}

fn join(prefix: &[u8], name: &[u8]) -> Vec<u8> {
    match (prefix, name) {
        (b"", name) => name.to_vec(),
        (prefix, b"") => prefix.to_vec(),
        (prefix, name) => [prefix, b"/", name].concat(),
    }
}

fn split(path: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    path.split(|b| *b == b'/').filter(|part| !part.is_empty()).map(<[u8]>::to_vec)
}

fn below(dir: &[u8], name: &[u8]) -> bool {
    dir.is_empty() || name.strip_prefix(dir).is_some_and(|rest| rest.first() == Some(&b'/'))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(dir: &Path, base: &str, paths: &[&str]) -> Result<Vec<String>, String> {
        let upload = Upload {
            paths: paths.iter().map(|p| (*p).to_owned()).collect(),
            base_dir: base.to_owned(),
            url_path: String::new(),
            token: "".into(),
            max_bytes: 0,
            optional: false,
            direct: false,
            pack: None,
        };
        let dir = fs::canonicalize(dir).unwrap();
        let files = collect(&Root::open(&dir).unwrap(), &dir, &upload)?;
        Ok(files.into_keys().map(|name| String::from_utf8(name).unwrap()).collect())
    }

    #[test]
    fn paths_directories_and_globs() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["dist/a.deb", "dist/b.txt", "dist/sub/c.deb", "report.xml"] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        symlink("a.deb", dir.path().join("dist/latest")).unwrap();
        symlink("sub", dir.path().join("dist/loop")).unwrap();
        let names = |base, paths: &[&str]| names(dir.path(), base, paths);
        assert_eq!(names("", &["report.xml"]).unwrap(), ["report.xml"]);
        assert_eq!(names("dist", &["**/*.deb"]).unwrap(), ["a.deb", "sub/c.deb"]);
        assert_eq!(
            names("", &["dist"]).unwrap(),
            ["dist/a.deb", "dist/b.txt", "dist/latest", "dist/sub/c.deb"]
        );
        assert_eq!(names("", &["d*"]).unwrap(), names("", &["dist"]).unwrap());
        assert_eq!(names("dist", &["*"]).unwrap(), ["a.deb", "b.txt", "latest", "sub/c.deb"]);
        assert_eq!(names("", &["dist/*.txt", "dist/b.txt", "dist/b*"]).unwrap(), ["dist/b.txt"]);
        assert!(names("", &["none/*"]).unwrap_err().contains("matches no file"));
        assert!(names("", &["../x"]).unwrap_err().contains(".."));
        assert!(names("../x", &["*"]).is_err());
    }

    #[test]
    fn links_that_lead_out_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/etc/passwd", dir.path().join("secrets")).unwrap();
        symlink("/etc", dir.path().join("etc")).unwrap();
        assert!(names(dir.path(), "", &["secrets"]).unwrap_err().contains("leads out"));
        assert!(names(dir.path(), "", &["etc/passwd"]).is_err());
        assert!(names(dir.path(), "etc", &["passwd"]).is_err());
    }
}
