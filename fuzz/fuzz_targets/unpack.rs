//! Archives, which a worker unpacks: nothing of them leaves the folder.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rouse_agent_parsers::unpack::{Links, unpack};
use std::fs::{File, create_dir, read_dir};

fuzz_target!(|data: &[u8]| {
    // In memory where that can be: a run makes thousands of folders.
    let memory = std::path::Path::new("/dev/shm");
    let outer = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let outer = outer.expect("a folder");
    let inner = outer.path().join("inner");
    create_dir(&inner).expect("a folder");
    let folder = File::open(&inner).expect("it is there");
    let _ = unpack(&mut &data[..], folder.into(), Links::Within);
    let beside: Vec<_> =
        read_dir(outer.path()).expect("it is there").flatten().map(|e| e.file_name()).collect();
    assert_eq!(beside, ["inner"]);
});
