//! fsck: reads everything, proves seals and structure, and names the files that are concerned.
use crate::content::Extent;
use crate::fs::Fs;
use crate::item::{Attr, Kind, Mode, ROOT};
use crate::names::decode_names;
use crate::node::Node;
use crate::xattr;
use crate::{Error, Result};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use occlum_sealed_disk::{BlockDevice, Part};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file concerned, or empty.
    pub path: Vec<u8>,
    /// What is wrong.
    pub what: String,
}

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Inodes.
    pub inodes: u64,
    /// Blocks of the device read.
    pub blocks: u64,
}

/// What the tree says, collected.
#[derive(Default)]
struct Scan {
    attrs: BTreeMap<u64, Attr>,
    /// Names that lead to an inode: how many, and the last.
    refs: BTreeMap<u64, (u32, u64, Vec<u8>)>,
    entries: BTreeMap<u64, u64>,
    subdirs: BTreeMap<u64, u32>,
    orphans: BTreeSet<u64>,
    extents: Vec<(u64, Extent)>,
    nodes: BTreeSet<u32>,
    /// Long attribute values, by inode and number: pieces that there should be, and that there are.
    values: BTreeMap<(u64, u64), (u64, u64)>,
    problems: Vec<(u64, String)>,
}

impl Scan {
    fn node(&mut self, id: u32, node: Result<&Node>) {
        if !self.nodes.insert(id) {
            self.problems.push((0, format!("node {id} is used twice")));
        }
        match node {
            Ok(Node::Leaf(items)) => {
                for (key, value) in items {
                    if let Err(error) = self.item(key.ino, key, value) {
                        self.problems.push((key.ino, format!("{error}")));
                    }
                }
            }
            Ok(Node::Inner(_)) => {}
            Err(error) => self.problems.push((0, format!("node {id}: {error}"))),
        }
    }
    fn item(&mut self, ino: u64, key: &crate::item::Key, value: &[u8]) -> Result<()> {
        match key.kind {
            Kind::Orphan => drop(self.orphans.insert(key.at)),
            Kind::Inode => drop(self.attrs.insert(ino, Attr::decode(value)?)),
            Kind::Extent => self.extents.push((ino, Extent::decode(key, value)?)),
            Kind::Name => {
                for entry in decode_names(value)? {
                    *self.entries.entry(ino).or_default() += 1;
                    if entry.kind == Mode::DIRECTORY {
                        *self.subdirs.entry(ino).or_default() += 1;
                    }
                    let count = self.refs.get(&entry.ino).map_or(0, |r| r.0);
                    self.refs.insert(entry.ino, (count + 1, ino, entry.name));
                }
            }
            Kind::Xattr => {
                for (number, pieces) in xattr::long_values(value)? {
                    self.values.entry((ino, number)).or_default().0 += pieces;
                }
            }
            Kind::Value => self.values.entry((ino, key.at / xattr::PIECES)).or_default().1 += 1,
            Kind::Link => {}
        }
        Ok(())
    }
    /// A path of an inode.
    fn path(&self, mut ino: u64) -> Vec<u8> {
        let mut names: Vec<&[u8]> = Vec::new();
        while let Some((_, dir, name)) = self.refs.get(&ino).filter(|_| ino != ROOT && names.len() < 4096) {
            names.push(name);
            ino = *dir;
        }
        names.iter().rev().flat_map(|n| [b"/", *n].concat()).collect()
    }

    /// Counts and types.
    fn check_links(&mut self) {
        let missing = self.refs.iter().filter(|(ino, _)| !self.attrs.contains_key(ino));
        let mut problems: Vec<(u64, String)> =
            missing.map(|(ino, _)| (*ino, "a name without inode".into())).collect();
        for (ino, attr) in &self.attrs {
            let names = self.refs.get(ino).map_or(0, |r| r.0);
            let want = if attr.is_dir() { self.subdirs.get(ino).map_or(2, |n| n + 2) } else { names };
            let orphan = self.orphans.contains(ino);
            if names == 0 && *ino != ROOT && !orphan {
                problems.push((*ino, format!("inode {ino} has no name")));
            } else if attr.nlink != want && !orphan {
                problems.push((*ino, format!("{} links, but {want} were counted", attr.nlink)));
            }
            if attr.is_dir() && attr.size != self.entries.get(ino).copied().unwrap_or(0) {
                problems.push((*ino, "a wrong number of entries".into()));
            }
        }
        self.problems.append(&mut problems);
    }
    /// Every piece of an attribute's value is there, and no other.
    fn check_values(&mut self) {
        for ((ino, _), _) in self.values.iter().filter(|(_, (want, have))| want != have) {
            self.problems.push((*ino, "an extended attribute is not whole".into()));
        }
    }
    /// No block belongs to two.
    fn check_extents(&mut self) {
        let mut blocks: BTreeMap<u64, u64> = BTreeMap::new();
        let mut by_place: Vec<(u64, Extent)> = self.extents.clone();
        by_place.sort_by_key(|(_, e)| e.block);
        let mut end = 0;
        for (ino, e) in by_place {
            *blocks.entry(ino).or_default() += u64::from(e.len);
            if e.block < end || self.nodes.range(e.block..e.block + e.len).next().is_some() {
                self.problems.push((ino, "a block that belongs to something else as well".into()));
            }
            end = e.block + e.len;
        }
        for (ino, attr) in &self.attrs {
            if attr.blocks != blocks.get(ino).copied().unwrap_or(0) {
                self.problems.push((*ino, "a wrong number of blocks".into()));
            }
        }
    }
    /// The file that a logical block belongs to.
    fn owner(&self, block: u32) -> Option<u64> {
        self.extents.iter().find(|(_, e)| (e.block..e.block + e.len).contains(&block)).map(|(ino, _)| *ino)
    }
}

impl<D: BlockDevice> Fs<D> {
    /// Checks everything. What is dirty is committed first.
    pub fn check(&mut self) -> Result<Report> {
        match self.commit() {
            Err(Error::Disk(occlum_sealed_disk::Error::Failed)) => {} // read-only
            other => other?,
        }
        let mut scan = Scan::default();
        self.tree.visit(&mut self.disk, &mut |id, node| scan.node(id, node))?;
        scan.check_links();
        scan.check_values();
        scan.check_extents();
        for (ino, e) in &scan.extents {
            if (e.block..e.block + e.len).any(|b| !self.space.is_used(b)) {
                scan.problems.push((*ino, "a block that is listed as free".into()));
                break;
            }
        }
        let mut damaged = Vec::new();
        let blocks = self.disk.scrub(&mut |part| damaged.push(part))?;
        for part in damaged {
            let ino = if let Part::Data(block) = part { scan.owner(block) } else { None };
            scan.problems.push((ino.unwrap_or(0), format!("damaged: {part}")));
        }
        let problems = scan.problems.iter();
        let findings =
            problems.map(|(ino, what)| Finding { path: scan.path(*ino), what: what.clone() }).collect();
        Ok(Report { findings, inodes: scan.attrs.len() as u64, blocks })
    }
}
