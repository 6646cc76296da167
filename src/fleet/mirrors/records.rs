//! Which mirrors this master has on which hosts: a file of its state folder. Where it is lost, the mirrors are put up anew.

use rouse_model::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Mutex;

/// One codebase's mirror on one account's host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub shelf: String,
    /// The shelf's word, by which another one under its name is told.
    pub made: String,
    /// Where the codebase was.
    pub url: String,
    /// What is there, with all that led to it.
    pub tips: Vec<String>,
    pub layers: u32,
    /// Bytes of the first layer, and of the others.
    pub base: u64,
    pub more: u64,
    pub used: Timestamp,
}

type All = BTreeMap<String, BTreeMap<String, Record>>;

#[derive(Debug)]
pub(super) struct Records {
    file: PathBuf,
    all: Mutex<All>,
}

impl Records {
    pub(super) fn at(file: PathBuf) -> Self {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let all = serde_json::from_str(&text).unwrap_or_default();
        Self { file, all: Mutex::new(all) }
    }

    pub(super) fn get(&self, account: &str, codebase: &str) -> Option<Record> {
        self.with(|all| all.get(account)?.get(codebase).cloned())
    }

    pub(super) fn all(&self) -> Vec<(String, String, Record)> {
        let of = |(account, records): (&String, &BTreeMap<String, Record>)| {
            let account = account.clone();
            let each =
                records.iter().map(move |(name, record)| (account.clone(), name.clone(), record.clone()));
            each.collect::<Vec<_>>()
        };
        self.with(|all| all.iter().flat_map(of).collect())
    }

    pub(super) fn shelves(&self, account: &str) -> Vec<String> {
        self.with(|all| {
            let records = all.get(account).into_iter().flat_map(BTreeMap::values);
            records.map(|record| record.shelf.clone()).collect()
        })
    }

    pub(super) fn put(&self, account: &str, codebase: &str, record: Record) -> io::Result<()> {
        self.change(|all| {
            all.entry(account.to_owned()).or_default().insert(codebase.to_owned(), record);
        })
    }

    pub(super) fn forget(&self, account: &str, codebase: &str) -> io::Result<()> {
        self.change(|all| {
            all.get_mut(account).and_then(|records| records.remove(codebase));
        })
    }

    /// On file with the next change: whether a mirror was used today or yesterday decides nothing.
    pub(super) fn used(&self, account: &str, codebase: &str, now: Timestamp) {
        self.with(|all| {
            if let Some(record) = all.get_mut(account).and_then(|records| records.get_mut(codebase)) {
                record.used = now;
            }
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut All) -> T) -> T {
        act(&mut self.all.lock().expect("nothing panics while it is held"))
    }

    fn change(&self, act: impl FnOnce(&mut All)) -> io::Result<()> {
        self.with(|all| {
            act(all);
            let text = serde_json::to_string(all).map_err(io::Error::other)?;
            let half = self.file.with_extension("new");
            // What repositories there are is not for every worker of this machine to read.
            let mut file = std::fs::OpenOptions::new();
            file.write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&half)?
                .write_all(text.as_bytes())?;
            std::fs::rename(half, &self.file)
        })
    }
}
