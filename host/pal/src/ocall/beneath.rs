//! Names beneath an open directory: nothing outside is reached, whatever programs in the enclave and on the host make of
//! the directory meanwhile.
//!
//! Neighbour: `files`. The components of a path are names, neither `.` nor `..`, and no link is followed, neither on the way
//! nor at the end: links are the enclave's to follow. Each operation resolves the directory of the last name, by openat2, and
//! then acts on that name there, by a call that follows no link. Where openat2 is missing (before Linux 5.6) or a filter
//! forbids it, one component is opened after the other.
use super::{check, errno};
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

const NO_FOLLOW: i32 = libc::AT_SYMLINK_NOFOLLOW;
const HANDLE: i32 = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;

/// What a path names.
pub(super) struct Place<'a> {
    /// The directory; none: the path is the user's.
    dir: Option<RawFd>,
    /// Beneath it; empty: what the descriptor names.
    path: &'a [u8],
}

/// A directory that is open, for this operation or longer.
enum Dir {
    Lent(RawFd),
    Own(OwnedFd),
}
impl Dir {
    fn fd(&self) -> RawFd {
        match self {
            Self::Lent(fd) => *fd,
            Self::Own(fd) => fd.as_raw_fd(),
        }
    }
}

fn c_string(bytes: &[u8]) -> Result<CString, i64> {
    CString::new(bytes).map_err(|_| -i64::from(libc::EINVAL))
}
fn done(r: i32) -> Result<(), i64> {
    if r < 0 { Err(errno()) } else { Ok(()) }
}
fn owned(fd: i64) -> Result<OwnedFd, i64> {
    if fd < 0 {
        return Err(fd);
    }
    // SAFETY: 1. the system has just opened it, for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}
fn open_at(dir: RawFd, path: &CStr, flags: i32, mode: u32) -> Result<OwnedFd, i64> {
    // SAFETY: 1. `path` is a C string.
    owned(check(i64::from(unsafe { libc::openat(dir, path.as_ptr(), flags, mode) })))
}
/// The name of what a descriptor stands for, which leads to nothing else. Descriptors that only name a file, and calls that
/// take none, need it.
fn by_number(fd: RawFd) -> CString {
    CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default()
}
/// Metadata of what a descriptor stands for.
pub(super) fn stat_of(fd: RawFd) -> Result<libc::stat, i64> {
    // SAFETY: 1. an all-zero stat is valid.
    let mut st: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: 1. the call fills `st`, which is writable.
    done(unsafe { libc::fstat(fd, &mut st) })?;
    Ok(st)
}

/// Files of /proc are no content to share: among them is the enclave's memory, in simulation.
fn check_shareable(file: &OwnedFd) -> Result<(), i64> {
    // SAFETY: 1. an all-zero statfs is valid.
    let mut st: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: 1. the call fills `st`, which is writable.
    done(unsafe { libc::fstatfs(file.as_raw_fd(), &mut st) })?;
    if st.f_type == libc::PROC_SUPER_MAGIC { Err(-i64::from(libc::EACCES)) } else { Ok(()) }
}

/// openat2 that stays beneath `dir`.
fn open_beneath(dir: RawFd, path: &CStr, flags: i32, mode: u32) -> i64 {
    // SAFETY: 1. an all-zero open_how is valid.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = flags as u64;
    how.mode = if flags & libc::O_CREAT != 0 { u64::from(mode & 0o7777) } else { 0 };
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;
    let size = size_of::<libc::open_how>();
    // SAFETY: 1. `path` is a C string; 2. `how` is readable for `size` bytes.
    check(unsafe { libc::syscall(libc::SYS_openat2, dir, path.as_ptr(), &how, size) })
}
fn has_openat2() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| match owned(open_beneath(libc::AT_FDCWD, c".", HANDLE, 0)) {
        Ok(_) => true,
        Err(e) => e != -i64::from(libc::ENOSYS) && e != -i64::from(libc::EPERM),
    })
}

