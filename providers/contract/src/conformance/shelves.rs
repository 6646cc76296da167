//! What a provider's shelves promise, against its real host.

use crate::shelf::WHOLE;
use crate::{ObservedState, Provider};
use std::path::Path;

/// Layers are put, told from others, and removed; `scratch` is an empty folder.
///
/// # Panics
/// Where a promise is not kept.
pub async fn shelves(provider: &dyn Provider, scratch: &Path) {
    let shelves = provider.shelves().expect("it has shelves");
    std::fs::create_dir_all(scratch.join("objects/pack")).expect("made");
    std::fs::write(scratch.join("objects/pack/pack-1.pack"), vec![7; 300_000]).expect("written");
    std::fs::write(scratch.join(WHOLE), "tip\n").expect("written");
    assert_eq!(shelves.there("m1-a").await.expect("an answer"), None);
    let made = shelves.put("m1-a", "first", scratch).await.expect("put");
    assert_eq!(shelves.there("m1-a").await.expect("an answer").as_ref(), Some(&made));
    // The same once more, as after an answer that was lost, and another one beside it.
    for layer in ["first", "second"] {
        assert_eq!(shelves.put("m1-a", layer, scratch).await.expect("put"), made);
    }
    shelves.put("m2-b", "first", scratch).await.expect("put");
    for seen in provider.list().await.expect("a list") {
        let kept = matches!(&seen.state, ObservedState::Resource { keep: true, .. });
        assert!(kept && seen.tag.is_none(), "nobody is to reap it: {seen:?}");
    }
    shelves.keep("m1-", &["m1-a".to_owned()]).await.expect("kept");
    assert!(shelves.there("m1-a").await.expect("an answer").is_some());
    shelves.keep("m1-", &[]).await.expect("removed");
    assert_eq!(shelves.there("m1-a").await.expect("an answer"), None);
    assert!(shelves.there("m2-b").await.expect("an answer").is_some(), "it is somebody else's");
    shelves.keep("m2-", &[]).await.expect("removed");
    assert_eq!(shelves.there("m2-b").await.expect("an answer"), None);
}
