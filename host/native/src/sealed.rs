//! Sealed stores for Python: a file system in a host file. Conversions, the host file as a device, and a development
//! store of marks.
//!
//! Neighbours: `common/sealed-fs` does the work, `python/occlum/sealed.py` is the user. Paths are bytes from the root;
//! symbolic links are not followed.
use crate::{NativeError, StaleError};
use hmac::{Hmac, KeyInit, Mac};
use occlum_sealed_disk::{
    BlockDevice, DeviceError, Disk, Distrust, Error as DiskError, Freshness, Key, Mark, Options, Random,
};
use occlum_sealed_fs::{Error, Fs, FsOptions, Mode, Owner, ROOT, SetAttr};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sha2::Sha256;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

const BLOCK: u64 = 4096;

/// A host file as a device.
struct HostFile(File);

fn device_error(error: &std::io::Error) -> DeviceError {
    let full = matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
    if full { DeviceError::NoSpace } else { DeviceError::Io }
}

impl BlockDevice for HostFile {
    fn blocks(&self) -> u64 {
        self.0.metadata().map_or(0, |m| m.len() / BLOCK)
    }
    fn read(&mut self, block: u64, buf: &mut [u8]) -> Result<(), DeviceError> {
        self.0.read_exact_at(buf, block * BLOCK).map_err(|e| device_error(&e))
    }
    fn write(&mut self, block: u64, data: &[u8]) -> Result<(), DeviceError> {
        self.0.write_all_at(data, block * BLOCK).map_err(|e| device_error(&e))
    }
    fn flush(&mut self) -> Result<(), DeviceError> {
        self.0.sync_data().map_err(|e| device_error(&e))
    }
}

/// The host's random numbers.
struct HostRandom(File);

impl Random for HostRandom {
    fn fill(&mut self, bytes: &mut [u8]) {
        // Without random numbers nothing may be sealed: an exception in Python, not a key of zeros.
        self.0.read_exact(bytes).expect("random numbers of the host");
    }
}

/// What looks random to all who do not have the seed: HMAC-SHA256 under it of 0, 1, 2... For stores that are written once,
/// and whose bytes have to be the same each time. A seed must never serve two contents.
struct Seeded {
    seed: [u8; 32],
    drawn: u64,
}
impl Random for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(32) {
            let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.seed).expect("keys of any length");
            mac.update(&self.drawn.to_le_bytes());
            part.copy_from_slice(&mac.finalize().into_bytes()[..part.len()]);
            self.drawn += 1;
        }
    }
}
impl HostRandom {
    fn open() -> std::io::Result<Self> {
        let mut file = File::open("/dev/urandom")?;
        file.read_exact(&mut [0; 32])?;
        Ok(Self(file))
    }
}

/// The mark of one store in a host file, made at its first use: for development, since who can change the store can
/// change this as well.
struct InsecureCounter(PathBuf);

impl Freshness for InsecureCounter {
    fn read(&mut self, id: &[u8; 16]) -> Result<Option<Mark>, DiskError> {
        let line = match std::fs::read_to_string(&self.0) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|_| DiskError::Freshness(Distrust::Unreachable))?,
        };
        match Mark::from_line(&line) {
            None => Err(DiskError::Freshness(Distrust::Damaged)),
            Some((store, _)) if store != *id => Err(DiskError::Replaced),
            Some((_, mark)) => Ok(Some(mark)),
        }
    }
    fn advance(&mut self, id: &[u8; 16], from: Option<&Mark>, to: &Mark) -> Result<(), DiskError> {
        if self.read(id)?.as_ref() != from {
            return Err(DiskError::Forked);
        }
        let text = to.to_line(id);
        let new = self.0.with_extension("new");
        let written = std::fs::write(&new, text).and_then(|()| File::open(&new)?.sync_all());
        written
            .and_then(|()| std::fs::rename(&new, &self.0))
            .map_err(|_| DiskError::Freshness(Distrust::Unreachable))
    }
}

fn clock() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64)
}
fn fs_error(error: Error) -> PyErr {
    match error {
        Error::Disk(error) => disk_error(error),
        other => NativeError::new_err(other.to_string()),
    }
}
fn disk_error(error: DiskError) -> PyErr {
    match error {
        DiskError::RolledBack { .. }
        | DiskError::Forked
        | DiskError::Replaced
        | DiskError::Uncounted
        | DiskError::Freshness(_) => StaleError::new_err(error.to_string()),
        other => NativeError::new_err(other.to_string()),
    }
}
fn host_error(error: std::io::Error) -> PyErr {
    NativeError::new_err(occlum_pal::said(&error))
}
fn root_key(key: Option<&[u8]>) -> PyResult<Option<[u8; 32]>> {
    let wrong = || NativeError::new_err("a key has 32 bytes");
    key.map(|k| k.try_into().map_err(|_| wrong())).transpose()
}

