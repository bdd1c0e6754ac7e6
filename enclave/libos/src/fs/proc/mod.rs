//! procfs: one inode type; what it shows is told by its `Node`, the text comes from `text` when it is opened.
//!
//! Nothing is cached: processes come and go. Links to open files, directories and programs are magic:
//! following them leads to the object itself.
mod cpu;
mod memory;
mod system;
mod text;

use super::dentry::Dentry;
use super::file::File;
use super::inode::{DirEntry, FsInfo, Inode, InodeRef, Stat};
use super::prelude::*;
use super::uio::{Dst, Src};
use super::{env, mount};
use crate::process::caps;
use crate::process::{Ids, Process, Task};

/// How a text is made.
enum Make {
    /// It is short, or its length was asked for when what it tells was made.
    Short(fn(&Arc<Process>, &Arc<Task>) -> Vec<u8>),
    /// It may be longer than there is memory.
    Long(fn(&Arc<Process>) -> Result<Vec<u8>>),
}
use Make::{Long, Short};
/// Per-process files: name, permission bits, how the text is made.
type PidFile = (&'static str, u32, Make);
const PID_FILES: &[PidFile] = &[
    ("auxv", 0o400, Short(text::auxv)),
    ("cgroup", 0o444, Short(text::cgroup)),
    ("children", 0o444, Short(text::children)),
    ("cmdline", 0o444, Short(text::cmdline)),
    ("comm", 0o644, Short(text::comm)),
    ("coredump_filter", 0o644, Short(text::coredump_filter)),
    ("environ", 0o400, Short(text::environ)),
    ("gid_map", 0o644, Short(text::id_map)),
    ("io", 0o400, Short(text::io)),
    ("limits", 0o444, Short(text::limits)),
    ("loginuid", 0o644, Short(text::loginuid)),
    ("maps", 0o444, Long(memory::maps)),
    ("mountinfo", 0o444, Short(text::mountinfo)),
    ("mounts", 0o444, Short(text::mounts)),
    ("oom_score", 0o444, Short(text::oom_score)),
    ("oom_score_adj", 0o644, Short(text::oom_score_adj)),
    ("personality", 0o400, Short(text::personality)),
    ("schedstat", 0o444, Short(text::schedstat)),
    ("setgroups", 0o644, Short(text::setgroups)),
    ("smaps", 0o444, Long(memory::smaps)),
    ("smaps_rollup", 0o444, Short(memory::smaps_rollup)),
    ("stat", 0o444, Short(text::stat)),
    ("statm", 0o444, Short(memory::statm)),
    ("status", 0o444, Short(text::status)),
    ("timerslack_ns", 0o644, Short(text::timerslack)),
    ("uid_map", 0o644, Short(text::id_map)),
    ("wchan", 0o444, Short(text::wchan)),
];
/// What of them tells what is in the process, and is for those who may look into it.
const INSIDE: [&str; 7] = ["auxv", "environ", "io", "maps", "personality", "smaps", "smaps_rollup"];
/// Per-process links.
const PID_LINKS: [&str; 3] = ["cwd", "exe", "root"];
/// Per-process directories.
const PID_DIRS: [&str; 3] = ["fd", "fdinfo", "task"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    Root,
    SelfLink,
    ThreadSelf,
    /// A process's directory (tid 0) or a thread's.
    Dir(i32, i32),
    TaskDir(i32),
    FdDir(i32),
    FdInfoDir(i32),
    Fd(i32, i32),
    FdInfo(i32, i32),
    /// `PID_LINKS[n]`.
    Link(i32, usize),
    /// `PID_FILES[n]` of (pid, tid).
    File(i32, i32, usize),
    /// `system::FILES[n]`.
    System(usize),
    /// The directory of `system::FILES[n]` cut after that many bytes.
    SystemDir(usize, usize),
}

struct ProcInode {
    fs: Arc<FsInfo>,
    node: Node,
}

/// The root of a new procfs.
pub fn root() -> InodeRef {
    Arc::new(ProcInode { fs: mount::info("proc", 0x9fa0, false), node: Node::Root })
}

/// The process whose directory this is; `None`: it is none.
pub fn process_of_directory(f: &super::OpenFile) -> Option<Result<Arc<Process>>> {
    match f.inode().as_any().downcast_ref::<ProcInode>()?.node {
        Node::Dir(pid, 0) => Some(Process::by_pid(pid).ok_or(ESRCH)),
        _ => None,
    }
}
fn process(pid: i32) -> Result<Arc<Process>> {
    Process::by_pid(pid).ok_or(ENOENT)
}
fn task(p: &Arc<Process>, tid: i32) -> Result<Arc<Task>> {
    let found = p.tasks.with(|t| t.iter().find(|t| tid == 0 || t.tid == tid).cloned());
    found.ok_or(ESRCH)
}
fn number(name: &[u8]) -> Option<i32> {
    if name.is_empty() || (name[0] == b'0' && name.len() > 1) || name.len() > 9 {
        return None;
    }
    name.iter().try_fold(0i32, |n, c| c.is_ascii_digit().then(|| n * 10 + i32::from(c - b'0')))
}
/// The process whose task has this id.
fn pid_of(id: i32) -> Option<i32> {
    if Process::by_pid(id).is_some() {
        return Some(id);
    }
    Task::by_tid(id).map(|t| t.process.pid)
}
/// May the caller look into the process?
fn may_inspect(p: &Process) -> Result<()> {
    if p.may_be_seen(Ids::Files) { Ok(()) } else { Err(EACCES) }
}

impl ProcInode {
    fn make(&self, node: Node) -> InodeRef {
        Arc::new(ProcInode { fs: self.fs.clone(), node })
    }
    fn mode(&self) -> u32 {
        match self.node {
            Node::Root | Node::Dir(..) | Node::TaskDir(_) | Node::SystemDir(..) => S_IFDIR | 0o555,
            Node::FdInfoDir(_) => S_IFDIR | 0o555,
            Node::FdDir(_) => S_IFDIR | 0o500,
            Node::SelfLink | Node::ThreadSelf | Node::Link(..) => S_IFLNK | 0o777,
            Node::Fd(pid, fd) => S_IFLNK | fd_mode(pid, fd),
            Node::FdInfo(..) => S_IFREG | 0o444,
            Node::File(_, _, n) => S_IFREG | PID_FILES[n].1,
            Node::System(n) if system::writer(n).is_some() => S_IFREG | 0o644,
            Node::System(_) => S_IFREG | 0o444,
        }
    }
    fn ino(&self) -> u64 {
        let pid = |p: i32| (p as u64 + 1) << 20;
        match self.node {
            Node::Root => 1,
            Node::SelfLink => 2,
            Node::ThreadSelf => 3,
            Node::System(n) => 16 + n as u64,
            Node::SystemDir(n, cut) => 0x1_0000 + (n as u64) * 256 + cut as u64,
            Node::Dir(p, 0) => pid(p),
            Node::Dir(p, t) => pid(p) + 0x1_0000 + t as u64,
            Node::TaskDir(p) => pid(p) + 1,
            Node::FdDir(p) => pid(p) + 2,
            Node::FdInfoDir(p) => pid(p) + 3,
            Node::Link(p, n) => pid(p) + 4 + n as u64,
            Node::File(p, _, n) => pid(p) + 16 + n as u64,
            Node::Fd(p, f) => pid(p) + 0x4_0000 + f as u64,
            Node::FdInfo(p, f) => pid(p) + 0x8_0000 + f as u64,
        }
    }
    fn pid(&self) -> Option<i32> {
        match self.node {
            Node::Dir(p, _) | Node::TaskDir(p) | Node::FdDir(p) | Node::FdInfoDir(p) => Some(p),
            Node::Fd(p, _) | Node::FdInfo(p, _) | Node::Link(p, _) | Node::File(p, _, _) => Some(p),
            _ => None,
        }
    }
    fn content(&self) -> Result<Vec<u8>> {
        match self.node {
            Node::System(n) => {
                // The longest ones have a row for each socket, which is an open file, or for each object of IPC.
                const ROW: u64 = 512;
                crate::mm::admit(super::file::open_count().max(crate::ipc::rows() as u64) * ROW)?;
                Ok((system::FILES[n].1)())
            }
            Node::FdInfo(pid, fd) => {
                let f = process(pid)?.files().get(fd).map_err(|_| ENOENT)?;
                let cloexec = if process(pid)?.files().cloexec(fd) == Ok(true) { O_CLOEXEC } else { 0 };
                let (pos, flags) = (f.offset(), f.flags() | cloexec);
                let (ino, more) = (f.stat()?.ino, f.special().map_or(String::new(), |s| s.info()));
                let text = alloc::format!("pos:\t{pos}\nflags:\t0{flags:o}\nmnt_id:\t1\nino:\t{ino}\n{more}");
                Ok(text.into_bytes())
            }
            Node::File(pid, tid, n) => {
                let p = process(pid)?;
                let t = match task(&p, tid) {
                    Ok(t) => t,
                    // A zombie has no task: its status is still there.
                    Err(_) => return Ok(text::of_zombie(&p, PID_FILES[n].0)),
                };
                if INSIDE.contains(&PID_FILES[n].0) && !t.may_be_seen(Ids::Files) {
                    return Err(EACCES);
                }
                match PID_FILES[n].2 {
                    Short(make) => Ok(make(&p, &t)),
                    Long(make) => make(&p),
                }
            }
            _ => Err(EISDIR),
        }
    }
    fn lookup_pid(&self, pid: i32, tid: i32, name: &[u8]) -> Result<InodeRef> {
        process(pid)?;
        let at = |list: &[&str]| list.iter().position(|n| n.as_bytes() == name);
        if let Some(n) = at(&PID_LINKS) {
            return Ok(self.make(Node::Link(pid, n)));
        }
        match at(&PID_DIRS) {
            Some(0) => return Ok(self.make(Node::FdDir(pid))),
            Some(1) => return Ok(self.make(Node::FdInfoDir(pid))),
            Some(_) if tid == 0 => return Ok(self.make(Node::TaskDir(pid))),
            _ => {}
        }
        let n = PID_FILES.iter().position(|f| f.0.as_bytes() == name).ok_or(ENOENT)?;
        Ok(self.make(Node::File(pid, tid, n)))
    }
    fn link_target(&self) -> Result<Arc<Dentry>> {
        match self.node {
            Node::Fd(pid, fd) => {
                let p = process(pid)?;
                may_inspect(&p)?;
                Ok(p.files().get(fd).map_err(|_| ENOENT)?.dentry().clone())
            }
            Node::Link(pid, n) => {
                let p = process(pid)?;
                may_inspect(&p)?;
                match PID_LINKS[n] {
                    "cwd" => Ok(p.fs().cwd()),
                    "root" => Ok(p.fs().root()),
                    _ => mount::lookup_path(&p.exe.with(|e| e.clone())).ok_or(ENOENT),
                }
            }
            _ => Err(EINVAL),
        }
    }
}

fn fd_mode(pid: i32, fd: i32) -> u32 {
    let Some(f) = Process::by_pid(pid).and_then(|p| p.files().get(fd).ok()) else { return 0o700 };
    0o100 | if f.can_read() { 0o400 } else { 0 } | if f.can_write() { 0o200 } else { 0 }
}

/// Splits a system path: the component after `cut` bytes.
fn component(path: &str, cut: usize) -> (&str, bool) {
    let rest = &path[cut..];
    match rest.find('/') {
        Some(i) => (&rest[..i], true),
        None => (rest, false),
    }
}
/// Looks `name` up among the system files that share the first `cut` bytes of file `n`.
fn lookup_system(n: usize, cut: usize, name: &[u8]) -> Option<Node> {
    let prefix = &system::FILES[n].0[..cut];
    for (i, (path, _)) in system::FILES.iter().enumerate() {
        if !path.starts_with(prefix) {
            continue;
        }
        let (part, is_dir) = component(path, cut);
        if part.as_bytes() == name {
            return Some(if is_dir { Node::SystemDir(i, cut + part.len() + 1) } else { Node::System(i) });
        }
    }
    None
}
fn list_system(n: usize, cut: usize) -> Vec<(String, u32)> {
    let prefix = &system::FILES[n].0[..cut];
    let mut out: Vec<(String, u32)> = Vec::new();
    for (path, _) in system::FILES.iter().filter(|f| f.0.starts_with(prefix)) {
        let (part, is_dir) = component(path, cut);
        if !out.iter().any(|(n, _)| n == part) {
            out.push((String::from(part), if is_dir { S_IFDIR } else { S_IFREG }));
        }
    }
    out
}

impl Inode for ProcInode {
    fn fs(&self) -> &Arc<FsInfo> {
        &self.fs
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn kind(&self) -> u32 {
        self.mode() & S_IFMT
    }
    fn file_id(&self) -> (u64, u64) {
        (self.ino(), crate::time::monotonic_ns())
    }
    fn stat(&self) -> Result<Stat> {
        let (mut uid, mut gid) = (0, 0);
        if let Some(pid) = self.pid() {
            let p = process(pid)?;
            // Of who may not be looked into, only the directories that all may see are its own.
            if p.is_dumpable() == Some(true) || self.mode() == S_IFDIR | 0o555 {
                (uid, gid) = p.with_cred(|c| (c.euid, c.egid));
            }
        }
        let t = crate::time::realtime_ns() as i64;
        let nlink = if self.is_dir() { 2 } else { 1 };
        let times = Stat { atime: t, mtime: t, ctime: t, ..Stat::default() };
        let size = if matches!(self.node, Node::Fd(..)) { 64 } else { 0 };
        Ok(Stat {
            dev: self.fs.dev,
            ino: self.ino(),
            mode: self.mode(),
            nlink,
            uid,
            gid,
            size,
            blksize: 1024,
            ..times
        })
    }
    fn check(&self, cred: &super::path::Cred, want: u32) -> Result<()> {
        match self.node {
            Node::FdDir(pid) if pid == crate::process::current_process().pid => return Ok(()),
            Node::FdInfoDir(pid) => may_inspect(&*process(pid)?)?,
            _ => {}
        }
        cred.check(&self.stat()?, want)
    }
    fn lookup(&self, name: &[u8]) -> Result<InodeRef> {
        match self.node {
            Node::Root => match name {
                b"self" => Ok(self.make(Node::SelfLink)),
                b"thread-self" => Ok(self.make(Node::ThreadSelf)),
                _ => match number(name).and_then(pid_of) {
                    Some(pid) => Ok(self.make(Node::Dir(pid, 0))),
                    None => lookup_system(0, 0, name).map(|n| self.make(n)).ok_or(ENOENT),
                },
            },
            Node::SystemDir(n, cut) => lookup_system(n, cut, name).map(|n| self.make(n)).ok_or(ENOENT),
            Node::Dir(pid, tid) => self.lookup_pid(pid, tid, name),
            Node::TaskDir(pid) => {
                let tid = number(name).ok_or(ENOENT)?;
                task(&process(pid)?, tid).map_err(|_| ENOENT)?;
                Ok(self.make(Node::Dir(pid, tid)))
            }
            Node::FdDir(pid) | Node::FdInfoDir(pid) => {
                let fd = number(name).ok_or(ENOENT)?;
                process(pid)?.files().get(fd).map_err(|_| ENOENT)?;
                let info = matches!(self.node, Node::FdInfoDir(_));
                Ok(self.make(if info { Node::FdInfo(pid, fd) } else { Node::Fd(pid, fd) }))
            }
            _ => Err(ENOTDIR),
        }
    }
    fn list(&self) -> Result<Vec<DirEntry>> {
        let mut out = Vec::new();
        let mut put = |name: &str, kind: u32| {
            let ino = self.ino() + out.len() as u64 + 1;
            out.push(DirEntry { ino, d_type: super::inode::d_type(kind), name: name.as_bytes().to_vec() });
        };
        let decimal = |n: i32| alloc::format!("{n}");
        match self.node {
            Node::Root => {
                put("self", S_IFLNK);
                put("thread-self", S_IFLNK);
                list_system(0, 0).iter().for_each(|(n, k)| put(n, *k));
                Process::all().iter().for_each(|p| put(&decimal(p.pid), S_IFDIR));
            }
            Node::SystemDir(n, cut) => list_system(n, cut).iter().for_each(|(n, k)| put(n, *k)),
            Node::Dir(pid, tid) => {
                process(pid)?;
                PID_LINKS.iter().for_each(|n| put(n, S_IFLNK));
                PID_FILES.iter().for_each(|f| put(f.0, S_IFREG));
                PID_DIRS.iter().filter(|d| tid == 0 || **d != "task").for_each(|n| put(n, S_IFDIR));
            }
            Node::TaskDir(pid) => {
                let tids: Vec<i32> = process(pid)?.tasks.with(|t| t.iter().map(|t| t.tid).collect());
                tids.iter().for_each(|t| put(&decimal(*t), S_IFDIR));
            }
            Node::FdDir(pid) | Node::FdInfoDir(pid) => {
                const ROW: u64 = 192;
                let kind = if matches!(self.node, Node::FdDir(_)) { S_IFLNK } else { S_IFREG };
                let files = process(pid)?.files();
                crate::mm::admit(files.open_count() as u64 * ROW)?;
                files.fds().for_each(|f| put(&decimal(f), kind));
            }
            _ => return Err(ENOTDIR),
        }
        Ok(out)
    }
    fn readlink(&self) -> Result<Vec<u8>> {
        match self.node {
            Node::SelfLink => Ok(alloc::format!("{}", env::peer().0).into_bytes()),
            Node::ThreadSelf => {
                let t = crate::process::current();
                Ok(alloc::format!("{}/task/{}", t.process.pid, t.tid).into_bytes())
            }
            Node::Link(pid, 1) => {
                let p = process(pid)?;
                may_inspect(&p)?;
                let exe = p.exe.with(|e| e.clone());
                if exe.is_empty() { Err(ENOENT) } else { Ok(exe) }
            }
            Node::Fd(..) | Node::Link(..) => self.link_target()?.path(),
            _ => Err(EINVAL),
        }
    }
    fn magic_link(&self) -> Option<Result<Arc<Dentry>>> {
        matches!(self.node, Node::Fd(..) | Node::Link(..)).then(|| self.link_target())
    }
    fn read_at(&self, off: u64, buf: &mut [u8]) -> Result<usize> {
        let text = self.content()?;
        let from = text.get(usize::try_from(off).unwrap_or(usize::MAX)..).unwrap_or(&[]);
        let n = from.len().min(buf.len());
        buf[..n].copy_from_slice(&from[..n]);
        Ok(n)
    }
    fn truncate(&self, _len: u64) -> Result<()> {
        Ok(())
    }
    fn open(&self, _me: &InodeRef, _flags: u32) -> Result<Option<Arc<dyn File>>> {
        if self.kind() != S_IFREG {
            return Ok(None);
        }
        let content = self.content()?;
        Ok(Some(Arc::new(Snapshot { content, pos: BklCell::new(0), node: self.node })))
    }
}

/// Anyone may make a process more likely to end when memory does; less likely only with CAP_SYS_RESOURCE.
fn set_oom_score_adj(p: &Process, text: &[u8]) -> Result<()> {
    let text = core::str::from_utf8(text).map_err(|_| EINVAL)?;
    let new: i32 = text.trim().parse().map_err(|_| EINVAL)?;
    if !(-1000..=1000).contains(&new) {
        return Err(EINVAL);
    }
    if new < p.traits.get().oom_score_adj && !env::cred().can(caps::SYS_RESOURCE) {
        return Err(EACCES);
    }
    p.traits.with_mut(|t| t.oom_score_adj = new);
    Ok(())
}

/// The text of a procfs file as it was at open.
struct Snapshot {
    content: Vec<u8>,
    pos: BklCell<u64>,
    node: Node,
}
impl File for Snapshot {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn is_stream(&self) -> bool {
        false
    }
    fn try_read(&self, dst: &mut Dst) -> Result<usize> {
        let n = self.pread(self.pos.get(), dst)?;
        self.pos.set(self.pos.get() + n as u64);
        Ok(n)
    }
    fn pread(&self, off: u64, dst: &mut Dst) -> Result<usize> {
        let rest = self.content.get(usize::try_from(off).unwrap_or(usize::MAX)..).unwrap_or(&[]);
        if rest.is_empty() { Ok(0) } else { dst.push(rest) }
    }
    fn try_write(&self, src: &mut Src) -> Result<usize> {
        let mut buf = [0u8; 80];
        let n = src.pull(&mut buf)?;
        if let Node::System(k) = self.node
            && let Some(write) = system::writer(k)
        {
            write(&buf[..n])?;
        }
        if let Node::File(pid, tid, k) = self.node {
            let text = buf[..n].strip_suffix(b"\n").unwrap_or(&buf[..n]);
            match PID_FILES[k].0 {
                "comm" if pid != crate::process::current_process().pid => return Err(EINVAL),
                "comm" => {
                    let mut comm = [0u8; 16];
                    let len = text.len().min(15);
                    comm[..len].copy_from_slice(&text[..len]);
                    task(&process(pid)?, tid)?.comm.set(comm);
                }
                "oom_score_adj" => set_oom_score_adj(&*process(pid)?, text)?,
                _ => {}
            }
        }
        Ok(n)
    }
    fn seek(&self, whence: u32, off: i64) -> Result<u64> {
        let base = match whence {
            SEEK_SET => 0,
            SEEK_CUR => self.pos.get() as i64,
            _ => return Err(EINVAL),
        };
        let new = base.checked_add(off).filter(|n| *n >= 0).ok_or(EINVAL)?;
        self.pos.set(new as u64);
        Ok(new as u64)
    }
}
