//! The B-tree of all items. Nodes are logical blocks and change in place: the disk below makes that atomic.
//!
//! Nodes in memory are decoded; dirty ones stay until `write`. Inner nodes hold for each child a key not above the
//! child's items; nodes that get small are merged with a neighbour under the same parent.
use crate::item::Key;
use crate::node::{CAPACITY, Node, item_bytes};
use crate::space::Space;
use crate::{Error, Result};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use occlum_sealed_disk::{BLOCK, BlockDevice, Disk};

/// Deeper trees are not made: it would take more blocks than there are.
const DEPTH_MAX: usize = 12;

struct Slot {
    node: Node,
    dirty: bool,
    used: bool,
}

/// The way to a leaf: nodes, and which child was taken.
type Path = Vec<(u32, usize)>;

pub(crate) struct BTree {
    pub(crate) root: u32,
    slots: BTreeMap<u32, Slot>,
    clock: VecDeque<u32>,
    dirty: usize,
    limit: usize,
}

/// The child of an inner node that may have `key`.
fn child_for(children: &[(Key, u32)], key: &Key) -> usize {
    children.partition_point(|(k, _)| k <= key).saturating_sub(1)
}

impl BTree {
    pub(crate) fn new(root: u32, limit: usize) -> Self {
        Self { root, slots: BTreeMap::new(), clock: VecDeque::new(), dirty: 0, limit: limit.max(64) }
    }
    /// Makes an empty tree.
    pub(crate) fn create(space: &mut Space, limit: usize) -> Result<Self> {
        let mut tree = Self::new(0, limit);
        tree.root = tree.add(space, Node::Leaf(Vec::new()))?;
        Ok(tree)
    }
    /// Nodes to be written.
    pub(crate) fn dirty(&self) -> usize {
        self.dirty
    }
    /// Forgets what can be read again.
    pub(crate) fn drop_clean(&mut self) {
        self.slots.retain(|_, s| s.dirty);
        // All of them stand in it, so no memory is needed, which may be short.
        self.clock.clear();
        self.clock.extend(self.slots.keys());
    }
    /// Nodes in memory.
    pub(crate) fn cached(&self) -> usize {
        self.slots.len()
    }

    fn add(&mut self, space: &mut Space, node: Node) -> Result<u32> {
        let (id, _) = space.allocate(1)?;
        self.evict();
        self.slots.insert(id, Slot { node, dirty: true, used: true });
        self.clock.push_back(id);
        self.dirty += 1;
        Ok(id)
    }
    fn remove_node<D: BlockDevice>(&mut self, disk: &mut Disk<D>, space: &mut Space, id: u32) -> Result<()> {
        if self.slots.remove(&id).is_some_and(|s| s.dirty) {
            self.dirty -= 1;
        }
        space.free(disk, id, 1)
    }

    fn node<D: BlockDevice>(&mut self, disk: &mut Disk<D>, id: u32) -> Result<&Node> {
        if !self.slots.contains_key(&id) {
            let mut block = alloc::vec![0; BLOCK];
            disk.read(id, &mut block)?;
            let node = Node::decode(&block)?;
            self.evict();
            self.slots.insert(id, Slot { node, dirty: false, used: false });
            self.clock.push_back(id);
        }
        let slot = self.slots.get_mut(&id).ok_or(Error::Corrupt("a node"))?;
        slot.used = true;
        Ok(&slot.node)
    }
    fn node_mut<D: BlockDevice>(&mut self, disk: &mut Disk<D>, id: u32) -> Result<&mut Node> {
        self.node(disk, id)?;
        let slot = self.slots.get_mut(&id).ok_or(Error::Corrupt("a node"))?;
        if !slot.dirty {
            slot.dirty = true;
            self.dirty += 1;
        }
        Ok(&mut slot.node)
    }
    /// Second chance among the clean nodes.
    fn evict(&mut self) {
        let mut turns = 2 * self.clock.len();
        while (self.slots.len() >= self.limit + self.dirty || self.clock.len() > 2 * self.slots.len() + 1024)
            && turns > 0
        {
            turns -= 1;
            let Some(id) = self.clock.pop_front() else { return };
            match self.slots.get_mut(&id) {
                Some(slot) if slot.dirty || slot.used => {
                    slot.used = false;
                    self.clock.push_back(id);
                }
                Some(_) => drop(self.slots.remove(&id)),
                None => {}
            }
        }
    }

