//! The file system against a model in memory: random operations, crashes, remounts, damage.
//!
//! `OCCLUM_TEST_SEED` repeats a run; `OCCLUM_CRASH_POINTS`, `OCCLUM_MUTATIONS` and `OCCLUM_FSX_OPS` make campaigns
//! of the slices (`make sealed-campaign`).
#[path = "../../sealed-disk/tests/common/mod.rs"]
mod common;

use common::{Slice, number, seed};
use occlum_sealed_disk::testing::{Crashes, Recorder, Rng};
use occlum_sealed_disk::{BLOCK, BlockDevice, Disk, Key, MemDevice, Options};
use occlum_sealed_fs::{Attr, Error, Fs, FsOptions, Mode, Owner, ROOT, SetAttr};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;

const KEY: Key<'static> = Key::Root(&[3; 32]);
const BLOCKS: usize = 2048;

/// Small limits, so that write-back, eviction and checkpoints happen all the time.
fn small(rng: &mut Rng) -> (Options, FsOptions) {
    let disk = Options { cache_nodes: 8, max_pending: 50 + rng.below(300) as usize, ..Options::default() };
    (
        disk,
        FsOptions { pages: 64, dirty_pages: 8 + rng.below(60) as usize, nodes: 64, ..FsOptions::default() },
    )
}
fn format<D: BlockDevice>(device: D, rng: &mut Rng) -> Fs<D> {
    let (options, fs) = small(rng);
    let disk = Disk::format(device, KEY, rng, None, options).expect("format");
    Fs::format(disk, rng.number(), fs, 1).expect("format")
}
fn mount<D: BlockDevice>(device: D, rng: &mut Rng) -> Result<Fs<D>, Error> {
    let (options, fs) = small(rng);
    Fs::mount(Disk::open(device, KEY, rng, None, options).map_err(Error::from)?, fs, false)
}

/// What can be seen of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    nlink: u32,
    size: u64,
    content: u64,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}
type Dump = BTreeMap<Vec<u8>, Seen>;

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// The model: inodes by number, as Linux would have them.
#[derive(Clone, Default)]
struct Node {
    mode: u32,
    nlink: u32,
    data: Vec<u8>,
    entries: BTreeMap<Vec<u8>, u64>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    parent: u64,
}
#[derive(Clone)]
struct Model {
    nodes: BTreeMap<u64, Node>,
}

