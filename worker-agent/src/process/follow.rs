//! Files that a command writes, each read into a stream of its own while it grows, as `tail -F` does.
//!
//! What stood in a file before the command began is not read. Where a file was replaced, is shorter, or has other bytes than those that were
//! read last, it was written anew and is read from its beginning. Files alone are read, and through no symbolic link.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rouse_agent_protocol::masking::{Masker, Masks};
use rouse_agent_protocol::{FileLog, MAX_LOG_BYTES, StreamEnd, StreamId};

use super::output::Output;
use crate::control::Control;
use crate::paths::{Root, components};

/// Between two looks at the files.
const LOOK: Duration = Duration::from_millis(250);

/// So many bytes before the place where reading stopped tell whether the file is still the one that was read.
const KNOWN: usize = 1024;

/// Reads of one file in one look: the command's own output has its turn, too.
const READS: usize = 4;

#[derive(Debug)]
pub struct Files {
    root: Option<Root>,
    files: Vec<Followed>,
    next: Instant,
}

impl Files {
    /// As they stand before the command begins.
    pub fn new(work_dir: &Path, logs: &[FileLog], masks: &Masks) -> io::Result<Self> {
        let root = if logs.is_empty() { None } else { Some(Root::open(work_dir)?) };
        let begin = |root: &Root| logs.iter().map(|log| Followed::new(root, log, masks)).collect();
        let files = root.as_ref().map(begin).unwrap_or_default();
        Ok(Self { root, files, next: Instant::now() + LOOK })
    }

    /// When they are to be looked at again, if there are any.
    pub fn next(&self) -> Option<Instant> {
        self.root.as_ref().map(|_| self.next)
    }

    /// Read what is new, as far as there is room. Says whether bytes came, and [`Files::next`] when more may be there.
    pub fn look(&mut self, output: &mut Output<'_>, control: &Control) -> bool {
        let Some(root) = &self.root else { return false };
        let (mut bytes, mut more) = (false, false);
        for file in &mut self.files {
            let before = file.sent;
            more |= file.look(root, output, control);
            bytes |= file.sent > before;
        }
        self.next = if more { Instant::now() } else { Instant::now() + LOOK };
        bytes
    }

    /// Nothing writes them any more, and all was read. What there is to say of each.
    pub fn finish(self, output: &mut Output<'_>) -> Vec<StreamEnd> {
        let end = |mut file: Followed| {
            output.finish_file(file.stream, &mut file.masker);
            StreamEnd { stream: file.stream, to: 0, note: file.note() }
        };
        self.files.into_iter().map(end).collect()
    }
}

#[derive(Debug)]
struct Followed {
    path: String,
    stream: StreamId,
    masker: Masker,
    /// The file that is read: its name may belong to another one by now.
    file: Option<File>,
    /// How far it was read, and the last bytes before that place.
    at: u64,
    known: Vec<u8>,
    /// Its length and the moment of its change when it was read to its end.
    seen: Option<(u64, i64, i64)>,
    /// It stands as it did before the command began.
    old: bool,
    /// Bytes of all that were read under this name.
    sent: u64,
    /// How often what had been read was written anew.
    anew: u32,
    /// Why there is nothing to read.
    trouble: Option<String>,
}

