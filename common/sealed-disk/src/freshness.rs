//! What rollback is measured against: a trusted store of the newest root that was reached.
use crate::bytes;
use crate::error::Error;
use crate::guard::Seal;
use alloc::format;
use alloc::string::String;

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

/// Bytes of a mark with the store that it is of.
pub const MARK: usize = 60;

impl Mark {
    /// What a counter keeps: the store's id, generation, commits, seal; little-endian.
    pub fn to_bytes(&self, id: &[u8; 16]) -> [u8; MARK] {
        let mut b = [0; MARK];
        bytes::put(&mut b, 0, id);
        bytes::put(&mut b, 16, &self.generation.to_le_bytes());
        bytes::put(&mut b, 24, &self.commits.to_le_bytes());
        bytes::put(&mut b, 32, &self.seal);
        b
    }
    /// The store and its mark. No store has generation 0: that is kept before a store is made.
    pub fn from_bytes(b: &[u8; MARK]) -> ([u8; 16], Option<Self>) {
        let number = |at| u64::from_le_bytes(bytes::array(b, at));
        let mark = Self { generation: number(16), commits: number(24), seal: bytes::array(b, 32) };
        (bytes::array(b, 0), Some(mark).filter(|m| m.generation != 0))
    }
    /// A line of text, for counters that are files: the store's id, generation, commits, seal.
    pub fn to_line(&self, id: &[u8; 16]) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        format!("{} {} {} {}\n", hex(id), self.generation, self.commits, hex(&self.seal))
    }
    /// What a line says.
    pub fn from_line(line: &str) -> Option<([u8; 16], Self)> {
        let mut words = line.trim_end().split(' ');
        let id = from_hex(words.next()?)?;
        let (generation, commits) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some((id, Self { generation, commits, seal: from_hex(words.next()?)? }))
    }
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    (text.len() == 2 * N).then_some(out)
}

/// A trusted store of marks: a monotonic counter with a digest. Its implementations stand outside of this
/// crate: the LibOS' asks a counter (in simulation the CPU's; one over the network would answer the same messages), the
/// host tools' is a file for development. After an error of `advance` the disk writes no more: a host that keeps a
/// counter from advancing must not gain a longer window by it.
pub trait Freshness {
    /// The mark of store `id`; `None` if the store is expected, and has none yet.
    fn read(&mut self, id: &[u8; 16]) -> Result<Option<Mark>, Error>;
    /// Replaces `from` by `to`, in one step; `Forked` if the mark is not `from` any more.
    fn advance(&mut self, id: &[u8; 16], from: Option<&Mark>, to: &Mark) -> Result<(), Error>;
}

/// When the trusted store is told, which is the window that a rollback can hide in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Window {
    /// At checkpoints (and so at each opening and each clean close): commits since the last one can be rolled back
    /// unnoticed.
    #[default]
    Checkpoint,
    /// At every commit: at most the commit during which the machine stopped.
    Commit,
}