impl Model {
    fn new() -> Self {
        let root = Node { mode: Mode::DIRECTORY | 0o755, nlink: 2, parent: ROOT, ..Node::default() };
        Self { nodes: BTreeMap::from([(ROOT, root)]) }
    }
    fn node(&mut self, ino: u64) -> &mut Node {
        self.nodes.get_mut(&ino).expect("a node")
    }
    fn is_dir(&self, ino: u64) -> bool {
        self.nodes[&ino].mode & Mode::TYPE == Mode::DIRECTORY
    }
    fn dump(&self) -> Dump {
        let mut out = Dump::new();
        let mut todo = vec![(Vec::new(), ROOT)];
        while let Some((path, ino)) = todo.pop() {
            let node = &self.nodes[&ino];
            let size = if self.is_dir(ino) { node.entries.len() } else { node.data.len() } as u64;
            let (mode, nlink, xattrs) = (node.mode, node.nlink, node.xattrs.clone());
            out.insert(path.clone(), Seen { mode, nlink, size, content: digest(&node.data), xattrs });
            todo.extend(node.entries.iter().map(|(name, ino)| ([&path[..], b"/", name].concat(), *ino)));
        }
        out
    }
    fn directories(&self) -> Vec<u64> {
        self.nodes.keys().copied().filter(|i| self.is_dir(*i) && self.nodes[i].nlink > 0).collect()
    }
    fn files(&self) -> Vec<u64> {
        let file = |n: &Node| n.mode & Mode::TYPE == Mode::REGULAR && n.nlink > 0;
        self.nodes.iter().filter(|(_, n)| file(n)).map(|(i, _)| *i).collect()
    }
    fn drop_link(&mut self, ino: u64) {
        let dir = self.is_dir(ino);
        let node = self.node(ino);
        node.nlink = if dir { 0 } else { node.nlink - 1 };
        if node.nlink == 0 {
            self.nodes.remove(&ino);
        }
    }
    fn below(&self, mut dir: u64, ancestor: u64) -> bool {
        while dir != ROOT && dir != ancestor {
            dir = self.nodes[&dir].parent;
        }
        dir == ancestor
    }
    fn rename(&mut self, dir: u64, old: &[u8], to: u64, new: &[u8], exchange: bool) -> Result<(), Error> {
        let from = *self.nodes[&dir].entries.get(old).ok_or(Error::NotFound)?;
        let target = self.nodes[&to].entries.get(new).copied();
        if self.is_dir(from) && self.below(to, from) {
            return Err(Error::Invalid);
        }
        let Some(target) = target else {
            if exchange {
                return Err(Error::NotFound);
            }
            self.detach(dir, old);
            self.attach(to, new, from);
            return Ok(());
        };
        if target == from {
            return Ok(());
        }
        if exchange {
            if self.is_dir(target) && self.below(dir, target) {
                return Err(Error::Invalid);
            }
            self.detach(to, new);
            self.detach(dir, old);
            self.attach(to, new, from);
            self.attach(dir, old, target);
            return Ok(());
        }
        match (self.is_dir(from), self.is_dir(target)) {
            (true, false) => return Err(Error::NotDirectory),
            (false, true) => return Err(Error::IsDirectory),
            (true, true) if !self.nodes[&target].entries.is_empty() => return Err(Error::NotEmpty),
            _ => {}
        }
        self.detach(to, new);
        self.detach(dir, old);
        self.attach(to, new, from);
        self.drop_link(target);
        Ok(())
    }
    fn attach(&mut self, dir: u64, name: &[u8], ino: u64) {
        self.node(dir).entries.insert(name.to_vec(), ino);
        if self.is_dir(ino) {
            self.node(dir).nlink += 1;
            self.node(ino).parent = dir;
        }
    }
    fn detach(&mut self, dir: u64, name: &[u8]) {
        let ino = self.node(dir).entries.remove(name).expect("a name");
        if self.is_dir(ino) {
            self.node(dir).nlink -= 1;
        }
    }
}

fn read_all<D: BlockDevice>(fs: &mut Fs<D>, ino: u64, attr: &Attr) -> Result<Vec<u8>, Error> {
    match attr.mode & Mode::TYPE {
        Mode::REGULAR => {
            let mut data = vec![0; attr.size as usize];
            assert_eq!(fs.read(ino, 0, &mut data)?, data.len());
            Ok(data)
        }
        Mode::LINK => fs.readlink(ino),
        _ => Ok(Vec::new()),
    }
}
fn dump<D: BlockDevice>(fs: &mut Fs<D>) -> Result<Dump, Error> {
    let mut out = Dump::new();
    let mut todo = vec![(Vec::new(), ROOT)];
    while let Some((path, ino)) = todo.pop() {
        let attr = fs.attr(ino)?;
        let mut xattrs = BTreeMap::new();
        for name in fs.list_xattr(ino)? {
            xattrs.insert(name.clone(), fs.get_xattr(ino, &name)?);
        }
        let content = digest(&read_all(fs, ino, &attr)?);
        out.insert(
            path.clone(),
            Seen { mode: attr.mode, nlink: attr.nlink, size: attr.size, content, xattrs },
        );
        if attr.is_dir() {
            let (entries, _) = fs.list(ino, 0, usize::MAX)?;
            todo.extend(entries.into_iter().map(|e| ([&path[..], b"/", &e.name].concat(), e.ino)));
        }
    }
    Ok(out)
}
fn assert_same<D: BlockDevice>(fs: &mut Fs<D>, model: &Model, what: &str) {
    assert_eq!(dump(fs).expect("dump"), model.dump(), "{what}");
}

