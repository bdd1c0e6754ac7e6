//! Layer 4: a radix tree of entries, 128 in a node: the map (logical blocks) and the space tree (blocks of the
//! bitmap). The tree on the device never changes in place: `fold` writes changed nodes elsewhere, bottom up.
use crate::device::{BLOCK, BlockDevice};
use crate::error::Error;
use crate::guard::{Kind, Place};
use crate::io::{ENTRY, Entry, Io, part};
use crate::space::Space;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

/// Entries of a node.
pub(crate) const FANOUT: u32 = (BLOCK / ENTRY) as u32;
/// More levels than any 32-bit index needs.
pub(crate) const HEIGHT_MAX: u32 = 5;

type Bytes = Box<[u8; BLOCK]>;
type NodeId = (u8, u32);
/// Told of every entry in use.
type Visitor<'a, D> = dyn FnMut(&mut Io<D>, Place, Entry) -> Result<(), Error> + 'a;

struct Cached {
    bytes: Bytes,
    used: bool,
}

/// What a fold changed on the device.
#[derive(Default)]
pub(crate) struct Folded {
    /// Blocks that the old tree referred to and the new one does not.
    pub(crate) freed: Vec<u32>,
    /// Nodes written.
    pub(crate) allocated: Vec<u32>,
}

pub(crate) struct Tree {
    kind: Kind,
    leaf: Kind,
    pub(crate) root: Entry,
    pub(crate) height: u32,
    cache: BTreeMap<NodeId, Cached>,
    clock: VecDeque<NodeId>,
    limit: usize,
}

/// Indices that a tree of this height has.
fn reach(height: u32) -> u64 {
    u64::from(FANOUT).saturating_pow(height)
}

fn new_bytes() -> Result<Bytes, Error> {
    let mut v = Vec::new();
    v.try_reserve_exact(BLOCK).map_err(|_| Error::Memory)?;
    v.resize(BLOCK, 0);
    v.into_boxed_slice().try_into().map_err(|_| Error::Memory)
}

impl Tree {
    /// `leaf` is what its entries lead to; `limit` bounds the nodes in memory.
    pub(crate) fn new(kind: Kind, leaf: Kind, root: Entry, height: u32, limit: usize) -> Self {
        let height = height.clamp(1, HEIGHT_MAX);
        Self { kind, leaf, root, height, cache: BTreeMap::new(), clock: VecDeque::new(), limit }
    }
    /// Nodes in memory.
    pub(crate) fn cached(&self) -> usize {
        self.cache.len()
    }

    fn place(&self, id: NodeId) -> Place {
        Place { kind: self.kind, level: id.0, index: u64::from(id.1) }
    }

    /// The entry that leads to node `id`.
    fn entry_of<D: BlockDevice>(&mut self, io: &mut Io<D>, id: NodeId) -> Result<Entry, Error> {
        if u32::from(id.0) + 1 >= self.height {
            return Ok(if id.1 == 0 { self.root } else { Entry::HOLE });
        }
        self.slot(io, (id.0 + 1, id.1 / FANOUT), id.1 % FANOUT)
    }

    /// Entry `slot` of node `id`.
    fn slot<D: BlockDevice>(&mut self, io: &mut Io<D>, id: NodeId, slot: u32) -> Result<Entry, Error> {
        let at = slot as usize * ENTRY;
        if let Some(node) = self.cache.get_mut(&id) {
            node.used = true;
            return Ok(Entry::read(&node.bytes[..], at));
        }
        let entry = self.entry_of(io, id)?;
        if entry.is_hole() {
            return Ok(Entry::HOLE);
        }
        let mut bytes = new_bytes()?;
        io.load(&self.place(id), &entry, &mut bytes[..])?;
        let found = Entry::read(&bytes[..], at);
        self.remember(id, bytes);
        Ok(found)
    }

    fn remember(&mut self, id: NodeId, bytes: Bytes) {
        if self.cache.insert(id, Cached { bytes, used: false }).is_none() {
            self.clock.push_back(id);
        }
        // Second chance: what was used since it last came by goes round again, at most once.
        let mut spare = self.clock.len();
        while self.cache.len() > self.limit.max(8) {
            let Some(old) = self.clock.pop_front() else { return };
            spare = spare.saturating_sub(1);
            match self.cache.get_mut(&old) {
                Some(node) if (node.used && spare > 0) || old == id => {
                    node.used = false;
                    self.clock.push_back(old);
                }
                Some(_) => drop(self.cache.remove(&old)),
                None => {}
            }
        }
    }

    /// The entry of `index`.
    pub(crate) fn get<D: BlockDevice>(&mut self, io: &mut Io<D>, index: u32) -> Result<Entry, Error> {
        if u64::from(index) >= reach(self.height) {
            return Ok(Entry::HOLE);
        }
        self.slot(io, (0, index / FANOUT), index % FANOUT)
    }

    /// The highest index in use; 0 if none is.
    pub(crate) fn last<D: BlockDevice>(&mut self, io: &mut Io<D>) -> Result<u32, Error> {
        let mut index = 0;
        for level in (0..self.height as u8).rev() {
            let mut slot = FANOUT - 1;
            while slot > 0 && self.slot(io, (level, index), slot)?.is_hole() {
                slot -= 1;
            }
            index = index.saturating_mul(FANOUT).saturating_add(slot);
        }
        Ok(index)
    }

