//! Layer 6: transactions on logical blocks. Written blocks go to free places at once; `commit` appends the changed
//! entries to the journal, and a checkpoint folds what the journal lists into the map and writes the next root.
//!
//! An entry of a logical block is looked for in `tx` (not committed), then `pending` (committed, in the journal),
//! then the map. Neighbour: `recovery` opens stores.
use crate::device::{BLOCK, BlockDevice};
use crate::error::{Error, Part};
use crate::freshness::{Freshness, Mark, Window};
use crate::guard::{Kind, Place, Seal};
use crate::io::{Entry, Io, part};
use crate::journal::{self, Chain};
use crate::keys::Random;
use crate::space::Space;
use crate::superblock::{self, Body, Header};
use crate::tree::Tree;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

#[path = "recovery.rs"]
mod recovery;

/// Commits of more changes make their data durable before the journal, so that recovery need not read it.
const VERIFY_MAX: usize = 512;
/// Nodes of the space tree in memory.
const SPACE_NODES: usize = 64;
/// Least blocks of a store.
const BLOCKS_MIN: u64 = 64;

/// How a store is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Nothing is written, not even what recovery would.
    pub read_only: bool,
    /// Nodes of the map kept in memory (4 KiB each).
    pub cache_nodes: usize,
    /// Most bytes of the bitmap, which is in memory.
    pub bitmap: u64,
    /// Committed changes kept in memory before a checkpoint.
    pub max_pending: usize,
    /// When the trusted store is told.
    pub window: Window,
    /// The only root that is accepted (images); commits behind it are not looked at, and nothing is written.
    pub expected_root: Option<Seal>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            read_only: false,
            cache_nodes: 4096,
            bitmap: u64::MAX,
            max_pending: 65536,
            window: Window::Checkpoint,
            expected_root: None,
        }
    }
}

/// Figures of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Blocks of the device that the store uses.
    pub total: u64,
    /// Of these, free (some only after the next checkpoint).
    pub free: u64,
    /// Blocks written to the device.
    pub written: u64,
    /// Blocks read from the device.
    pub read: u64,
    /// Flushes.
    pub flushes: u64,
    /// Checkpoints since the store was made.
    pub generation: u64,
    /// Nodes and changes in memory.
    pub cached_nodes: usize,
    /// Committed changes since the last checkpoint.
    pub pending: usize,
}

/// A sealed disk.
pub struct Disk<D> {
    io: Io<D>,
    header: Header,
    map: Tree,
    space_tree: Tree,
    space: Space,
    tx: BTreeMap<u32, Entry>,
    pending: BTreeMap<u32, Entry>,
    chain: Chain,
    journal_blocks: u64,
    generation: u64,
    seal: Seal,
    /// The journal can't express what is in memory: only a checkpoint makes it durable.
    must_checkpoint: bool,
    options: Options,
    freshness: Option<Box<dyn Freshness + Send>>,
    trusted: Option<Mark>,
    /// Highest logical block ever written, for the estimate of what a checkpoint takes.
    top: u32,
}

fn data(block: u32) -> Place {
    Place { kind: Kind::Data, level: 0, index: u64::from(block) }
}

impl<D: BlockDevice> Disk<D> {
    fn entry(&mut self, block: u32) -> Result<Entry, Error> {
        match self.tx.get(&block).or_else(|| self.pending.get(&block)) {
            Some(entry) => Ok(*entry),
            None => self.map.get(&mut self.io, block),
        }
    }

    /// Reads logical blocks from `first` on; what was never written is zero.
    pub fn read(&mut self, first: u32, buf: &mut [u8]) -> Result<(), Error> {
        let mut blocks = Vec::new();
        blocks.try_reserve_exact(buf.len() / BLOCK).map_err(|_| Error::Memory)?;
        blocks.extend(buf.chunks_exact_mut(BLOCK));
        self.read_blocks(first, &mut blocks, 0)
    }