fn pick(from: &[u64], rng: &mut Rng) -> u64 {
    from[rng.below(from.len() as u64) as usize]
}
fn name(rng: &mut Rng) -> Vec<u8> {
    let long = if rng.one_in(4) { "-with-a-long-name".repeat(rng.below(14) as usize) } else { String::new() };
    format!("{}{long}", rng.below(14)).into_bytes()
}

/// One random operation on both; they must agree, on errors as well.
fn operate<D: BlockDevice>(fs: &mut Fs<D>, model: &mut Model, rng: &mut Rng, now: i64) {
    let (dirs, files) = (model.directories(), model.files());
    let (dir, to) = (pick(&dirs, rng), pick(&dirs, rng));
    let (one, two) = (name(rng), name(rng));
    let owner = Owner { uid: 1, gid: 2, now };
    let known = model.nodes[&dir].entries.get(&one).copied();
    match rng.below(14) {
        0..=2 => {
            let mode = if rng.one_in(4) { Mode::DIRECTORY | 0o700 } else { Mode::REGULAR | 0o644 };
            let made = fs.create(dir, &one, mode, 0, owner);
            assert_eq!(made.err(), known.map(|_| Error::Exists), "create");
            if let Ok(ino) = made {
                let nlink = if mode & Mode::TYPE == Mode::DIRECTORY { 2 } else { 1 };
                model.nodes.insert(ino, Node { mode, nlink, ..Node::default() });
                model.attach(dir, &one, ino);
            }
        }
        3 => {
            let target = vec![b'x'; rng.below(4000) as usize];
            let made = fs.symlink(dir, &one, &target, owner);
            assert_eq!(made.err(), known.map(|_| Error::Exists), "symlink");
            if let Ok(ino) = made {
                let mode = Mode::LINK | 0o777;
                model.nodes.insert(ino, Node { mode, nlink: 1, data: target, ..Node::default() });
                model.attach(dir, &one, ino);
            }
        }
        4 => {
            let expected = match known {
                None => Some(Error::NotFound),
                Some(i) if model.is_dir(i) => Some(Error::IsDirectory),
                Some(_) => None,
            };
            assert_eq!(fs.unlink(dir, &one, now).err(), expected, "unlink");
            if let (None, Some(ino)) = (expected, known) {
                model.detach(dir, &one);
                model.drop_link(ino);
            }
        }
        5 => {
            let expected = match known {
                None => Some(Error::NotFound),
                Some(i) if !model.is_dir(i) => Some(Error::NotDirectory),
                Some(i) if !model.nodes[&i].entries.is_empty() => Some(Error::NotEmpty),
                Some(_) => None,
            };
            assert_eq!(fs.rmdir(dir, &one, now).err(), expected, "rmdir");
            if let (None, Some(ino)) = (expected, known) {
                model.detach(dir, &one);
                model.drop_link(ino);
            }
        }
        6 | 7 => {
            let exchange = rng.one_in(4);
            let expected = model.rename(dir, &one, to, &two, exchange);
            assert_eq!(fs.rename(dir, &one, to, &two, exchange, now), expected, "rename");
        }
        8 if !files.is_empty() => {
            let ino = pick(&files, rng);
            let expected = known.map(|_| Error::Exists);
            assert_eq!(fs.link(dir, &one, ino, now).err(), expected, "link");
            if expected.is_none() {
                model.attach(dir, &one, ino);
                model.node(ino).nlink += 1;
            }
        }
        9 => {
            let ino = known.unwrap_or(dir);
            if let Some(name) = model.nodes[&ino].xattrs.keys().next().cloned().filter(|_| rng.one_in(2)) {
                fs.remove_xattr(ino, &name, now).expect("remove_xattr");
                model.node(ino).xattrs.remove(&name);
                return;
            }
            let long = if rng.one_in(5) { 65_537 } else { 900 };
            let value = vec![7; rng.below(long) as usize];
            fs.set_xattr(ino, &two, &value, None, now).expect("set_xattr");
            model.node(ino).xattrs.insert(two.clone(), value);
        }
        10 => {
            let ino = known.unwrap_or(dir);
            let mode = rng.below(0o7777) as u32;
            fs.set_attr(ino, &SetAttr { mode: Some(mode), ..SetAttr::default() }, now).expect("set_attr");
            let node = model.node(ino);
            node.mode = node.mode & Mode::TYPE | mode;
        }
        _ if !files.is_empty() => {
            let ino = pick(&files, rng);
            edit(fs, ino, &mut model.node(ino).data, rng, now);
        }
        _ => {}
    }
}