/// What `stat` shows of a file.
#[pyclass(frozen, get_all, module = "occlum._native")]
pub(crate) struct SealedStat {
    ino: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    nlink: u32,
    size: u64,
    blocks: u64,
    rdev: u64,
    atime_ns: i64,
    mtime_ns: i64,
    ctime_ns: i64,
}

/// Findings (path, what is wrong), inodes, blocks read.
type CheckResult = (Vec<(Py<PyBytes>, String)>, u64, u64);

/// A mounted store.
#[pyclass(module = "occlum._native")]
pub(crate) struct SealedFs {
    fs: Mutex<Option<Fs<HostFile>>>,
    /// Every time that is written, for stores whose bytes depend on nothing but their content.
    fixed_ns: Option<i64>,
}

impl SealedFs {
    fn now(&self) -> i64 {
        self.fixed_ns.unwrap_or_else(clock)
    }

    /// Runs `f` on the file system, without the interpreter's lock.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&mut Fs<HostFile>) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        py.detach(|| {
            let mut guard = self.fs.lock().map_err(|_| NativeError::new_err("the store is broken"))?;
            let fs = guard.as_mut().ok_or_else(|| NativeError::new_err("the store is closed"))?;
            f(fs).map_err(fs_error)
        })
    }
}

/// Directory and last name of a path.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().rposition(|c| *c != b'/').map_or(0, |i| i + 1);
    let path = &path[..end];
    match path.iter().rposition(|c| *c == b'/') {
        Some(i) => (&path[..i], &path[i + 1..]),
        None => (b"", path),
    }
}

