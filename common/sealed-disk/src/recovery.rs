//! Making and opening stores: choose the newer superblock, ask the trusted store, read the bitmap, replay the
//! journal. Of the journal only the last commit can be torn: each one before it was flushed before its successor
//! was written. So that one's data is verified, unless it says that it was durable before.
use super::{BLOCKS_MIN, Disk, Options, SPACE_NODES, data, supersede};
use crate::device::{BLOCK, BlockDevice, DeviceError};
use crate::error::{Error, Part};
use crate::freshness::{Freshness, Mark};
use crate::guard::{Kind, SEAL, Seal};
use crate::io::{Entry, Io};
use crate::journal::{Chain, Commit, START};
use crate::keys::{Key, Random};
use crate::space::Space;
use crate::superblock::{self, Body, Header};
use crate::tree::{HEIGHT_MAX, Tree};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Blocks of journal in a store of `total` blocks.
fn journal_size(total: u64) -> u64 {
    (total / 64).clamp(8, 4096)
}

fn check_bitmap(total: u64, options: &Options) -> Result<(), Error> {
    if total.div_ceil(8) > options.bitmap { Err(Error::Memory) } else { Ok(()) }
}

fn draw<const N: usize>(random: &mut dyn Random) -> [u8; N] {
    let mut bytes = [0; N];
    random.fill(&mut bytes);
    bytes
}

impl<D: BlockDevice> Disk<D> {
    /// Makes a store on all of the device; what was there is lost.
    pub fn format(
        mut device: D,
        key: Key<'_>,
        random: &mut dyn Random,
        freshness: Option<Box<dyn Freshness + Send>>,
        options: Options,
    ) -> Result<Self, Error> {
        let total = device.blocks().min(u64::from(u32::MAX));
        if total < BLOCKS_MIN {
            return Err(Error::Size);
        }
        check_bitmap(total, &options)?;
        let (header, journal_blocks) = match key {
            // Anybody could write a journal that needs no key; and images are the same bytes each time.
            Key::None => (Header::new(&[0; 16], None), 0),
            Key::Root(root) => {
                let mut header = Header::new(&draw(random), Some(draw(random)));
                header.wrap(root, draw(random));
                (header, journal_size(total))
            }
        };
        let zeros = [0; BLOCK];
        device.write(0, &zeros)?;
        device.write(1, &zeros)?;
        let body = Body {
            generation: 0,
            total,
            journal_blocks,
            map_height: 1,
            space_height: 1,
            map: Entry::HOLE,
            space: Entry::HOLE,
        };
        let io = Io::new(device, header.guard(draw(random)));
        let mut disk = Self::assemble(io, header, &body, [0; SEAL], options);
        disk.freshness = freshness;
        disk.space.dirty.insert(0);
        disk.must_checkpoint = true;
        disk.checkpoint()?;
        Ok(disk)
    }

    fn assemble(io: Io<D>, header: Header, body: &Body, seal: Seal, options: Options) -> Self {
        let mut space = Space::new(body.total);
        for block in 0..START + body.journal_blocks {
            space.take(block);
        }
        Self {
            io,
            header,
            map: Tree::new(Kind::Map, Kind::Data, body.map, body.map_height, options.cache_nodes),
            space_tree: Tree::new(Kind::SpaceTree, Kind::Space, body.space, body.space_height, SPACE_NODES),
            space,
            tx: BTreeMap::new(),
            pending: BTreeMap::new(),
            chain: Chain::after(seal),
            journal_blocks: body.journal_blocks,
            generation: body.generation,
            seal,
            must_checkpoint: false,
            options,
            freshness: None,
            trusted: None,
            top: 0,
        }
    }

    /// Opens a store, as its last commit left it.
    pub fn open(
        mut device: D,
        key: Key<'_>,
        random: &mut dyn Random,
        freshness: Option<Box<dyn Freshness + Send>>,
        mut options: Options,
    ) -> Result<Self, Error> {
        // What is written would have another root.
        options.read_only |= options.expected_root.is_some();
        let (header, body, seal) = newest(&mut device, key)?;
        check_body(&header, &body, device.blocks())?;
        check_bitmap(body.total, &options)?;
        if options.expected_root.is_some_and(|root| root != seal) {
            return Err(Error::WrongRoot);
        }
        let io = Io::new(device, header.guard(draw(random)));
        let mut disk = Self::assemble(io, header, &body, seal, options);
        if !options.read_only {
            disk.load_space()?;
        }
        if !options.read_only {
            disk.top = match disk.map.last(&mut disk.io) {
                // Damage is reported where somebody needs what is damaged.
                Err(Error::Damaged(_)) => 128u32.saturating_pow(body.map_height),
                other => other?,
            };
        }
        // A pinned root is all there is: who has the key could write commits behind it.
        if options.expected_root.is_none() {
            disk.replay()?;
        }
        disk.check_fresh(freshness)?;
        Ok(disk)
    }