/// One random operation on the content of a file.
fn edit<D: BlockDevice>(fs: &mut Fs<D>, ino: u64, data: &mut Vec<u8>, rng: &mut Rng, now: i64) {
    let far = if rng.one_in(5) { 150_000 } else { data.len() as u64 + 10_000 };
    let off = rng.below(far) as usize;
    let long = if rng.one_in(4) { 30_000 } else { 3000 };
    let len = rng.below(long) as usize + 1;
    let end = off + len;
    match rng.below(11) {
        0..=3 => {
            let fill: Vec<u8> = (0..len).map(|_| rng.number() as u8).collect();
            assert_eq!(fs.write(ino, off as u64, &fill, now), Ok(len));
            data.resize(data.len().max(end), 0);
            data[off..end].copy_from_slice(&fill);
        }
        4 => {
            fs.truncate(ino, off as u64, now).expect("truncate");
            data.resize(off, 0);
        }
        5 => {
            fs.punch(ino, off as u64, len as u64, now).expect("punch");
            let (from, to) = (off.min(data.len()), end.min(data.len()));
            data[from..to].fill(0);
        }
        6 => {
            let extend = rng.one_in(2);
            fs.allocate(ino, off as u64, len as u64, extend, now).expect("allocate");
            if extend {
                data.resize(data.len().max(end), 0);
            }
        }
        7 => {
            let (data_at, hole) = (fs.seek(ino, off as u64, true), fs.seek(ino, off as u64, false));
            let size = data.len() as u64;
            match data_at.expect("seek") {
                Some(at) => assert!(at < size && data[off..at as usize].iter().all(|b| *b == 0)),
                None => assert!(data.iter().skip(off).all(|b| *b == 0)),
            }
            assert_eq!(hole.expect("seek").is_none(), off as u64 >= size);
        }
        8 | 9 => shift(fs, ino, data, off / BLOCK * BLOCK, len.next_multiple_of(BLOCK), rng.one_in(2), now),
        _ => {
            let mut buf = vec![1; len];
            let n = fs.read(ino, off as u64, &mut buf).expect("read");
            assert_eq!(n, len.min(data.len().saturating_sub(off)));
            assert!(buf[..n] == data[off.min(data.len())..off.min(data.len()) + n]);
        }
    }
}

/// Takes blocks out of the file, or puts some in.
fn shift<D: BlockDevice>(
    fs: &mut Fs<D>,
    ino: u64,
    data: &mut Vec<u8>,
    off: usize,
    len: usize,
    insert: bool,
    now: i64,
) {
    let invalid = if insert { off >= data.len() } else { off + len >= data.len() };
    let (at, by) = (off as u64, len as u64);
    let done = if insert { fs.insert(ino, at, by, now) } else { fs.collapse(ino, at, by, now) };
    assert_eq!(done, if invalid { Err(Error::Invalid) } else { Ok(()) });
    if invalid {
        return;
    }
    if insert {
        data.splice(off..off, std::iter::repeat_n(0, len));
    } else {
        data.drain(off..off + len);
    }
    assert_eq!(fs.collapse(ino, 1, by, now), Err(Error::Invalid));
    assert_eq!(fs.insert(ino, at, by + 1, now), Err(Error::Invalid));
}

fn assert_sound<D: BlockDevice>(fs: &mut Fs<D>, what: &str) {
    let report = fs.check().expect("check");
    assert!(report.findings.is_empty(), "{what}: {:?}", report.findings);
}

