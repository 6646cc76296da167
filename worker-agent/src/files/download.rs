//! A file or archive from the master by `GET`, going on with a range where the connection broke.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use bytes::{Buf, Bytes};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use rouse_agent_protocol::{DIRECT_HEADER, Download, FailureClass, OutcomeKind, TransferredFile, Unpack};
use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};
use sha2::{Digest, Sha256};

use super::direct;
use super::http::{Client, HttpError};
use super::unpack::{Links, UnpackError, unpack};
use crate::control::Control;
use crate::host::Host;
use crate::paths::{Root, components};
use crate::random;

pub fn download(host: &Host, control: &Control, download: &Download) -> OutcomeKind {
    match try_download(host, control, download) {
        Ok(file) => OutcomeKind::Transferred { files: vec![file] },
        Err(kind) => kind,
    }
}

fn failed(class: FailureClass, message: String) -> OutcomeKind {
    OutcomeKind::Failed { message, class }
}

fn try_download(host: &Host, control: &Control, download: &Download) -> Result<TransferredFile, OutcomeKind> {
    let to = &download.to;
    let user = |error: &dyn std::fmt::Display| failed(FailureClass::User, format!("`{to}`: {error}"));
    let parts = components(to.as_bytes()).map_err(|e| user(&e))?;
    let root = Root::open(&host.work_dir).map_err(|error| {
        failed(FailureClass::Infrastructure, format!("the work directory cannot be opened: {error}"))
    })?;
    if download.clean {
        root.remove(&parts).map_err(|e| user(&e))?;
    }
    let client = Client::new(host, control)?;
    let mut body = Fetch::new(client, download);
    let written = match download.unpack {
        Unpack::None => write_file(&root, &parts, &mut body, download),
        Unpack::Tar => root.make_dirs(&parts).map_err(UnpackError::Disk).and_then(|dir| {
            unpack(&mut body, dir, Links::Within)?;
            to_the_end(&mut body)
        }),
        Unpack::Archive => root.make_dirs(&parts).map_err(UnpackError::Disk).and_then(|dir| {
            let mut archive = zstd::Decoder::new(&mut body).map_err(UnpackError::Read)?;
            unpack(&mut archive, dir, Links::Any)?;
            to_the_end(&mut archive)?;
            drop(archive);
            to_the_end(&mut body)
        }),
    };
    if let Err(error) = written {
        // A broken body shows as a read error; what broke it is known here.
        return Err(body.failure.take().unwrap_or_else(|| match error {
            UnpackError::Refused { .. } => user(&error),
            UnpackError::Disk(source) if source.kind() == io::ErrorKind::NotADirectory => user(&source),
            other => failed(FailureClass::Infrastructure, format!("`{to}`: {other}")),
        }));
    }
    let sha256 = body.sha256();
    Ok(TransferredFile { path: to.clone(), size: body.offset, sha256 })
}

/// For the checksum.
fn to_the_end(rest: &mut impl Read) -> Result<(), UnpackError> {
    io::copy(rest, &mut io::sink()).map(drop).map_err(UnpackError::Read)
}

/// Under another name until it is whole and checked.
fn write_file(
    root: &Root,
    parts: &[&[u8]],
    body: &mut Fetch<'_>,
    download: &Download,
) -> Result<(), UnpackError> {
    let Some((name, parents)) = parts.split_last() else {
        return Err(UnpackError::Disk(io::Error::new(
            io::ErrorKind::NotADirectory,
            "is the work directory, not a file",
        )));
    };
    let dir = root.make_dirs(parents).map_err(UnpackError::Disk)?;
    let unfinished = OsString::from_vec(format!(".rouse-{}", hex::encode(random::bytes::<8>())).into_bytes());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&dir, &unfinished, flags, Mode::from_raw_mode(0o666))
        .map_err(|e| UnpackError::Disk(e.into()))?;
    let written = copy(body, File::from(file)).and_then(|()| match &download.sha256 {
        Some(wanted) if !body.sha256().eq_ignore_ascii_case(wanted) => Err(UnpackError::Checksum),
        _ => renameat(&dir, &unfinished, &dir, std::ffi::OsStr::from_bytes(name))
            .map_err(|e| UnpackError::Disk(e.into())),
    });
    if written.is_err() {
        let _ = unlinkat(&dir, &unfinished, AtFlags::empty());
    }
    written
}