    /// The same, each into a buffer of its own. The `next` blocks behind them are likely to be wanted, too.
    pub fn read_blocks(&mut self, first: u32, blocks: &mut [&mut [u8]], next: u32) -> Result<(), Error> {
        let mut entries = Vec::new();
        entries.try_reserve_exact(blocks.len()).map_err(|_| Error::Memory)?;
        for i in 0..blocks.len() {
            let block = first.checked_add(i as u32).ok_or(Error::Range)?;
            entries.push((block, self.entry(block)?));
        }
        let mut rest = blocks;
        for run in entries.chunk_by(|a, b| !a.1.is_hole() && a.1.block.checked_add(1) == Some(b.1.block)) {
            let Some((part, after)) = rest.split_at_mut_checked(run.len()) else { return Err(Error::Range) };
            rest = after;
            let Some((_, head)) = run.first() else { continue };
            if head.is_hole() {
                part.iter_mut().for_each(|block| block.fill(0));
                continue;
            }
            let wanted = run.iter().zip(part).map(|((b, e), to)| (data(*b), &e.seal, &mut **to));
            self.io.load_run(head.block, wanted, if rest.is_empty() { next } else { 0 })?;
        }
        Ok(())
    }

    /// Writes logical blocks from `first` on, as part of the transaction.
    pub fn write(&mut self, first: u32, bytes: &[u8]) -> Result<(), Error> {
        self.may_write()?;
        for (i, content) in bytes.chunks_exact(BLOCK).enumerate() {
            let block = first.checked_add(i as u32).ok_or(Error::Range)?;
            // A place that only this transaction knows may be written again.
            let (place, fresh) = match self.tx.get(&block) {
                Some(entry) if !entry.is_hole() => (entry.block, false),
                _ => (self.allocate()?, true),
            };
            match self.io.store(&data(block), place, content) {
                Ok(entry) => drop(self.tx.insert(block, entry)),
                Err(error) => {
                    if fresh {
                        self.space.release(place);
                    }
                    return Err(error);
                }
            }
            self.top = self.top.max(block);
        }
        Ok(())
    }

    /// Makes logical blocks zero, and their places free, as part of the transaction.
    pub fn discard(&mut self, first: u32, count: u32) -> Result<(), Error> {
        self.may_write()?;
        for block in first..first.checked_add(count).ok_or(Error::Range)? {
            if self.entry(block)?.is_hole() {
                continue;
            }
            if let Some(old) = self.tx.insert(block, Entry::HOLE) {
                self.space.release(old.block);
            }
        }
        Ok(())
    }

    fn may_write(&self) -> Result<(), Error> {
        if self.io.failed || self.options.read_only { Err(Error::Failed) } else { Ok(()) }
    }

    /// A free block that the next checkpoint does not need.
    fn allocate(&mut self) -> Result<u32, Error> {
        if self.spare() == 0 && self.can_reclaim() {
            self.checkpoint()?;
        }
        if self.spare() == 0 {
            return Err(Error::Full);
        }
        self.space.allocate().ok_or(Error::Full)
    }

    /// Blocks that can still be written before the disk counts as full, without what a checkpoint would free. Behind
    /// them there is room for letting go of everything, which changes all leaves of the map at once.
    pub fn available(&self) -> u64 {
        let all = u64::from(self.top) / 128 + 1;
        self.spare().saturating_sub(all + all / 128)
    }

    /// Free blocks that the next checkpoint does not need.
    fn spare(&self) -> u64 {
        let changes = (self.tx.len() + self.pending.len()) as u64 + 1;
        let leaves = changes.min(u64::from(self.top) / 128 + 1);
        let inner = leaves.min(u64::from(self.top) / 16384 + 1) + 8;
        let bitmap = u64::from(self.space.bitmap_blocks());
        self.space.free().saturating_sub(leaves + 2 * inner + bitmap + bitmap / 128 + 8)
    }

    /// May a checkpoint free blocks?
    pub fn can_reclaim(&self) -> bool {
        !self.pending.is_empty() || !self.space.deferred.is_empty()
    }