#[test]
fn random_operations_agree_with_the_model() {
    let mut rng = Rng(seed());
    let (slice, mut done) = (Slice::of("OCCLUM_MODEL_ROUNDS"), 0);
    while slice.more(done) {
        done += 1;
        let (mut fs, mut model) = (format(MemDevice::new(3 * BLOCKS), &mut rng), Model::new());
        for now in 0..1500 {
            operate(&mut fs, &mut model, &mut rng, now);
            if rng.one_in(150) {
                assert_same(&mut fs, &model, "while mounted");
            }
            if rng.one_in(40) {
                fs.commit().expect("commit");
            }
            if rng.one_in(300) {
                fs = mount(fs.unmount().expect("unmount"), &mut rng).expect("mount");
                assert_same(&mut fs, &model, "after a remount");
                assert_sound(&mut fs, "after a remount");
            }
        }
        assert_same(&mut fs, &model, "at the end");
        assert_sound(&mut fs, "at the end");
    }
}

#[test]
fn fsx() {
    let (slice, mut ops) = (Slice::of("OCCLUM_FSX_OPS"), 0);
    let mut rng = Rng(seed());
    let mut fs = format(MemDevice::new(3 * BLOCKS), &mut rng);
    let ino = fs.create(ROOT, b"file", Mode::REGULAR | 0o644, 0, Owner::default()).expect("create");
    let mut data = Vec::new();
    while slice.more(ops) {
        ops += 1;
        edit(&mut fs, ino, &mut data, &mut rng, ops as i64);
        match rng.below(200) {
            0 => fs.commit().expect("commit"),
            1 => fs = mount(fs.unmount().expect("unmount"), &mut rng).expect("mount"),
            2 => {
                let attr = fs.attr(ino).expect("attr");
                assert!(read_all(&mut fs, ino, &attr).expect("read") == data);
            }
            _ => {}
        }
    }
    assert_sound(&mut fs, "at the end");
    println!("fsx operations: {ops}");
}

#[test]
fn a_crash_leaves_a_moment_between_operations() {
    let slice = Slice::of("OCCLUM_CRASH_POINTS");
    let mut rng = Rng(seed());
    let mut done = 0;
    while slice.more(done) {
        let device = Recorder::new(BLOCKS);
        let count = device.count.clone();
        let steps = || count.load(Ordering::Relaxed) as usize;
        let (mut fs, mut model) = (format(device, &mut rng), Model::new());
        // Every state that a commit (also one that happens by itself) can have made durable: one an operation.
        let mut states = vec![(steps(), model.dump())];
        let mut synced = vec![(steps(), 0)];
        for now in 0..120 {
            operate(&mut fs, &mut model, &mut rng, now);
            states.push((steps(), model.dump()));
            if rng.one_in(8) {
                fs.commit().expect("commit");
                synced.push((steps(), states.len() - 1));
            }
        }
        let device = fs.abandon().abandon();
        let mut crashes = Crashes::new(&device.steps, BLOCKS);
        let stride = 1 + device.steps.len() / 60;
        while crashes.at() < device.steps.len() && slice.more(done) {
            crashes.advance(crashes.at() + 1 + rng.below(stride as u64) as usize);
            let at = crashes.at();
            let Some((_, first)) = synced.iter().rev().find(|(step, _)| *step <= at) else { continue };
            // A commit can happen in the middle of the first operation that began before the crash and ended after.
            let last = states.iter().position(|(step, _)| *step > at).unwrap_or(states.len() - 1);
            let image = if rng.one_in(3) { crashes.whole() } else { crashes.torn(&mut rng) };
            let mut fs = mount(image, &mut rng).expect("a store mounts after a crash");
            let found = dump(&mut fs).expect("dump");
            let same =
                (*first..=last).rev().any(|i| states[i].1 == found) || partial(&states[last].1, &found);
            assert!(same, "after {at} steps: not a state from {first} to {last}");
            assert_sound(&mut fs, "after a crash");
            done += 1;
        }
    }
    println!("crash points: {done}");
}

/// A large write is several operations: a crash may leave the beginning of it.
fn partial(whole: &Dump, found: &Dump) -> bool {
    whole.keys().eq(found.keys()) && whole.iter().zip(found).filter(|(a, b)| a != b).count() <= 1
}