    /// Writes a tree with `changes` (sorted by index) made. After an error this one is unchanged.
    pub(crate) fn fold<D: BlockDevice>(
        &mut self,
        io: &mut Io<D>,
        space: &mut Space,
        changes: &[(u32, Entry)],
    ) -> Result<Folded, Error> {
        let Some((last, _)) = changes.last() else { return Ok(Folded::default()) };
        let mut folded = Folded::default();
        let (old_root, old_height) = (self.root, self.height);
        let done = self
            .heighten(io, space, *last, &mut folded)
            .and_then(|()| self.fold_node(io, space, (self.height as u8 - 1, 0), changes, &mut folded));
        match done {
            Ok(root) => {
                self.root = root;
                Ok(folded)
            }
            Err(error) => {
                self.cache.clear();
                self.clock.clear();
                (self.root, self.height) = (old_root, old_height);
                for block in folded.allocated {
                    space.release(block);
                }
                Err(error)
            }
        }
    }

    /// Adds levels on top until `index` is in reach.
    fn heighten<D: BlockDevice>(
        &mut self,
        io: &mut Io<D>,
        space: &mut Space,
        index: u32,
        folded: &mut Folded,
    ) -> Result<(), Error> {
        while u64::from(index) >= reach(self.height) {
            let old = self.root;
            self.height += 1;
            if !old.is_hole() {
                let mut bytes = new_bytes()?;
                old.write(&mut bytes[..], 0);
                self.root = self.write_node(io, space, (self.height as u8 - 1, 0), bytes, folded)?;
            }
        }
        Ok(())
    }

    fn write_node<D: BlockDevice>(
        &mut self,
        io: &mut Io<D>,
        space: &mut Space,
        id: NodeId,
        bytes: Bytes,
        folded: &mut Folded,
    ) -> Result<Entry, Error> {
        let block = space.allocate().ok_or(Error::Full)?;
        folded.allocated.push(block);
        let entry = io.store(&self.place(id), block, &bytes[..])?;
        self.remember(id, bytes);
        Ok(entry)
    }

    fn fold_node<D: BlockDevice>(
        &mut self,
        io: &mut Io<D>,
        space: &mut Space,
        id: NodeId,
        changes: &[(u32, Entry)],
        folded: &mut Folded,
    ) -> Result<Entry, Error> {
        let old = self.entry_of(io, id)?;
        let mut bytes = new_bytes()?;
        if !old.is_hole() {
            match self.cache.get(&id) {
                Some(node) => bytes.copy_from_slice(&node.bytes[..]),
                None => io.load(&self.place(id), &old, &mut bytes[..])?,
            }
        }
        let span = reach(u32::from(id.0));
        let first = u64::from(id.1) * u64::from(FANOUT) * span;
        let slot_of = |index: u32| ((u64::from(index) - first) / span) as u32;
        for group in changes.chunk_by(|a, b| slot_of(a.0) == slot_of(b.0)) {
            let Some((index, entry)) = group.first() else { continue };
            let slot = slot_of(*index);
            let at = slot as usize * ENTRY;
            let new = if id.0 == 0 {
                let replaced = Entry::read(&bytes[..], at);
                if !replaced.is_hole() && replaced.block != entry.block {
                    folded.freed.push(replaced.block);
                }
                *entry
            } else {
                self.fold_node(io, space, (id.0 - 1, id.1 * FANOUT + slot), group, folded)?
            };
            new.write(&mut bytes[..], at);
        }
        if !old.is_hole() {
            // A level that was added in this very fold was never durable.
            folded.freed.push(old.block);
        }
        if bytes.iter().all(|b| *b == 0) {
            self.cache.remove(&id);
            return Ok(Entry::HOLE);
        }
        self.write_node(io, space, id, bytes, folded)
    }

    /// Calls `f` for every entry in use, nodes before what they lead to; damage is handed to `f` as well, and what
    /// is below a damaged node is left out.
    pub(crate) fn visit<D: BlockDevice>(&self, io: &mut Io<D>, f: &mut Visitor<'_, D>) -> Result<(), Error> {
        self.visit_node(io, (self.height as u8 - 1, 0), self.root, f)
    }

    fn visit_node<D: BlockDevice>(
        &self,
        io: &mut Io<D>,
        id: NodeId,
        entry: Entry,
        f: &mut Visitor<'_, D>,
    ) -> Result<(), Error> {
        if entry.is_hole() {
            return Ok(());
        }
        let place = self.place(id);
        f(io, place, entry)?;
        let mut bytes = new_bytes()?;
        match io.load(&place, &entry, &mut bytes[..]) {
            // `f` has tried the same and knows.
            Err(Error::Damaged(p)) if p == part(&place) => return Ok(()),
            other => other?,
        }
        for slot in 0..FANOUT {
            let child = Entry::read(&bytes[..], slot as usize * ENTRY);
            let index = u64::from(id.1) * u64::from(FANOUT) + u64::from(slot);
            if child.is_hole() || index > u64::from(u32::MAX) {
                continue;
            }
            if id.0 > 0 {
                self.visit_node(io, (id.0 - 1, index as u32), child, f)?;
            } else {
                f(io, Place { kind: self.leaf, level: 0, index }, child)?;
            }
        }
        Ok(())
    }
}