#[pymethods]
impl SealedFs {
    /// Opens a store; `format` makes a new one in the file as long as it is. `fixed_ns`: all times are this one. `seed`: all
    /// that is random comes from it.
    #[new]
    #[pyo3(signature = (path, key, *, format=false, read_only=false, insecure_counter=None, fixed_ns=None, seed=None))]
    #[expect(clippy::too_many_arguments, reason = "one keyword per option of a store")]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        key: Option<&[u8]>,
        format: bool,
        read_only: bool,
        insecure_counter: Option<PathBuf>,
        fixed_ns: Option<i64>,
        seed: Option<&[u8]>,
    ) -> PyResult<Self> {
        let (root, seed) = (root_key(key)?, root_key(seed)?);
        let fs = py.detach(|| {
            let file = File::options().read(true).write(!read_only).open(&path).map_err(host_error)?;
            let mut random: Box<dyn Random> = match seed {
                Some(seed) => Box::new(Seeded { seed, drawn: 0 }),
                None => Box::new(HostRandom::open().map_err(host_error)?),
            };
            let key = root.as_ref().map_or(Key::None, Key::Root);
            let marks = insecure_counter.map(|p| Box::new(InsecureCounter(p)) as Box<dyn Freshness + Send>);
            let options = Options { read_only, ..Options::default() };
            if !format {
                let disk =
                    Disk::open(HostFile(file), key, &mut *random, marks, options).map_err(disk_error)?;
                return Fs::mount(disk, FsOptions::default(), read_only).map_err(fs_error);
            }
            let mut seed = [0; 8];
            if root.is_some() {
                random.fill(&mut seed);
            }
            let disk = Disk::format(HostFile(file), key, &mut *random, marks, options).map_err(disk_error)?;
            Fs::format(disk, u64::from_le_bytes(seed), FsOptions::default(), fixed_ns.unwrap_or_else(clock))
                .map_err(fs_error)
        })?;
        Ok(Self { fs: Mutex::new(Some(fs)), fixed_ns })
    }

    /// Attributes of a file.
    fn stat(&self, py: Python<'_>, path: &[u8]) -> PyResult<SealedStat> {
        self.with(py, |fs| {
            let ino = fs.resolve(path)?;
            let a = fs.attr(ino)?;
            Ok(SealedStat {
                ino,
                mode: a.mode,
                uid: a.uid,
                gid: a.gid,
                nlink: a.nlink,
                size: a.size,
                blocks: fs.blocks(ino)?,
                rdev: a.rdev,
                atime_ns: a.atime,
                mtime_ns: a.mtime,
                ctime_ns: a.ctime,
            })
        })
    }
    /// Names in a directory.
    fn listdir<'py>(&self, py: Python<'py>, path: &[u8]) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let entries = self.with(py, |fs| {
            let dir = fs.resolve(path)?;
            fs.list(dir, 0, usize::MAX).map(|(entries, _)| entries)
        })?;
        Ok(entries.iter().map(|e| PyBytes::new(py, &e.name)).collect())
    }
    /// Content from `offset` on, shorter at the end.
    fn read<'py>(
        &self,
        py: Python<'py>,
        path: &[u8],
        offset: u64,
        length: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = self.with(py, |fs| {
            let ino = fs.resolve(path)?;
            let left = fs.attr(ino)?.size.saturating_sub(offset);
            let mut buf = vec![0; length.min(usize::try_from(left).unwrap_or(usize::MAX))];
            let n = fs.read(ino, offset, &mut buf)?;
            buf.truncate(n);
            Ok(buf)
        })?;
        Ok(PyBytes::new(py, &bytes))
    }
    /// Text of a symbolic link.
    fn readlink<'py>(&self, py: Python<'py>, path: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let target = self.with(py, |fs| {
            let ino = fs.resolve(path)?;
            fs.readlink(ino)
        })?;
        Ok(PyBytes::new(py, &target))
    }
    /// Makes a file or directory, as the type bits of `mode` say.
    fn create(&self, py: Python<'_>, path: &[u8], mode: u32, uid: u32, gid: u32) -> PyResult<()> {
        let time = self.now();
        self.with(py, |fs| {
            let (dir, name) = split(path);
            let dir = fs.resolve(dir)?;
            fs.create(dir, name, mode, 0, Owner { uid, gid, now: time }).map(drop)
        })
    }
    /// Makes a symbolic link.
    #[pyo3(signature = (path, target, uid=0, gid=0))]
    fn symlink(&self, py: Python<'_>, path: &[u8], target: &[u8], uid: u32, gid: u32) -> PyResult<()> {
        let time = self.now();
        self.with(py, |fs| {
            let (dir, name) = split(path);
            let dir = fs.resolve(dir)?;
            fs.symlink(dir, name, target, Owner { uid, gid, now: time }).map(drop)
        })
    }
    /// Gives a file another name.
    fn link(&self, py: Python<'_>, path: &[u8], other: &[u8]) -> PyResult<()> {
        let time = self.now();
        self.with(py, |fs| {
            let ((dir, name), ino) = (split(other), fs.resolve(path)?);
            let dir = fs.resolve(dir)?;
            fs.link(dir, name, ino, time)
        })
    }
    /// Sets permission bits and owner.
    fn set_owner(&self, py: Python<'_>, path: &[u8], mode: u32, uid: u32, gid: u32) -> PyResult<()> {
        let time = self.now();
        self.with(py, |fs| {
            let ino = fs.resolve(path)?;
            let set = SetAttr { mode: Some(mode), uid: Some(uid), gid: Some(gid), ..SetAttr::default() };
            fs.set_attr(ino, &set, time)
        })
    }
    /// Writes all of `data` at `offset`.
    fn write(&self, py: Python<'_>, path: &[u8], offset: u64, data: &[u8]) -> PyResult<()> {
        let time = self.now();
        self.with(py, |fs| {
            let ino = fs.resolve(path)?;
            let n = fs.write(ino, offset, data, time)?;
            if n == data.len() { Ok(()) } else { Err(Error::NoSpace) }
        })
    }
    /// Moves a name; what has the new one already is replaced.
    fn rename(&self, py: Python<'_>, old: &[u8], new: &[u8]) -> PyResult<()> {
        let time = self.now();
        self.with(py, |fs| {
            let ((from, old), (to, new)) = (split(old), split(new));
            let (from, to) = (fs.resolve(from)?, fs.resolve(to)?);
            fs.rename(from, old, to, new, false, time)
        })
    }
    /// Sets the length of a file.
    fn truncate(&self, py: Python<'_>, path: &[u8], length: u64) -> PyResult<()> {
        let time = self.now();
        self.with(py, |fs| {
            let ino = fs.resolve(path)?;
            fs.truncate(ino, length, time)
        })
    }
    /// Sets the times of access and modification that are given.
    fn set_times(
        &self,
        py: Python<'_>,
        path: &[u8],
        atime_ns: Option<i64>,
        mtime_ns: Option<i64>,
    ) -> PyResult<()> {
        let time = self.now();
        self.with(py, |fs| {
            let ino = fs.resolve(path)?;
            let set = SetAttr { atime: atime_ns, mtime: mtime_ns, ..SetAttr::default() };
            fs.set_attr(ino, &set, time)
        })
    }
    /// Sets permission bits.
    fn set_mode(&self, py: Python<'_>, path: &[u8], mode: u32) -> PyResult<()> {
        let time = self.now();
        self.with(py, |fs| {
            let ino = fs.resolve(path)?;
            fs.set_attr(ino, &SetAttr { mode: Some(mode), ..SetAttr::default() }, time)
        })
    }
    /// Value of an extended attribute.
    fn xattr<'py>(&self, py: Python<'py>, path: &[u8], name: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let value = self.with(py, |fs| {
            let ino = fs.resolve(path)?;
            fs.get_xattr(ino, name)
        })?;
        Ok(PyBytes::new(py, &value))
    }
    /// Names of all extended attributes.
    fn xattrs<'py>(&self, py: Python<'py>, path: &[u8]) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let names = self.with(py, |fs| {
            let ino = fs.resolve(path)?;
            fs.list_xattr(ino)
        })?;
        Ok(names.iter().map(|n| PyBytes::new(py, n)).collect())
    }
    /// Sets an extended attribute; `exists`: whether there has to be one already, if that matters.
    fn set_xattr(
        &self,
        py: Python<'_>,
        path: &[u8],
        name: &[u8],
        value: &[u8],
        exists: Option<bool>,
    ) -> PyResult<()> {
        let time = self.now();
        self.with(py, |fs| {
            let ino = fs.resolve(path)?;
            fs.set_xattr(ino, name, value, exists, time)
        })
    }
    /// Removes an extended attribute.
    fn remove_xattr(&self, py: Python<'_>, path: &[u8], name: &[u8]) -> PyResult<()> {
        let time = self.now();
        self.with(py, |fs| {
            let ino = fs.resolve(path)?;
            fs.remove_xattr(ino, name, time)
        })
    }
    /// Blocks that may be in use at most; none: no limit.
    fn set_limit(&self, py: Python<'_>, blocks: Option<u64>) -> PyResult<()> {
        self.with(py, |fs| fs.set_limit(blocks))
    }
    /// Removes a file or an empty directory.
    fn remove(&self, py: Python<'_>, path: &[u8]) -> PyResult<()> {
        let time = self.now();
        self.with(py, |fs| {
            let (dir, name) = split(path);
            let (dir, ino) = (fs.resolve(dir)?, fs.resolve(path)?);
            if ino == ROOT {
                return Err(Error::NotPermitted);
            }
            let is_dir = fs.attr(ino)?.mode & Mode::TYPE == Mode::DIRECTORY;
            if is_dir { fs.rmdir(dir, name, time) } else { fs.unlink(dir, name, time) }
        })
    }
    /// Makes everything durable.
    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, Fs::commit)
    }
    /// Takes in what the host file has gained.
    fn grow(&self, py: Python<'_>, blocks: u64) -> PyResult<()> {
        self.with(py, |fs| Ok(fs.disk().grow(blocks)?))
    }
    /// Wraps the data key by another root key.
    fn rotate(&self, py: Python<'_>, key: &[u8]) -> PyResult<()> {
        let root = root_key(Some(key))?.unwrap_or_default();
        let mut random = HostRandom::open().map_err(host_error)?;
        self.with(py, |fs| {
            fs.commit()?;
            Ok(fs.disk().rotate(&root, &mut random)?)
        })
    }
    /// Checks everything: (path, what is wrong) for each finding, inodes, blocks read.
    fn check(&self, py: Python<'_>) -> PyResult<CheckResult> {
        let report = self.with(py, Fs::check)?;
        let findings =
            report.findings.into_iter().map(|f| (PyBytes::new(py, &f.path).unbind(), f.what)).collect();
        Ok((findings, report.inodes, report.blocks))
    }
    /// Blocks in all, free blocks, inodes, generation, and the root (seal of the superblock).
    fn figures<'py>(&self, py: Python<'py>) -> PyResult<(u64, u64, u64, u64, Bound<'py, PyBytes>)> {
        let (stat, mark) = self.with(py, |fs| Ok((fs.statfs(), fs.disk().mark())))?;
        Ok((stat.blocks, stat.free, stat.files, mark.generation, PyBytes::new(py, &mark.seal)))
    }
    /// Commits (unless read-only) and closes; a second time it does nothing.
    fn close(&self, py: Python<'_>, commit: bool) -> PyResult<()> {
        py.detach(|| {
            let taken = self.fs.lock().map_err(|_| NativeError::new_err("the store is broken"))?.take();
            match taken {
                Some(fs) if commit => fs.unmount().map(drop).map_err(fs_error),
                _ => Ok(()),
            }
        })
    }
}