#[test]
fn unlinked_open_files_live_until_released() {
    let mut rng = Rng(seed());
    let mut fs = format(MemDevice::new(BLOCKS), &mut rng);
    let ino = fs.create(ROOT, b"f", Mode::REGULAR | 0o600, 0, Owner::default()).expect("create");
    fs.write(ino, 0, &[5; 100_000], 1).expect("write");
    fs.hold(ino);
    fs.unlink(ROOT, b"f", 2).expect("unlink");
    let mut buf = [0; 10];
    assert_eq!(fs.read(ino, 99_995, &mut buf), Ok(5));
    fs.commit().expect("commit");
    let files = fs.statfs().files;
    let mut again = mount(fs.abandon().abandon(), &mut rng).expect("mount after a crash");
    assert_eq!(again.statfs().files, files - 1);
    assert_eq!(again.attr(ino), Err(Error::NotFound));
    assert_sound(&mut again, "orphans removed");
}

#[test]
fn a_full_store_says_so_and_recovers() {
    let mut rng = Rng(seed());
    let mut fs = format(MemDevice::new(BLOCKS), &mut rng);
    let ino = fs.create(ROOT, b"f", Mode::REGULAR | 0o600, 0, Owner::default()).expect("create");
    let mut size = 0;
    let error = loop {
        match fs.write(ino, size, &[9; 20_000], 1) {
            Ok(n) => size += n as u64,
            Err(error) => break error,
        }
    };
    assert_eq!(error, Error::NoSpace);
    assert!(size > BLOCKS as u64 * 4096 / 2, "{size}");
    fs.commit().expect("what was accepted becomes durable");
    for round in 0..10 {
        fs.truncate(ino, 1000, round).expect("truncate");
        assert_eq!(fs.write(ino, 1000, &[9; 1_000_000], 1), Ok(1_000_000));
        fs.commit().expect("commit");
    }
    fs.unlink(ROOT, b"f", 2).expect("unlink");
    fs.commit().expect("commit");
    assert_sound(&mut fs, "after it was full");
}

#[test]
fn a_limit_is_kept_and_can_be_lifted() {
    let mut rng = Rng(seed());
    let mut fs = format(MemDevice::new(BLOCKS), &mut rng);
    fs.set_limit(Some(300)).expect("limit");
    let ino = fs.create(ROOT, b"f", Mode::REGULAR | 0o600, 0, Owner::default()).expect("create");
    let mut size = 0;
    while let Ok(n) = fs.write(ino, size, &[9; 20_000], 1) {
        size += n as u64;
    }
    fs.commit().expect("commit");
    assert!((250..300).contains(&(size / BLOCK as u64)), "{size}");
    assert!(fs.statfs().free < 6 && fs.statfs().blocks == 300, "{:?}", fs.statfs());
    let mut fs = mount(fs.unmount().expect("unmount"), &mut rng).expect("mount");
    assert_eq!(fs.write(ino, size, &[9; 40_000], 1), Err(Error::NoSpace));
    fs.truncate(ino, size / 2, 2).expect("truncate");
    assert_eq!(fs.write(ino, size / 2, &[9; 40_000], 3), Ok(40_000));
    fs.set_limit(None).expect("no limit");
    assert_eq!(fs.write(ino, size, &[9; 1_000_000], 1), Ok(1_000_000));
    assert_sound(&mut fs, "after a limit");
}

#[test]
fn directories_of_many_entries() {
    let count = number("OCCLUM_DIRECTORY_ENTRIES", 10_000);
    let mut rng = Rng(seed());
    let disk =
        Disk::format(MemDevice::new(16 * BLOCKS), KEY, &mut rng, None, Options::default()).expect("format");
    let mut fs = Fs::format(disk, 1, FsOptions::default(), 1).expect("format");
    for i in 0..count {
        let name = format!("file-{i}");
        fs.create(ROOT, name.as_bytes(), Mode::REGULAR | 0o600, 0, Owner::default()).expect("create");
    }
    let (mut seen, mut from) = (0, Some(0));
    while let Some(position) = from {
        let (entries, next) = fs.list(ROOT, position, 1000).expect("list");
        seen += entries.len() as u64;
        from = next;
    }
    assert_eq!(seen, count);
    assert_sound(&mut fs, "with all");
    for i in (0..count).rev() {
        fs.unlink(ROOT, format!("file-{i}").as_bytes(), 2).expect("unlink");
    }
    assert_eq!(fs.statfs().files, 1);
    assert_sound(&mut fs, "empty again");
}