/// Opens `path` beneath `dir`, by openat2 or name by name.
fn open(dir: RawFd, path: &[u8], flags: i32, mode: u32, by_openat2: bool) -> Result<OwnedFd, i64> {
    // openat2 refuses what others ignore.
    let path_flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let flags = if flags & libc::O_PATH != 0 { flags & path_flags } else { flags };
    if by_openat2 {
        return owned(open_beneath(dir, &c_string(path)?, flags | libc::O_NOFOLLOW, mode));
    }
    let (dirs, name) = split(path);
    let mut at = Dir::Lent(dir);
    for name in dirs.split(|c| *c == b'/').filter(|name| !name.is_empty()) {
        at = Dir::Own(open_at(at.fd(), &c_string(name)?, HANDLE | libc::O_DIRECTORY, 0)?);
    }
    open_at(at.fd(), &c_string(name)?, flags | libc::O_NOFOLLOW, mode)
}

/// The directory of a path, and the last name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|c| *c == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

impl<'a> Place<'a> {
    /// A path that the user named.
    pub(super) fn anywhere(path: &'a [u8]) -> Self {
        Self { dir: None, path }
    }
    /// A path beneath `dir`.
    pub(super) fn beneath(dir: RawFd, path: &'a [u8]) -> Result<Self, i64> {
        let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..");
        if path.is_empty() || path.split(|c| *c == b'/').all(is_name) {
            return Ok(Self { dir: Some(dir), path });
        }
        Err(-i64::from(libc::EXDEV))
    }

    /// The directory and the name in it: empty for what the descriptor itself names.
    fn parent(&self) -> Result<(Dir, CString), i64> {
        let Some(dir) = self.dir else {
            return Ok((Dir::Lent(libc::AT_FDCWD), c_string(self.path)?));
        };
        match split(self.path) {
            (b"", name) => Ok((Dir::Lent(dir), c_string(name)?)),
            (dirs, name) => {
                let at = open(dir, dirs, HANDLE | libc::O_DIRECTORY, 0, has_openat2())?;
                Ok((Dir::Own(at), c_string(name)?))
            }
        }
    }
    /// What it names, only to be named.
    fn handle(&self) -> Result<Dir, i64> {
        match (self.dir, self.path) {
            (Some(fd), b"") => Ok(Dir::Lent(fd)),
            _ => self.open(HANDLE, 0).map(Dir::Own),
        }
    }

