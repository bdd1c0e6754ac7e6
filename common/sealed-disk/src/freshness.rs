//! What rollback is measured against: a trusted store of the newest root that was reached.
use crate::error::Error;
use crate::guard::Seal;

/// A state of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Checkpoints so far.
    pub generation: u64,
    /// Commits since that checkpoint.
    pub commits: u64,
    /// Seal of the superblock of that generation.
    pub seal: Seal,
}

/// A trusted store of marks: a monotonic counter with a digest. Its implementations stand outside of this
/// crate.
pub trait Freshness {
    /// The mark of store `id`, if it has one.
    fn read(&mut self, id: &[u8; 16]) -> Result<Option<Mark>, Error>;
    /// Replaces `from` by `to`, in one step; `Forked` if the mark is not `from` any more.
    fn advance(&mut self, id: &[u8; 16], from: Option<&Mark>, to: &Mark) -> Result<(), Error>;
}

/// When the trusted store is told, which is the window that a rollback can hide in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Window {
    /// At checkpoints (and so at a clean close): commits since the last one can be rolled back unnoticed.
    #[default]
    Checkpoint,
    /// At every commit: at most the commit during which the machine stopped.
    Commit,
}
