//! Bounds on what a repository may cost.

use std::time::Duration;

/// What one call may take and give. The defaults suit a large repository on a slow line.
#[derive(Debug, Clone)]
pub struct Limits {
    /// For a look at the remote's refs.
    pub look: Duration,
    /// For a fetch, the first one included.
    pub fetch: Duration,
    /// For what is read from a mirror.
    pub read: Duration,
    /// For packing a tree, as long as its reader takes.
    pub pack: Duration,
    /// Bytes that a mirror's packs may have; a fetch that exceeds it is ended.
    pub mirror_bytes: u64,
    /// Bytes of one packed tree.
    pub tree_bytes: u64,
    /// Refs of one repository that are looked at.
    pub refs: usize,
    /// Commits of one history that are listed; all are counted.
    pub commits: usize,
    /// Files that are listed for each commit.
    pub files: usize,
    /// Bytes of a commit's message.
    pub message_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            look: Duration::from_secs(60),
            fetch: Duration::from_secs(45 * 60),
            read: Duration::from_secs(120),
            pack: Duration::from_secs(30 * 60),
            mirror_bytes: 32 << 30,
            tree_bytes: 16 << 30,
            refs: 50_000,
            commits: 200,
            files: 300,
            message_bytes: 16 << 10,
        }
    }
}