#[test]
fn damage_is_found_by_name() {
    let mut rng = Rng(seed());
    let mut fs = format(MemDevice::new(BLOCKS), &mut rng);
    let dir = fs.create(ROOT, b"dir", Mode::DIRECTORY | 0o700, 0, Owner::default()).expect("create");
    let mut inodes = Vec::new();
    for i in 0..8 {
        let ino = fs.create(dir, format!("f{i}").as_bytes(), Mode::REGULAR | 0o600, 0, Owner::default());
        let ino = ino.expect("create");
        fs.write(ino, 0, &vec![i + 1; 40_000], 1).expect("write");
        inodes.push(ino);
    }
    let good = fs.unmount().expect("unmount");
    let (slice, mut done, mut found) = (Slice::of("OCCLUM_MUTATIONS"), 0, 0);
    while slice.more(done) || found == 0 {
        done += 1;
        let mut device = good.clone();
        let bit = rng.below(8 * device.bytes.len() as u64) as usize;
        device.bytes[bit / 8] ^= 1 << (bit % 8);
        let Ok(mut fs) = mount(device, &mut rng) else { continue };
        let mut bad = Vec::new();
        for (i, ino) in inodes.iter().enumerate() {
            let mut data = vec![0; 40_000];
            match fs.read(*ino, 0, &mut data) {
                Ok(n) => assert!(n == 40_000 && data.iter().all(|b| *b == i as u8 + 1), "wrong data"),
                Err(error) => {
                    assert!(matches!(error, Error::Disk(occlum_sealed_disk::Error::Damaged(_))), "{error}");
                    bad.push(format!("/dir/f{i}").into_bytes());
                }
            }
        }
        let findings = fs.check().map(|r| r.findings).unwrap_or_default();
        if bad.len() == 1 {
            found += 1;
            assert!(findings.iter().any(|f| f.path == bad[0]), "{bad:?} in {findings:?}");
        }
    }
    println!("mutations: {done}");
}

#[test]
fn a_full_host_delays_but_loses_nothing() {
    let mut rng = Rng(seed());
    for _ in 0..6 {
        let device = Recorder::new(BLOCKS);
        let failing = device.failing.clone();
        let (mut fs, mut files) = (format(device, &mut rng), BTreeMap::new());
        for i in 0..60_i64 {
            failing.store(u64::from(rng.one_in(3)), Ordering::Relaxed);
            let name = format!("f{i}").into_bytes();
            let data = vec![i as u8; rng.below(20_000) as usize];
            let made = fs.create(ROOT, &name, Mode::REGULAR | 0o600, 0, Owner::default());
            let written = made.and_then(|ino| fs.write(ino, 0, &data, i));
            if rng.one_in(3) {
                let _ = fs.commit();
            }
            failing.store(0, Ordering::Relaxed);
            match written {
                Ok(n) => assert_eq!(n, data.len()),
                Err(error) => assert_eq!(
                    error,
                    Error::Disk(occlum_sealed_disk::Error::Device(occlum_sealed_disk::DeviceError::NoSpace))
                ),
            }
            if written.is_ok() {
                files.insert(name, data);
            }
        }
        fs.commit().expect("there is room again");
        let mut fs = mount(fs.abandon().abandon(), &mut rng).expect("mount");
        for (name, data) in files {
            let ino = fs.lookup(ROOT, &name).expect("lookup");
            let attr = fs.attr(ino).expect("attr");
            assert!(read_all(&mut fs, ino, &attr).expect("read") == data);
        }
        assert_sound(&mut fs, "after the host was full");
    }
}