    /// open(2).
    pub(super) fn open(&self, flags: i32, mode: u32) -> Result<OwnedFd, i64> {
        let flags = flags | libc::O_CLOEXEC;
        let file = match (self.dir, self.path) {
            (None, path) => return open_at(libc::AT_FDCWD, &c_string(path)?, flags, mode),
            (Some(fd), b"") => open_at(libc::AT_FDCWD, &by_number(fd), flags & !libc::O_NOFOLLOW, 0),
            (Some(dir), path) => open(dir, path, flags, mode, has_openat2()),
        }?;
        if flags & (libc::O_PATH | libc::O_DIRECTORY) == 0 {
            check_shareable(&file)?;
        }
        Ok(file)
    }
    /// stat(2).
    pub(super) fn stat(&self) -> Result<libc::stat, i64> {
        let (dir, name) = self.parent()?;
        // SAFETY: 1. an all-zero stat is valid.
        let mut st: libc::stat = unsafe { std::mem::zeroed() };
        let flags = NO_FOLLOW | libc::AT_EMPTY_PATH;
        // SAFETY: 1. `name` is a C string; 2. the call fills `st`, which is writable.
        done(unsafe { libc::fstatat(dir.fd(), name.as_ptr(), &mut st, flags) })?;
        Ok(st)
    }
    /// readlink(2): at most `most` bytes.
    pub(super) fn readlink(&self, most: usize) -> Result<Vec<u8>, i64> {
        let (dir, name) = self.parent()?;
        let mut text = vec![0; most];
        // SAFETY: 1. `name` is a C string; 2. `text` is writable for its length.
        let n = unsafe { libc::readlinkat(dir.fd(), name.as_ptr(), text.as_mut_ptr().cast(), most) };
        if n < 0 {
            return Err(errno());
        }
        text.truncate(n as usize);
        Ok(text)
    }
    /// mkdir(2).
    pub(super) fn mkdir(&self, mode: u32) -> Result<(), i64> {
        let (dir, name) = self.parent()?;
        // SAFETY: 1. `name` is a C string.
        done(unsafe { libc::mkdirat(dir.fd(), name.as_ptr(), mode) })
    }
    /// rmdir(2).
    pub(super) fn rmdir(&self) -> Result<(), i64> {
        let (dir, name) = self.parent()?;
        // SAFETY: 1. `name` is a C string.
        done(unsafe { libc::unlinkat(dir.fd(), name.as_ptr(), libc::AT_REMOVEDIR) })
    }
    /// unlink(2).
    pub(super) fn unlink(&self) -> Result<(), i64> {
        let (dir, name) = self.parent()?;
        // SAFETY: 1. `name` is a C string.
        done(unsafe { libc::unlinkat(dir.fd(), name.as_ptr(), 0) })
    }
    /// rename(2).
    pub(super) fn rename(&self, to: &Place) -> Result<(), i64> {
        let ((dir, name), (to_dir, to_name)) = (self.parent()?, to.parent()?);
        // SAFETY: 1. the names are C strings.
        done(unsafe { libc::renameat(dir.fd(), name.as_ptr(), to_dir.fd(), to_name.as_ptr()) })
    }
    /// symlink(2).
    pub(super) fn symlink(&self, text: &[u8]) -> Result<(), i64> {
        let ((dir, name), text) = (self.parent()?, c_string(text)?);
        // SAFETY: 1. `text` and `name` are C strings.
        done(unsafe { libc::symlinkat(text.as_ptr(), dir.fd(), name.as_ptr()) })
    }
    /// link(2).
    pub(super) fn link(&self, to: &Place) -> Result<(), i64> {
        let (to_dir, to_name) = to.parent()?;
        let (dir, name, flags) = match (self.dir, self.path) {
            (Some(fd), b"") => (Dir::Lent(libc::AT_FDCWD), by_number(fd), libc::AT_SYMLINK_FOLLOW),
            _ => self.parent().map(|(dir, name)| (dir, name, 0))?,
        };
        // SAFETY: 1. the names are C strings.
        done(unsafe { libc::linkat(dir.fd(), name.as_ptr(), to_dir.fd(), to_name.as_ptr(), flags) })
    }
    /// chmod(2), of anything but a link.
    pub(super) fn chmod(&self, mode: u32) -> Result<(), i64> {
        let file = self.handle()?;
        if stat_of(file.fd())?.st_mode & libc::S_IFMT == libc::S_IFLNK {
            return Err(-i64::from(libc::EOPNOTSUPP));
        }
        // SAFETY: 1. the name is a C string.
        done(unsafe { libc::chmod(by_number(file.fd()).as_ptr(), mode) })
    }
    /// mknod(2) of a FIFO or socket.
    pub(super) fn mknod(&self, mode: u32) -> Result<(), i64> {
        if !matches!(mode & libc::S_IFMT, libc::S_IFIFO | libc::S_IFSOCK) {
            return Err(-i64::from(libc::EINVAL));
        }
        let (dir, name) = self.parent()?;
        // SAFETY: 1. `name` is a C string.
        done(unsafe { libc::mknodat(dir.fd(), name.as_ptr(), mode, 0) })
    }
    /// utimensat(2).
    pub(super) fn utimens(&self, times: [libc::timespec; 2]) -> Result<(), i64> {
        let (dir, name, flags) = match (self.dir, self.path) {
            (Some(fd), b"") => (Dir::Lent(libc::AT_FDCWD), by_number(fd), 0),
            _ => self.parent().map(|(dir, name)| (dir, name, NO_FOLLOW))?,
        };
        // SAFETY: 1. `name` is a C string; 2. `times` are two.
        done(unsafe { libc::utimensat(dir.fd(), name.as_ptr(), times.as_ptr(), flags) })
    }
    /// chown(2).
    pub(super) fn chown(&self, uid: u32, gid: u32) -> Result<(), i64> {
        let (dir, name) = self.parent()?;
        let flags = NO_FOLLOW | libc::AT_EMPTY_PATH;
        // SAFETY: 1. `name` is a C string.
        done(unsafe { libc::fchownat(dir.fd(), name.as_ptr(), uid, gid, flags) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    const NEW: i32 = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;

    /// A directory that is shared, one that is not, and a way from the first to the second.
    struct Trees {
        all: PathBuf,
        top: OwnedFd,
    }
    impl Trees {
        fn new() -> Self {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let all = std::env::temp_dir().join(format!("occlum-beneath-{}-{number}", std::process::id()));
            fs::create_dir_all(all.join("share/d/e")).unwrap();
            fs::create_dir_all(all.join("outside/e")).unwrap();
            for name in ["share/d/file", "outside/file"] {
                fs::write(all.join(name), name).unwrap();
                fs::set_permissions(all.join(name), fs::Permissions::from_mode(0o600)).unwrap();
            }
            symlink(all.join("outside"), all.join("share/way")).unwrap();
            symlink(all.join("outside/file"), all.join("share/link")).unwrap();
            let share = c_string(all.join("share").as_os_str().as_encoded_bytes()).unwrap();
            let top = open_at(libc::AT_FDCWD, &share, libc::O_PATH | libc::O_CLOEXEC, 0).unwrap();
            Self { all, top }
        }
        fn at<'a>(&self, path: &'a str) -> Place<'a> {
            Place::beneath(self.top.as_raw_fd(), path.as_bytes()).unwrap()
        }
        fn share(&self, path: &str) -> PathBuf {
            self.all.join("share").join(path)
        }
    }
    impl Drop for Trees {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.all);
        }
    }

    /// All of a tree that can be changed.
    fn state(top: &Path) -> Vec<String> {
        let mut all = Vec::new();
        for entry in fs::read_dir(top).unwrap() {
            let path = entry.unwrap().path();
            let s = fs::symlink_metadata(&path).unwrap();
            all.push(format!(
                "{path:?} {:o} {} {} {:?}",
                s.mode(),
                s.nlink(),
                s.ctime_nsec(),
                fs::read(&path).ok()
            ));
            if s.is_dir() {
                all.extend(state(&path));
            }
        }
        all.sort();
        all
    }
    fn err<T>(r: Result<T, i64>) -> i32 {
        r.err().map_or(0, |e| -e as i32)
    }

    /// All operations that change something, on a name that would lead there; their errors.
    fn change_all(t: &Trees, file: &str, dir: &str) -> Vec<i32> {
        let below = |name: &str| format!("{dir}/{name}");
        let (new, named, sub) = (below("new"), below("file"), below("e"));
        vec![
            err(t.at(&new).open(NEW, 0o666)),
            err(t.at(&named).open(libc::O_RDWR | libc::O_TRUNC, 0)),
            err(t.at(&new).mkdir(0o777)),
            err(t.at(&new).mknod(libc::S_IFIFO | 0o666)),
            err(t.at(&new).symlink(b"text")),
            err(t.at(file).link(&t.at(&new))),
            err(t.at(&named).link(&t.at("stolen"))),
            err(t.at(&named).chmod(0o666)),
            err(t.at(&named).utimens([libc::timespec { tv_sec: 1, tv_nsec: 0 }; 2])),
            err(t.at(&named).chown(u32::MAX, u32::MAX)),
            err(t.at(file).rename(&t.at(&new))),
            err(t.at(&named).rename(&t.at("stolen"))),
            err(t.at(&sub).rmdir()),
            err(t.at(&named).unlink()),
            err(t.at(&named).stat()),
            err(t.at(&named).readlink(100)),
        ]
    }

    #[test]
    fn a_link_on_the_way_is_not_followed() {
        let t = Trees::new();
        let before = state(&t.all.join("outside"));
        assert!(change_all(&t, "d/file", "way").iter().all(|e| [libc::ELOOP, libc::ENOTDIR].contains(e)));
        assert!(change_all(&t, "d/file", "way/e").iter().all(|e| [libc::ELOOP, libc::ENOTDIR].contains(e)));
        assert_eq!(state(&t.all.join("outside")), before);
    }

    #[test]
    fn a_link_at_the_end_is_itself() {
        let t = Trees::new();
        let before = state(&t.all.join("outside"));
        let link = t.at("link");
        assert_eq!(link.stat().unwrap().st_mode & libc::S_IFMT, libc::S_IFLNK);
        assert_eq!(link.readlink(200).unwrap(), t.all.join("outside/file").as_os_str().as_encoded_bytes());
        assert_eq!(link.readlink(3).unwrap().len(), 3);
        for flags in
            [libc::O_RDONLY, libc::O_RDWR, libc::O_RDWR | libc::O_CREAT, libc::O_RDWR | libc::O_TRUNC]
        {
            assert_eq!(err(link.open(flags, 0o666)), libc::ELOOP);
        }
        assert_eq!(err(link.open(NEW, 0o666)), libc::EEXIST);
        assert_eq!(err(link.chmod(0o666)), libc::EOPNOTSUPP);
        link.utimens([libc::timespec { tv_sec: 7, tv_nsec: 0 }; 2]).unwrap();
        assert_eq!(fs::symlink_metadata(t.share("link")).unwrap().mtime(), 7);
        link.link(&t.at("d/other")).unwrap();
        link.rename(&t.at("d/link")).unwrap();
        // By its descriptor, too, it stays a link.
        let handle = t.at("d/link").open(HANDLE, 0).unwrap();
        let itself = Place::beneath(handle.as_raw_fd(), b"").unwrap();
        assert_eq!(itself.readlink(3).unwrap().len(), 3);
        assert_eq!(err(itself.open(libc::O_RDWR, 0)), libc::ELOOP);
        assert_eq!(err(itself.chmod(0o666)), libc::EOPNOTSUPP);
        itself.utimens([libc::timespec { tv_sec: 8, tv_nsec: 0 }; 2]).unwrap();
        assert_eq!(fs::symlink_metadata(t.share("d/link")).unwrap().mtime(), 8);
        t.at("d/link").unlink().unwrap();
        assert_eq!(state(&t.all.join("outside")), before);
    }

    #[test]
    fn components_are_names() {
        for path in ["/", "/d", "..", ".", "d/..", "d/../d", "./d", "d//file", "d/", "../outside/file"] {
            assert_eq!(err(Place::beneath(0, path.as_bytes())), libc::EXDEV, "{path}");
        }
        let t = Trees::new();
        assert_eq!(err(t.at("d\0/file").stat()), libc::EINVAL);
    }

    #[test]
    fn files_of_proc_are_not_opened() {
        let root = open_at(libc::AT_FDCWD, c"/", libc::O_PATH | libc::O_CLOEXEC, 0).unwrap();
        let own = format!("proc/{}/mem", std::process::id());
        for path in [own.as_str(), "proc/version"] {
            let place = Place::beneath(root.as_raw_fd(), path.as_bytes()).unwrap();
            assert_eq!(err(place.open(libc::O_RDONLY, 0)), libc::EACCES);
            let handle = place.open(HANDLE, 0).unwrap();
            let itself = Place::beneath(handle.as_raw_fd(), b"").unwrap();
            assert_eq!(err(itself.open(libc::O_RDONLY, 0)), libc::EACCES);
        }
        let proc = Place::beneath(root.as_raw_fd(), b"proc").unwrap();
        proc.open(libc::O_RDONLY | libc::O_DIRECTORY, 0).unwrap();
    }

    #[test]
    fn name_by_name_is_as_openat2() {
        let t = Trees::new();
        let open_both = |path: &str, flags: i32| {
            [true, false]
                .map(|way| open(t.top.as_raw_fd(), path.as_bytes(), flags | libc::O_CLOEXEC, 0o600, way))
        };
        for flags in
            [libc::O_RDONLY, libc::O_RDWR | libc::O_CREAT, libc::O_PATH, libc::O_PATH | libc::O_NONBLOCK]
        {
            for path in ["d/file", "d/e", "link", "d/e/none/none", "d/file/x"] {
                let [a, b] = open_both(path, flags);
                let seen = |r: &Result<OwnedFd, i64>| {
                    r.as_ref().ok().map(|fd| stat_of(fd.as_raw_fd()).unwrap().st_ino)
                };
                assert_eq!(seen(&a), seen(&b), "{path} {flags:o}");
                assert_eq!(err(a), err(b), "{path} {flags:o}");
            }
        }
        for path in ["way/file", "way/e/new", "way/new"] {
            for r in open_both(path, libc::O_RDWR | libc::O_CREAT) {
                assert!([libc::ELOOP, libc::ENOTDIR].contains(&err(r)), "{path}");
            }
        }
        assert!(!t.all.join("outside/new").exists());
    }

    #[test]
    fn everything_works_inside() {
        let t = Trees::new();
        t.at("d/e/new").open(NEW, 0o600).unwrap();
        t.at("d/e/new").link(&t.at("hard")).unwrap();
        t.at("hard").chmod(0o640).unwrap();
        assert_eq!(t.at("d/e/new").stat().unwrap().st_mode & 0o777, 0o640);
        t.at("d/e/fifo").mknod(libc::S_IFIFO | 0o600).unwrap();
        assert!(fs::symlink_metadata(t.share("d/e/fifo")).unwrap().file_type().is_fifo());
        assert_eq!(err(t.at("null").mknod(libc::S_IFCHR)), libc::EINVAL);
        t.at("d/e").rename(&t.at("f")).unwrap();
        assert_eq!(err(t.at("d/e/new").stat()), libc::ENOENT);
        t.at("f/new").unlink().unwrap();
        t.at("f/fifo").unlink().unwrap();
        t.at("f").rmdir().unwrap();
        // What a descriptor stands for has no need of a name.
        let file = t.at("hard").open(HANDLE, 0).unwrap();
        let itself = Place::beneath(file.as_raw_fd(), b"").unwrap();
        itself.link(&t.at("again")).unwrap();
        t.at("again").unlink().unwrap();
        t.at("hard").unlink().unwrap();
        itself.chmod(0o604).unwrap();
        itself.utimens([libc::timespec { tv_sec: 9, tv_nsec: 0 }; 2]).unwrap();
        itself.chown(u32::MAX, u32::MAX).unwrap();
        let s = itself.stat().unwrap();
        assert_eq!((s.st_mode & 0o777, s.st_nlink, s.st_mtime), (0o604, 0, 9));
        itself.open(libc::O_RDWR, 0).unwrap();
    }

    #[test]
    fn names_that_change_meanwhile_lead_nowhere_else() {
        let t = Trees::new();
        let before = state(&t.all.join("outside"));
        let [a, b] = ["d", "way"].map(|name| c_string(name.as_bytes()).unwrap());
        let (top, stop) = (t.top.as_raw_fd(), AtomicBool::new(false));
        std::thread::scope(|s| {
            s.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // SAFETY: 1. the names are C strings.
                    let r =
                        unsafe { libc::renameat2(top, a.as_ptr(), top, b.as_ptr(), libc::RENAME_EXCHANGE) };
                    assert_eq!(r, 0);
                }
            });
            for i in 0..2000 {
                change_all(&t, "d/file", if i % 2 == 0 { "d" } else { "d/e" });
                for way in [true, false] {
                    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_CLOEXEC;
                    let _ = open(top, b"d/file", flags, 0o600, way);
                    let _ = open(top, b"d/e/file", flags, 0o600, way);
                }
                let _ = t.at("d/e").mkdir(0o700);
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(state(&t.all.join("outside")), before);
    }
}