    /// Reads the bitmap; what holds it is in use as well.
    fn load_space(&mut self) -> Result<(), Error> {
        let blocks = u64::from(self.space.bitmap_blocks());
        let space = &mut self.space;
        self.space_tree.visit(&mut self.io, &mut |io, place, entry| {
            if place.kind == Kind::Space && place.index >= blocks {
                return Err(Error::Damaged(Part::Space(place.index as u32)));
            }
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(BLOCK).map_err(|_| Error::Memory)?;
            bytes.resize(BLOCK, 0);
            io.load(&place, &entry, &mut bytes)?;
            if place.kind == Kind::Space {
                space.restore(place.index as u32, &bytes);
            }
            space.own.insert(entry.block);
            space.take(u64::from(entry.block));
            Ok(())
        })
    }

    fn replay(&mut self) -> Result<(), Error> {
        let mut commits = self.chain.replay(&mut self.io, self.journal_blocks)?;
        if let Some(last) = commits.last()
            && !last.durable
            && !self.is_whole(last)?
        {
            commits.pop();
        }
        for commit in commits {
            for (block, entry) in commit.changes {
                if !entry.is_hole() && !self.options.read_only {
                    self.space.take(u64::from(entry.block));
                }
                supersede(&mut self.pending, &mut self.space, block, entry);
                self.top = self.top.max(block);
            }
            self.chain = commit.chain;
        }
        Ok(())
    }

    /// Did all data of this commit reach the device?
    fn is_whole(&mut self, commit: &Commit) -> Result<bool, Error> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(BLOCK).map_err(|_| Error::Memory)?;
        bytes.resize(BLOCK, 0);
        for (block, entry) in commit.changes.iter().filter(|(_, e)| !e.is_hole()) {
            match self.io.load(&data(*block), entry, &mut bytes) {
                Ok(()) => {}
                Err(Error::Damaged(_) | Error::Truncated { .. }) => return Ok(false),
                Err(other) => return Err(other),
            }
        }
        Ok(true)
    }

    /// Compares with the trusted store; a writer starts a new generation, which it tells it.
    fn check_fresh(&mut self, freshness: Option<Box<dyn Freshness + Send>>) -> Result<(), Error> {
        let Some(mut freshness) = freshness else { return Ok(()) };
        let trusted = freshness.read(&self.header.id())?;
        let found = self.mark();
        if let Some(trusted) = trusted {
            compare(&found, &trusted)?;
        }
        self.freshness = Some(freshness);
        self.trusted = trusted;
        if self.options.read_only {
            return Ok(());
        }
        // A generation of its own for each writer: of two that were shown copies the second is refused here, and
        // states that differ in commits only are no longer taken for each other.
        match self.checkpoint() {
            Err(Error::Full | Error::Device(DeviceError::NoSpace) | Error::Damaged(_)) => self.advance(),
            other => other,
        }
    }
}

/// Is `found` a state that may follow `trusted`?
fn compare(found: &Mark, trusted: &Mark) -> Result<(), Error> {
    let order = |m: &Mark| (m.generation, m.commits);
    if found.generation == trusted.generation && found.seal != trusted.seal {
        return Err(Error::Forked);
    }
    if order(found) < order(trusted) {
        return Err(Error::RolledBack { found: order(found), trusted: order(trusted) });
    }
    Ok(())
}

/// The newer of the superblocks that open; if none does, what is wrong with the better one.
fn newest<D: BlockDevice>(device: &mut D, key: Key<'_>) -> Result<(Header, Body, Seal), Error> {
    if device.blocks() < 2 {
        return Err(Error::NotAStore);
    }
    let mut best: Result<(Header, Body, Seal), Error> = Err(Error::NotAStore);
    for slot in 0..2 {
        let mut block = [0; BLOCK];
        device.read(slot, &mut block)?;
        let found = superblock::decode(&block, slot, key);
        best = match (best, found) {
            (Ok(a), Ok(b)) => Ok(if b.1.generation > a.1.generation { b } else { a }),
            (Ok(a), Err(_)) => Ok(a),
            (Err(Error::NotAStore), found) => found,
            (Err(_), Ok(b)) => Ok(b),
            (Err(a), Err(_)) => Err(a),
        };
    }
    best
}

fn check_body(header: &Header, body: &Body, device: u64) -> Result<(), Error> {
    if body.total > device {
        return Err(Error::Truncated { expected: body.total, found: device });
    }
    let heights = [body.map_height, body.space_height];
    let journal_ok =
        if header.data_key.is_some() { body.journal_blocks <= 4096 } else { body.journal_blocks == 0 };
    if !journal_ok
        || body.total < BLOCKS_MIN.max(START + body.journal_blocks)
        || body.total > u64::from(u32::MAX)
        || heights.iter().any(|h| !(1..=HEIGHT_MAX).contains(h))
    {
        return Err(Error::Damaged(Part::Superblock));
    }
    Ok(())
}