    /// Makes everything written so far durable, in one step: after a crash all of it is there, or none.
    pub fn commit(&mut self) -> Result<(), Error> {
        self.may_write()?;
        if self.tx.is_empty() && !self.must_checkpoint {
            return Ok(());
        }
        if self.must_checkpoint || self.chain.used + journal::blocks_for(self.tx.len()) > self.journal_blocks
        {
            self.publish();
            self.must_checkpoint = true;
            return self.checkpoint();
        }
        let durable = self.tx.len() > VERIFY_MAX;
        if durable {
            self.io.flush()?;
        }
        let changes: Vec<(u32, Entry)> = self.tx.iter().map(|(b, e)| (*b, *e)).collect();
        let chain = self.chain.append(&mut self.io, &changes, durable)?;
        self.io.flush()?;
        self.chain = chain;
        self.publish();
        if self.options.window == Window::Commit {
            self.advance()?;
        }
        if self.pending.len() > self.options.max_pending {
            return match self.checkpoint() {
                // The commit itself is durable; the checkpoint is tried again later.
                Err(Error::Full | Error::Device(crate::DeviceError::NoSpace)) => Ok(()),
                other => other,
            };
        }
        Ok(())
    }

    /// What was the transaction becomes part of the committed state in memory.
    fn publish(&mut self) {
        for (block, entry) in core::mem::take(&mut self.tx) {
            supersede(&mut self.pending, &mut self.space, block, entry);
        }
    }

    /// Folds all commits into the map and writes a new root. An open transaction stays open.
    pub fn checkpoint(&mut self) -> Result<(), Error> {
        self.may_write()?;
        let changes: Vec<(u32, Entry)> = self.pending.iter().map(|(b, e)| (*b, *e)).collect();
        let folded = self.map.fold(&mut self.io, &mut self.space, &changes)?;
        // The old root and its journal are still the durable state, but the journal can't go on from here.
        self.must_checkpoint = true;
        self.pending.clear();
        let stored = changes.iter().filter(|(_, e)| !e.is_hole()).map(|(_, e)| e.block);
        for block in stored.chain(folded.allocated).chain(folded.freed.iter().copied()) {
            self.space.touch(block);
        }
        self.space.deferred.extend(folded.freed);
        self.write_space()?;
        self.io.flush()?;
        self.write_root()?;
        self.space.settle();
        self.must_checkpoint = false;
        self.advance()
    }

    /// Writes the changed blocks of the bitmap and their tree.
    fn write_space(&mut self) -> Result<(), Error> {
        let mut unlisted: BTreeSet<u32> = self.space.deferred.iter().copied().collect();
        unlisted.extend(self.tx.values().map(|e| e.block));
        let dirty: Vec<u32> = self.space.dirty.iter().copied().collect();
        let mut fresh = BTreeSet::new();
        match self.write_bitmap(&dirty, &unlisted, &mut fresh) {
            Ok(folded) => {
                self.space.own.extend(fresh);
                self.space.own.extend(folded.allocated);
                for block in &folded.freed {
                    self.space.own.remove(block);
                }
                self.space.deferred.extend(folded.freed);
                self.space.dirty.clear();
                Ok(())
            }
            Err(error) => {
                for block in fresh {
                    self.space.release(block);
                }
                Err(error)
            }
        }
    }

    fn write_bitmap(
        &mut self,
        dirty: &[u32],
        unlisted: &BTreeSet<u32>,
        fresh: &mut BTreeSet<u32>,
    ) -> Result<crate::tree::Folded, Error> {
        let mut places = Vec::new();
        for index in dirty {
            let block = self.space.allocate().ok_or(Error::Full)?;
            fresh.insert(block);
            places.push((*index, block));
        }
        let mut changes = Vec::new();
        for (index, block) in places {
            let image = self.space.image(index, &[&self.space.own, fresh, unlisted]);
            let place = Place { kind: Kind::Space, level: 0, index: u64::from(index) };
            changes.push((index, self.io.store(&place, block, &image)?));
        }
        self.space_tree.fold(&mut self.io, &mut self.space, &changes)
    }

    /// Writes the superblock of the next generation, and makes it durable.
    fn write_root(&mut self) -> Result<(), Error> {
        let body = Body {
            generation: self.generation + 1,
            total: self.space.total(),
            journal_blocks: self.journal_blocks,
            map_height: self.map.height,
            space_height: self.space_tree.height,
            map: self.map.root,
            space: self.space_tree.root,
        };
        let slot = body.generation % 2;
        let (block, seal) = superblock::encode(&self.header, &body, slot, &mut *self.io.guard);
        self.io.put(slot, &block)?;
        self.io.flush()?;
        self.generation = body.generation;
        self.seal = seal;
        self.chain = Chain::after(seal);
        Ok(())
    }

