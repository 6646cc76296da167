use std::collections::BTreeMap;
use std::io::Read;

use super::super::{Class, Limits, Selection, TreeFile};
use super::{Fixture, packed};

pub(super) fn unpacked(tar: &[u8]) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(tar);
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type().is_file() {
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), text);
        }
    }
    files
}

#[tokio::test]
async fn a_tree_has_all_its_files_whatever_its_attributes_say() {
    let (fixture, remote) = Fixture::new();
    let attributes = "secret export-ignore\nversion export-subst\nf filter=evil\n*.txt text eol=crlf\n";
    std::fs::write(remote.dir.join(".gitattributes"), attributes).unwrap();
    for (name, text) in
        [("secret", "s"), ("version", "$Format:%H %an$"), ("f", "f"), ("d/x.txt", "one\ntwo\n")]
    {
        std::fs::create_dir_all(remote.dir.join("d")).unwrap();
        std::fs::write(remote.dir.join(name), text).unwrap();
    }
    let tip = remote.commit("a", "1", "first");
    let files = unpacked(&packed(&fixture.sources, &tip, 0).await.unwrap());
    assert_eq!(files["secret"], "s");
    assert_eq!(files["version"], "$Format:%H %an$");
    assert_eq!(files["f"], "f");
    assert_eq!(files["d/x.txt"], "one\r\ntwo\r\n", "line ends are those of a checkout");
    assert_eq!(files["a"], "1");
}

#[tokio::test]
async fn the_same_revision_gives_the_same_bytes_from_any_place_on() {
    let (fixture, remote) = Fixture::new();
    let tip = remote.commit("a", &"some text\n".repeat(100_000), "first");
    let whole = packed(&fixture.sources, &tip, 0).await.unwrap();
    assert!(whole.len() > 1_000_000);
    for from in [1, 512, 131_072, 500_001, whole.len() as u64] {
        let rest = packed(&fixture.sources, &tip, from).await.unwrap();
        assert!(rest == whole[usize::try_from(from).unwrap()..], "from {from}");
    }
}

#[tokio::test]
async fn a_revision_that_is_not_there_is_an_error_of_the_call() {
    let (fixture, remote) = Fixture::new();
    remote.commit("a", "1", "first");
    let error = fixture.sources.tree("app", &"a".repeat(40), &Selection::default(), 0).await.unwrap_err();
    assert_eq!(error.class(), Class::Missing, "{error}");
}

#[tokio::test]
async fn a_tree_beyond_its_limit_breaks_off_with_an_error() {
    let (fixture, remote) = Fixture::limited(Limits { tree_bytes: 300_000, ..Limits::default() });
    let tip = remote.commit("a", &"x".repeat(1_000_000), "first");
    let error = packed(&fixture.sources, &tip, 0).await.unwrap_err();
    assert_eq!(error.to_string(), "the packed tree is larger than 300000 bytes");
}

#[tokio::test]
async fn files_are_read_by_their_path() {
    let (fixture, remote) = Fixture::new();
    std::fs::create_dir_all(remote.dir.join("d")).unwrap();
    std::fs::write(remote.dir.join("d/*"), [0, 255, 10]).unwrap();
    let tip = remote.commit("a", "text", "first");
    let read = async |path: &str, cap: u64| fixture.sources.read_file("app", &tip, path, cap).await;
    let text = TreeFile::Content { bytes: b"text".to_vec(), executable: false };
    assert_eq!(read("a", 4).await.unwrap(), Some(text));
    let odd = TreeFile::Content { bytes: vec![0, 255, 10], executable: false };
    assert_eq!(read("d/*", 10).await.unwrap(), Some(odd));
    assert_eq!(read("d", 10).await.unwrap(), Some(TreeFile::Folder));
    assert_eq!(read("b", 10).await.unwrap(), None);
    assert_eq!(read("*", 10).await.unwrap(), None, "a name is no pattern");
    assert_eq!(read("a", 3).await.unwrap_err().class(), Class::TooLarge);
    for bad in ["", "/a", "../a", "d/../a", "./a", "a\0", "d//a"] {
        assert_eq!(read(bad, 10).await.unwrap_err().class(), Class::Refused, "{bad:?}");
    }
}

#[tokio::test]
async fn a_reader_who_leaves_takes_git_with_him() {
    let (fixture, remote) = Fixture::new();
    let tip = remote.commit("a", &"some text\n".repeat(2_000_000), "first");
    drop(fixture.sources.tree("app", &tip, &Selection::default(), 0).await.unwrap());
    // the mirror is free for others at once
    let (second, files) = (remote.commit("b", "2", "second"), fixture.look_and_fetch().await);
    assert_eq!(files["main"], second);
}