    /// The way to the leaf that may hold `key`, and the leaf.
    fn descend<D: BlockDevice>(&mut self, disk: &mut Disk<D>, key: &Key) -> Result<(Path, u32)> {
        let (mut path, mut id) = (Path::new(), self.root);
        while path.len() < DEPTH_MAX {
            let Node::Inner(children) = self.node(disk, id)? else { return Ok((path, id)) };
            let i = child_for(children, key);
            let child = children.get(i).ok_or(Error::Corrupt("a node without children"))?.1;
            path.push((id, i));
            id = child;
        }
        Err(Error::Corrupt("the tree is too deep"))
    }
    fn leaf<D: BlockDevice>(&mut self, disk: &mut Disk<D>, id: u32) -> Result<&Vec<(Key, Vec<u8>)>> {
        match self.node(disk, id)? {
            Node::Leaf(items) => Ok(items),
            Node::Inner(_) => Err(Error::Corrupt("no leaf")),
        }
    }

    /// The value of `key`.
    pub(crate) fn get<D: BlockDevice>(&mut self, disk: &mut Disk<D>, key: &Key) -> Result<Option<Vec<u8>>> {
        let (_, leaf) = self.descend(disk, key)?;
        let items = self.leaf(disk, leaf)?;
        let found = items.binary_search_by(|i| i.0.cmp(key)).ok();
        Ok(found.and_then(|i| items.get(i)).map(|i| i.1.clone()))
    }

    /// The first item whose key is `key` or above.
    pub(crate) fn next<D: BlockDevice>(
        &mut self,
        disk: &mut Disk<D>,
        key: &Key,
    ) -> Result<Option<(Key, Vec<u8>)>> {
        let (path, leaf) = self.descend(disk, key)?;
        let items = self.leaf(disk, leaf)?;
        if let Some(item) = items.get(items.partition_point(|i| i.0 < *key)) {
            return Ok(Some(item.clone()));
        }
        let Some(mut id) = self.neighbour(disk, path, true)? else { return Ok(None) };
        for _ in 0..DEPTH_MAX {
            match self.node(disk, id)? {
                Node::Leaf(items) => return Ok(items.first().cloned()),
                Node::Inner(children) => id = children.first().ok_or(Error::Corrupt("a node"))?.1,
            }
        }
        Err(Error::Corrupt("the tree is too deep"))
    }
    /// The last item whose key is `key` or below.
    pub(crate) fn prev<D: BlockDevice>(
        &mut self,
        disk: &mut Disk<D>,
        key: &Key,
    ) -> Result<Option<(Key, Vec<u8>)>> {
        let (path, leaf) = self.descend(disk, key)?;
        let items = self.leaf(disk, leaf)?;
        let at = items.partition_point(|i| i.0 <= *key);
        if let Some(item) = at.checked_sub(1).and_then(|i| items.get(i)) {
            return Ok(Some(item.clone()));
        }
        let Some(mut id) = self.neighbour(disk, path, false)? else { return Ok(None) };
        for _ in 0..DEPTH_MAX {
            match self.node(disk, id)? {
                Node::Leaf(items) => return Ok(items.last().cloned()),
                Node::Inner(children) => id = children.last().ok_or(Error::Corrupt("a node"))?.1,
            }
        }
        Err(Error::Corrupt("the tree is too deep"))
    }
    /// The subtree beside the end of `path`.
    fn neighbour<D: BlockDevice>(
        &mut self,
        disk: &mut Disk<D>,
        path: Path,
        above: bool,
    ) -> Result<Option<u32>> {
        for (id, i) in path.into_iter().rev() {
            let Node::Inner(children) = self.node(disk, id)? else { continue };
            let beside = if above { Some(i + 1) } else { i.checked_sub(1) };
            if let Some(child) = beside.and_then(|i| children.get(i)) {
                return Ok(Some(child.1));
            }
        }
        Ok(None)
    }

    /// Sets the value of `key`.
    pub(crate) fn set<D: BlockDevice>(
        &mut self,
        disk: &mut Disk<D>,
        space: &mut Space,
        key: Key,
        value: Vec<u8>,
    ) -> Result<()> {
        let (path, leaf) = self.descend(disk, &key)?;
        let node = self.node_mut(disk, leaf)?;
        let Node::Leaf(items) = node else { return Err(Error::Corrupt("no leaf")) };
        let mut at_end = false;
        match items.binary_search_by(|i| i.0.cmp(&key)) {
            Ok(i) => {
                if let Some(item) = items.get_mut(i) {
                    item.1 = value;
                }
            }
            Err(i) => {
                at_end = i == items.len();
                items.insert(i, (key, value));
            }
        }
        self.split(disk, space, path, leaf, at_end)
    }

    /// Splits nodes from `id` upwards while they are too large.
    fn split<D: BlockDevice>(
        &mut self,
        disk: &mut Disk<D>,
        space: &mut Space,
        mut path: Path,
        mut id: u32,
        at_end: bool,
    ) -> Result<()> {
        loop {
            let node = self.node(disk, id)?;
            if node.bytes() <= CAPACITY {
                return Ok(());
            }
            // Items that come in order leave full nodes behind.
            let at = if at_end { node.len() - 1 } else { node.middle() };
            let upper = self.node_mut(disk, id)?.split_off(at);
            let key = upper.first_key().ok_or(Error::Corrupt("an empty node"))?;
            let new = self.add(space, upper)?;
            match path.pop() {
                Some((parent, i)) => {
                    if let Node::Inner(children) = self.node_mut(disk, parent)? {
                        children.insert(i + 1, (key, new));
                    }
                    id = parent;
                }
                None => {
                    let low = self.node(disk, id)?.first_key().ok_or(Error::Corrupt("an empty node"))?;
                    self.root = self.add(space, Node::Inner(alloc::vec![(low, id), (key, new)]))?;
                    return Ok(());
                }
            }
        }
    }

