//! Layer 5: the journal, a chain of commits since the last checkpoint. Each block is sealed together with the seal
//! of the block before it, the first with the superblock's, so a block fits in one place of one history only.
use crate::bytes;
use crate::device::{BLOCK, BlockDevice};
use crate::error::Error;
use crate::guard::{Kind, Place, SEAL, Seal};
use crate::io::{ENTRY, Entry, Io};
use alloc::vec::Vec;

/// First block of the journal on the device.
pub(crate) const START: u64 = 2;
const HEAD: usize = 16;
const CHANGE: usize = 4 + ENTRY;
/// Changes in one block.
pub(crate) const PER_BLOCK: usize = (BLOCK - SEAL - HEAD) / CHANGE;
/// Flag: the commit ends here.
const LAST: u32 = 1;
/// Flag: the data was durable before this was written, so it need not be looked at.
const DURABLE: u32 = 2;

/// Where the chain ends.
#[derive(Clone, Copy)]
pub(crate) struct Chain {
    /// Blocks used.
    pub(crate) used: u64,
    /// Commits in them.
    pub(crate) commits: u64,
    /// Seal of the last.
    seal: Seal,
}

/// A commit that was found.
pub(crate) struct Commit {
    pub(crate) changes: Vec<(u32, Entry)>,
    /// The data of this commit was durable before it.
    pub(crate) durable: bool,
    /// The chain with this commit.
    pub(crate) chain: Chain,
}

/// Blocks that a commit of so many changes takes.
pub(crate) fn blocks_for(changes: usize) -> u64 {
    changes.div_ceil(PER_BLOCK) as u64
}

fn place(index: u64) -> Place {
    Place { kind: Kind::Journal, level: 0, index }
}

impl Chain {
    /// The empty chain that follows a superblock.
    pub(crate) fn after(superblock: Seal) -> Self {
        Self { used: 0, commits: 0, seal: superblock }
    }

    /// Writes a commit (not flushed) and returns the chain with it.
    pub(crate) fn append<D: BlockDevice>(
        &self,
        io: &mut Io<D>,
        changes: &[(u32, Entry)],
        durable: bool,
    ) -> Result<Self, Error> {
        let mut chain = *self;
        let blocks = changes.len().div_ceil(PER_BLOCK);
        for (i, part) in changes.chunks(PER_BLOCK).enumerate() {
            let last = if i + 1 == blocks { LAST } else { 0 };
            let flags = last | if durable { DURABLE } else { 0 };
            let (mut block, mut plain) = ([0; BLOCK], [0; BLOCK - SEAL]);
            let (head, sealed) = block.split_at_mut(SEAL);
            let plain = &mut plain[..];
            bytes::put(plain, 0, &flags.to_le_bytes());
            bytes::put(plain, 4, &(part.len() as u32).to_le_bytes());
            bytes::put(plain, 8, &self.commits.to_le_bytes());
            for (n, (index, entry)) in part.iter().enumerate() {
                bytes::put(plain, HEAD + n * CHANGE, &index.to_le_bytes());
                entry.write(plain, HEAD + n * CHANGE + 4);
            }
            let seal = io.guard.seal(&place(chain.used), &chain.seal, plain, sealed);
            head.copy_from_slice(&seal);
            io.put(START + chain.used, &block)?;
            chain.used += 1;
            chain.seal = seal;
        }
        chain.commits += 1;
        Ok(chain)
    }

    /// All whole commits that follow this chain within `room` blocks of journal.
    pub(crate) fn replay<D: BlockDevice>(&self, io: &mut Io<D>, room: u64) -> Result<Vec<Commit>, Error> {
        let mut commits = Vec::new();
        let mut chain = *self;
        let mut changes = Vec::new();
        while chain.used < room {
            let Some(flags) = chain.follow(io, &mut changes)? else { break };
            if flags & LAST != 0 {
                chain.commits += 1;
                let changes = core::mem::take(&mut changes);
                commits.push(Commit { changes, durable: flags & DURABLE != 0, chain });
            }
        }
        Ok(commits)
    }

    /// Goes one block on, if there is one: its flags.
    fn follow<D: BlockDevice>(
        &mut self,
        io: &mut Io<D>,
        changes: &mut Vec<(u32, Entry)>,
    ) -> Result<Option<u32>, Error> {
        let (mut block, mut plain) = ([0; BLOCK], [0; BLOCK - SEAL]);
        io.read_raw(START + self.used, &mut block, 0)?;
        let seal: Seal = bytes::array(&block, 0);
        let Some(sealed) = block.get(SEAL..) else { return Ok(None) };
        if !io.guard.open(&place(self.used), &self.seal, sealed, &mut plain, &seal) {
            return Ok(None);
        }
        let plain = &plain[..];
        let count = (bytes::get32(plain, 4) as usize).min(PER_BLOCK);
        changes.try_reserve(count).map_err(|_| Error::Memory)?;
        changes.extend((0..count).map(|n| {
            let at = HEAD + n * CHANGE;
            (bytes::get32(plain, at), Entry::read(plain, at + 4))
        }));
        self.used += 1;
        self.seal = seal;
        Ok(Some(bytes::get32(plain, 0)))
    }
}