fn copy(body: &mut impl Read, mut to: File) -> Result<(), UnpackError> {
    let mut piece = vec![0; 64 * 1024];
    loop {
        match body.read(&mut piece).map_err(UnpackError::Read)? {
            0 => return Ok(()),
            length => to.write_all(&piece[..length]).map_err(UnpackError::Disk)?,
        }
    }
}

/// The body as one uninterrupted sequence of bytes, whatever happens to connections.
struct Fetch<'a> {
    client: Client<'a>,
    download: &'a Download,
    body: Option<Incoming>,
    /// Bytes given out, and bytes of the present answer still to be thrown away.
    offset: u64,
    skip: u64,
    piece: Bytes,
    ended: bool,
    hasher: Sha256,
    failure: Option<OutcomeKind>,
}

impl<'a> Fetch<'a> {
    fn new(client: Client<'a>, download: &'a Download) -> Self {
        Self {
            client,
            download,
            body: None,
            offset: 0,
            skip: 0,
            piece: Bytes::new(),
            ended: false,
            hasher: Sha256::new(),
            failure: None,
        }
    }

    /// Of all that was given out.
    fn sha256(&self) -> String {
        hex::encode(self.hasher.clone().finalize())
    }

    /// Ask for the rest.
    fn ask(client: &mut Client<'_>, download: &Download, offset: u64) -> Result<(Incoming, u64), HttpError> {
        let mut request = Request::builder()
            .uri(&download.url_path)
            .header("host", "rouse")
            .header("authorization", format!("Bearer {}", download.token.reveal()));
        if offset > 0 {
            request = request.header("range", format!("bytes={offset}-"));
        }
        let may_leave = download.direct && !client.avoids_store;
        if may_leave {
            request = request.header(DIRECT_HEADER, "1");
        }
        let body = client.file_body(None, 0);
        let request = request.body(body).map_err(|error| {
            HttpError::Final(
                format!("the transfer cannot be asked for: {error}"),
                FailureClass::Infrastructure,
            )
        })?;
        let mut response = client.exchange(request)?;
        if response.status() == StatusCode::TEMPORARY_REDIRECT {
            response = match direct::follow(client, download, &response, offset)? {
                Some(found) => found,
                // Once more, without the header.
                None if may_leave => return Self::ask(client, download, offset),
                None => {
                    let why = "the master sends this agent elsewhere, which has not asked for it";
                    return Err(HttpError::Final(why.into(), FailureClass::Infrastructure));
                }
            };
        }
        // A master that does not do ranges sends it all again.
        let skip = if response.status() == StatusCode::PARTIAL_CONTENT { 0 } else { offset };
        Ok((response.into_body(), skip))
    }

    fn next_piece(&mut self) -> Result<Option<Bytes>, OutcomeKind> {
        let Self { client, download, body, offset, skip, .. } = self;
        client.persist(|client| {
            let (mut open, mut left) = match body.take() {
                Some(open) => (open, *skip),
                None => Self::ask(client, download, *offset)?,
            };
            loop {
                let Some(mut bytes) = client.chunk(&mut open)? else { return Ok(None) };
                let unwanted = left.min(bytes.len() as u64);
                bytes.advance(unwanted as usize);
                left -= unwanted;
                if !bytes.is_empty() {
                    (*body, *skip) = (Some(open), left);
                    return Ok(Some(bytes));
                }
            }
        })
    }
}

impl Read for Fetch<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() && !self.ended {
            match self.next_piece() {
                Ok(Some(bytes)) => self.piece = bytes,
                Ok(None) => {
                    self.ended = true;
                    if let Some(wanted) = &self.download.sha256
                        && !self.sha256().eq_ignore_ascii_case(wanted)
                    {
                        self.failure =
                            Some(failed(FailureClass::Infrastructure, UnpackError::Checksum.to_string()));
                        return Err(io::Error::other("checksum"));
                    }
                }
                Err(kind) => {
                    self.failure = Some(kind);
                    return Err(io::Error::other("transfer"));
                }
            }
        }
        let length = self.piece.len().min(into.len());
        into[..length].copy_from_slice(&self.piece[..length]);
        self.hasher.update(&self.piece[..length]);
        self.piece.advance(length);
        self.offset += length as u64;
        Ok(length)
    }
}