    /// Where the store stands.
    pub fn mark(&self) -> Mark {
        Mark { generation: self.generation, commits: self.chain.commits, seal: self.seal }
    }

    /// Tells the trusted store.
    fn advance(&mut self) -> Result<(), Error> {
        let mark = self.mark();
        if let Some(freshness) = &mut self.freshness
            && self.trusted != Some(mark)
        {
            if let Err(error) = freshness.advance(&self.header.id(), self.trusted.as_ref(), &mark) {
                // Another writer may be ahead. What this one wrote from here on could pass for newer than that.
                self.io.failed = true;
                return Err(error);
            }
            self.trusted = Some(mark);
        }
        Ok(())
    }

    /// Commits, makes a checkpoint if there is anything to fold, and gives the device back.
    pub fn close(mut self) -> Result<D, Error> {
        if !self.options.read_only {
            self.commit()?;
            if !self.pending.is_empty() || self.must_checkpoint {
                self.checkpoint()?;
            }
        }
        Ok(self.io.device)
    }

    /// Gives the device back as it is, as a crash would leave it.
    pub fn abandon(self) -> D {
        self.io.device
    }

    /// Identity of the store.
    pub fn id(&self) -> [u8; 16] {
        self.header.id()
    }

    /// Figures.
    pub fn stats(&self) -> Stats {
        Stats {
            total: self.space.total(),
            free: self.space.free(),
            written: self.io.written,
            read: self.io.read,
            flushes: self.io.flushes,
            generation: self.generation,
            cached_nodes: self.map.cached() + self.space_tree.cached(),
            pending: self.pending.len() + self.tx.len(),
        }
    }

    /// Takes in blocks that the device has gained.
    pub fn grow(&mut self, total: u64) -> Result<(), Error> {
        self.may_write()?;
        if total < self.space.total() || total > self.io.device.blocks() || total > u64::from(u32::MAX) {
            return Err(Error::Size);
        }
        self.space.grow(total);
        self.must_checkpoint = true;
        self.commit()
    }

    /// Wraps the data key by another root key. No data is written again. A copy of the old header still opens with
    /// the old key.
    pub fn rotate(&mut self, root: &[u8; 32], random: &mut dyn Random) -> Result<(), Error> {
        if self.header.data_key.is_none() {
            return Err(Error::WrongForm);
        }
        self.commit()?;
        // Once for each superblock.
        for _ in 0..2 {
            let mut nonce = [0; 12];
            random.fill(&mut nonce);
            self.header.wrap(root, nonce);
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Reads everything that is in use; hands what is damaged to `report`; returns how many blocks were read.
    pub fn scrub(&mut self, report: &mut dyn FnMut(Part)) -> Result<u64, Error> {
        let mut buf = Vec::new();
        buf.try_reserve_exact(BLOCK).map_err(|_| Error::Memory)?;
        buf.resize(BLOCK, 0);
        let mut count = 0;
        let newer: BTreeMap<u32, Entry> =
            self.pending.iter().chain(&self.tx).map(|(b, e)| (*b, *e)).collect();
        let mut check = |io: &mut Io<D>, place: Place, entry: Entry| {
            if place.kind == Kind::Data && newer.contains_key(&(place.index as u32)) {
                return Ok(());
            }
            count += 1;
            match io.load(&place, &entry, &mut buf) {
                Err(Error::Damaged(_) | Error::Truncated { .. }) => report(part(&place)),
                other => other?,
            }
            Ok(())
        };
        self.map.visit(&mut self.io, &mut check)?;
        self.space_tree.visit(&mut self.io, &mut check)?;
        let mut bytes = alloc::vec![0; BLOCK];
        for (block, entry) in newer.iter().filter(|(_, e)| !e.is_hole()) {
            count += 1;
            match self.io.load(&data(*block), entry, &mut bytes) {
                Err(Error::Damaged(_) | Error::Truncated { .. }) => report(Part::Data(*block)),
                other => other?,
            }
        }
        Ok(count)
    }
}

/// Puts a committed entry in place of an older one that no checkpoint knows.
fn supersede(pending: &mut BTreeMap<u32, Entry>, space: &mut Space, block: u32, entry: Entry) {
    if let Some(old) = pending.insert(block, entry)
        && !old.is_hole()
        && old.block != entry.block
    {
        space.deferred.push(old.block);
    }
}