    /// Removes `key`; was it there?
    pub(crate) fn remove<D: BlockDevice>(
        &mut self,
        disk: &mut Disk<D>,
        space: &mut Space,
        key: &Key,
    ) -> Result<bool> {
        let (path, leaf) = self.descend(disk, key)?;
        let items = self.leaf(disk, leaf)?;
        let Ok(i) = items.binary_search_by(|i| i.0.cmp(key)) else { return Ok(false) };
        if let Node::Leaf(items) = self.node_mut(disk, leaf)? {
            items.remove(i);
        }
        self.merge(disk, space, path, leaf)?;
        Ok(true)
    }

    /// Merges nodes from `id` upwards with a neighbour while they are small.
    fn merge<D: BlockDevice>(
        &mut self,
        disk: &mut Disk<D>,
        space: &mut Space,
        mut path: Path,
        mut id: u32,
    ) -> Result<()> {
        while let Some((parent, i)) = path.pop() {
            let (bytes, len) = self.node(disk, id).map(|n| (n.bytes(), n.len()))?;
            if bytes > CAPACITY / 4 {
                break;
            }
            if len == 0 {
                // No leaf but the root is ever empty.
                self.remove_node(disk, space, id)?;
                if let Node::Inner(children) = self.node_mut(disk, parent)? {
                    children.remove(i);
                }
                id = parent;
                continue;
            }
            let Node::Inner(children) = self.node(disk, parent)? else {
                return Err(Error::Corrupt("a parent"));
            };
            let pairs = [(i.checked_sub(1), Some(i)), (Some(i), i.checked_add(1))];
            let pairs = pairs.map(|(a, b)| Some((a?, children.get(a?)?.1, children.get(b?)?.1)));
            for (left_at, left, right) in pairs.into_iter().flatten() {
                if self.node(disk, left)?.bytes() + self.node(disk, right)?.bytes() <= CAPACITY * 3 / 4 {
                    let mut upper = self.node_mut(disk, right)?.split_off(0);
                    if let (Node::Inner(upper), Node::Inner(children)) =
                        (&mut upper, self.node(disk, parent)?)
                        && let (Some(first), Some((key, _))) = (upper.first_mut(), children.get(left_at + 1))
                    {
                        // Its first key counted for nothing; the parent's is the one that holds.
                        first.0 = *key;
                    }
                    self.node_mut(disk, left)?.append(upper);
                    self.remove_node(disk, space, right)?;
                    if let Node::Inner(children) = self.node_mut(disk, parent)? {
                        children.remove(left_at + 1);
                    }
                    break;
                }
            }
            id = parent;
        }
        while let Node::Inner(children) = self.node(disk, self.root)? {
            if children.is_empty() {
                *self.node_mut(disk, self.root)? = Node::Leaf(Vec::new());
                break;
            }
            let [(_, only)] = children[..] else { break };
            let old = core::mem::replace(&mut self.root, only);
            self.remove_node(disk, space, old)?;
        }
        Ok(())
    }

    /// Writes the dirty nodes; they are part of the disk's transaction then.
    pub(crate) fn write<D: BlockDevice>(&mut self, disk: &mut Disk<D>) -> Result<()> {
        for (id, slot) in self.slots.iter_mut().filter(|(_, s)| s.dirty) {
            disk.write(*id, &slot.node.encode())?;
            slot.dirty = false;
            self.dirty -= 1;
        }
        Ok(())
    }

    /// Visits all nodes below `id`, those that can't be read with their error. For checks: nothing is trusted.
    pub(crate) fn visit<D: BlockDevice>(
        &mut self,
        disk: &mut Disk<D>,
        f: &mut dyn FnMut(u32, Result<&Node>),
    ) -> Result<()> {
        let mut todo = alloc::vec![(self.root, 0)];
        while let Some((id, depth)) = todo.pop() {
            let node = self.node(disk, id);
            if let Ok(Node::Inner(children)) = &node
                && depth < DEPTH_MAX
            {
                todo.extend(children.iter().rev().map(|c| (c.1, depth + 1)));
            }
            f(id, node);
        }
        Ok(())
    }
}

/// Is a value short enough for an item?
pub(crate) fn fits(value: &[u8]) -> bool {
    value.len() <= crate::item::VALUE_MAX && item_bytes(value) < CAPACITY / 3
}
