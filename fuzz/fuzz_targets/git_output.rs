//! What git prints of a repository that may be anybody's: refs, commits, complaints; and addresses and names that go to it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rouse_master_parsers::sources::{Commit, Limits, Look, SourceError, check_ref_name, check_revision};

fuzz_target!(|data: &[u8]| {
    let look = Look::read(data);
    for (name, revision) in &look.refs {
        check_ref_name(name).expect("only good names pass");
        check_revision(revision).expect("only revisions pass");
    }
    assert!(look.default_branch.is_none_or(|branch| look.refs.contains_key(&branch)));
    let limits = Limits { files: 3, message_bytes: 50, ..Limits::default() };
    for commit in Commit::read_log(data, &limits) {
        assert!(commit.files.len() <= 3 && commit.message.len() <= 50);
    }
    let said = SourceError::from_git("look", data);
    let text = format!("{said} {said:?}");
    assert!(!said.to_string().contains(|c: char| c.is_control() && c != '\n'), "{text}");
    let _ = said.class();
});