fn stamp(metadata: &Metadata) -> (u64, i64, i64) {
    (metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

impl Followed {
    fn new(root: &Root, log: &FileLog, masks: &Masks) -> Self {
        let mut this = Self {
            path: log.path.clone(),
            stream: log.stream,
            masker: Masker::new(masks.clone()),
            file: None,
            at: 0,
            known: Vec::new(),
            seen: None,
            old: false,
            sent: 0,
            anew: 0,
            trouble: None,
        };
        // What cannot be read now is looked at again once the command runs.
        if let Ok(Some(file)) = this.open(root)
            && let Ok(metadata) = file.metadata()
        {
            let length = metadata.len();
            let before = length.min(KNOWN as u64);
            let mut known = vec![0; before as usize];
            if file.read_exact_at(&mut known, length - before).is_ok() {
                (this.at, this.known, this.seen, this.old) = (length, known, Some(stamp(&metadata)), true);
            }
            this.file = Some(file);
        }
        this
    }

    fn open(&self, root: &Root) -> io::Result<Option<File>> {
        let parts =
            components(self.path.as_bytes()).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        root.open_file(&parts)
    }

    /// Whether more is there.
    fn look(&mut self, root: &Root, output: &mut Output<'_>, control: &Control) -> bool {
        if self.sent >= MAX_LOG_BYTES {
            return false;
        }
        let found = self.open(root);
        self.trouble = match &found {
            Ok(Some(_)) => None,
            Ok(None) => Some("it is not a file".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(error.to_string()),
        };
        // One that has lost its name to another is read to its end first.
        let mut more = self.read(output, control);
        if let (Ok(Some(file)), false) = (found, more)
            && !self.is(&file)
        {
            if self.file.replace(file).is_some() {
                self.begin_anew();
            }
            more = self.read(output, control);
        }
        more
    }

    fn is(&self, file: &File) -> bool {
        let place = |file: &File| file.metadata().map(|m| (m.dev(), m.ino())).ok();
        self.file.as_ref().and_then(place).is_some_and(|own| place(file) == Some(own))
    }

    fn begin_anew(&mut self) {
        self.anew += u32::from(!self.old && self.at > 0);
        (self.at, self.seen, self.old) = (0, None, false);
        self.known.clear();
    }

    /// Whether more is there.
    fn read(&mut self, output: &mut Output<'_>, control: &Control) -> bool {
        let Some(Ok(metadata)) = self.file.as_ref().map(File::metadata) else { return false };
        let now = stamp(&metadata);
        if self.seen == Some(now) {
            return false;
        }
        // A change that leaves the length as it was before the command is no addition.
        if now.0 < self.at || (self.old && now.0 == self.at) || !self.is_known() {
            self.begin_anew();
        }
        self.old = false;
        let Some(file) = &self.file else { return false };
        for _ in 0..READS {
            if !output.has_room(control) {
                return true;
            }
            match output.read_file(file, self.at, self.stream, &mut self.masker) {
                Ok([]) | Err(_) => {
                    self.seen = Some(now);
                    return false;
                }
                Ok(bytes) => {
                    self.at += bytes.len() as u64;
                    self.sent += bytes.len() as u64;
                    self.known.extend_from_slice(&bytes[bytes.len().saturating_sub(KNOWN)..]);
                    self.known.drain(..self.known.len().saturating_sub(KNOWN));
                }
            }
            if self.sent >= MAX_LOG_BYTES {
                return false;
            }
        }
        true
    }

    /// Whether the bytes before the place where reading stopped are those that were read.
    fn is_known(&self) -> bool {
        let Some(file) = &self.file else { return false };
        let mut there = vec![0; self.known.len()];
        let from = self.at - there.len() as u64;
        file.read_exact_at(&mut there, from).is_ok() && there == self.known
    }

    fn note(self) -> Option<String> {
        if self.sent >= MAX_LOG_BYTES {
            return Some(format!("only its first {MAX_LOG_BYTES} bytes were read"));
        }
        if let Some(trouble) = self.trouble {
            return Some(format!("`{}` cannot be read: {trouble}", self.path));
        }
        match (&self.file, self.old, self.anew) {
            (None, ..) => Some(format!("no file was ever at `{}`", self.path)),
            (Some(_), true, _) => {
                Some("nothing was written to the file; what it had before is left out".to_owned())
            }
            (Some(_), false, 0) => None,
            (Some(_), false, 1) => Some("the file was written anew while it was read".to_owned()),
            (Some(_), false, times) => {
                Some(format!("the file was written anew {times} times while it was read"))
            }
        }
    }
}
