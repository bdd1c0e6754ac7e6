//! The measured configuration: everything that MRENCLAVE must cover besides the image. docs/configuration-page.md has
//! the bytes.
//!
//! Neighbours: `python/occlum/config/page.py` writes it, `host/pal` adds its pages, `enclave/rt` reads it before
//! anything else runs. It is measured, so whoever trusts the measurement trusts it; it is decoded as hostile bytes all
//! the same. Invariant: what `decode` accepts has exactly one encoding, so equal configurations have equal pages.
use crate::{Reader, put};
use alloc::vec::Vec;

/// Most bytes of a configuration.
pub const CONFIG_MAX: usize = 1 << 20;
/// Most entries in each of its lists.
pub const CONFIG_LIST_MAX: u32 = 4096;
/// Bytes of the pinned root of an image: the seal of its superblock, then zeros.
pub const PINNED_ROOT: usize = 32;

/// `Config::flags`: a debug enclave. Only these let the host trace, profile, dump and debug programs.
pub const CONFIG_DEBUG: u32 = 1;
/// `Config::flags`: the view of `occlum try`. The root is the host's file system under a layer in memory, and user,
/// environment, working directory, program and binds are the host's to choose. The mount table is empty.
pub const CONFIG_HOST_VIEW: u32 = 2;
/// `Config::flags`: the LibOS logs nothing but its own failure.
pub const CONFIG_DISABLE_LOG: u32 = 4;
/// `Config::flags`: key separation and sharing (ATTRIBUTES.KSS).
pub const CONFIG_KSS: u32 = 8;
/// `Config::flags`: no page of the enclave is in two places at once, as on hardware; shared memory is kept in step by
/// copies.
pub const CONFIG_NO_ALIAS: u32 = 16;
const CONFIG_FLAGS: u32 = CONFIG_DEBUG | CONFIG_HOST_VIEW | CONFIG_DISABLE_LOG | CONFIG_KSS | CONFIG_NO_ALIAS;

/// How narrow control flow is (`docs/cfi.md`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum CfiLevel {
    /// Returns go behind calls, indirect calls and jumps to instruction boundaries.
    #[default]
    Default = 0,
    /// Indirect calls and jumps go only to what the program's files or code name as a target.
    Strict = 1,
    /// Returns go where the call was.
    ShadowStack = 2,
}
impl CfiLevel {
    /// All of them with the names that options and logs use.
    pub const NAMES: [(Self, &str); 3] =
        [(Self::Default, "default"), (Self::Strict, "strict"), (Self::ShadowStack, "shadow-stack")];
    /// The level with this number.
    pub fn from_u32(n: u32) -> Option<Self> {
        Self::NAMES.iter().map(|(level, _)| *level).find(|level| *level as u32 == n)
    }
    /// The level with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(level, _)| *level)
    }
    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(level, _)| *level == self).map_or("", |(_, name)| name)
    }
}

/// What a row of the mount table mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MountKind {
    /// A read-only, integrity-only sealed store; its root is pinned.
    SealedImage = 1,
    /// An encrypted, writable sealed store.
    SealedLayer = 2,
    /// A directory of the host, which is not trusted.
    HostFs = 3,
    /// Files in the enclave's memory.
    RamFs = 4,
    /// /proc.
    ProcFs = 5,
    /// /dev, with what belongs below it.
    DevFs = 6,
    /// /sys.
    SysFs = 7,
}
impl MountKind {
    const ALL: [Self; 7] = [
        Self::SealedImage,
        Self::SealedLayer,
        Self::HostFs,
        Self::RamFs,
        Self::ProcFs,
        Self::DevFs,
        Self::SysFs,
    ];
    /// The kind with this number.
    pub fn from_u32(n: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == n)
    }
}

/// `Mount::flags`: nothing in it can be changed.
pub const MOUNT_READ_ONLY: u32 = 1;
const MOUNT_FLAGS: u32 = MOUNT_READ_ONLY;

/// A row of the mount table. Rows with the same target that follow each other are the layers of one mount, the lowest
/// first: all but the last are only read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Absolute path without `.`, `..` and doubled or trailing slashes.
    pub target: Vec<u8>,
    /// What it is.
    pub kind: MountKind,
    /// `MOUNT_*`.
    pub flags: u32,
    /// What the host knows it by (`LaunchParams::sources` says where that is); empty if it needs nothing of the host's.
    pub source: Vec<u8>,
    /// `NAME=VALUE` separated by commas; which there are depends on the kind.
    pub options: Vec<u8>,
    /// Of an image: its root. Zero otherwise.
    pub root: [u8; PINNED_ROOT],
}

/// Product id, versions and KSS fields (SDM, "SIGSTRUCT"): what the enclave says it is; EINIT holds it to the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// ISVPRODID.
    pub product_id: u16,
    /// ISVSVN.
    pub svn: u16,
    /// ISVFAMILYID; zero without KSS.
    pub family_id: [u8; 16],
    /// ISVEXTPRODID; zero without KSS.
    pub ext_product_id: [u8; 16],
}

/// The configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Enclave memory budget, bytes.
    pub memory_bytes: u64,
    /// Number of vCPUs (TCSs).
    pub vcpus: u32,
    /// Most processes and threads.
    pub max_tasks: u32,
    /// Largest pid before wrapping.
    pub pid_max: u32,
    /// Control-flow integrity.
    pub cfi: CfiLevel,
    /// `CONFIG_*`.
    pub flags: u32,
    /// User of the programs; not with `CONFIG_HOST_VIEW`.
    pub uid: u32,
    /// Group of the programs; not with `CONFIG_HOST_VIEW`.
    pub gid: u32,
    /// RLIMIT_STACK at the start, bytes; 0: the LibOS's own.
    pub stack_bytes: u64,
    /// RLIMIT_DATA at the start, bytes; 0: the LibOS's own.
    pub data_bytes: u64,
    /// Ids.
    pub identity: Identity,
    /// Working directory that programs start in; empty with `CONFIG_HOST_VIEW`.
    pub cwd: Vec<u8>,
    /// Absolute paths of programs, and of directories with programs, that the host may start.
    pub entry_points: Vec<Vec<u8>>,
    /// Environment, `NAME=VALUE` each.
    pub env_default: Vec<Vec<u8>>,
    /// Names of variables whose values the host may set.
    pub env_untrusted: Vec<Vec<u8>>,
    /// The mount table, in order.
    pub mounts: Vec<Mount>,
}

/// Why a configuration is none.
pub type ConfigError = &'static str;

impl Config {
    /// First bytes.
    pub const MAGIC: [u8; 8] = *b"OCCLCFG2";
    /// Bytes of magic and length.
    pub const HEAD: usize = 12;

    /// Is it a debug enclave?
    pub fn is_debug(&self) -> bool {
        self.flags & CONFIG_DEBUG != 0
    }
    /// Is it the view of `occlum try`?
    pub fn is_host_view(&self) -> bool {
        self.flags & CONFIG_HOST_VIEW != 0
    }

    /// Magic, length of the whole, then the fields in order; lists begin with their number, strings with their length.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Self::MAGIC.to_vec();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.memory_bytes.to_le_bytes());
        let words =
            [self.vcpus, self.max_tasks, self.pid_max, self.cfi as u32, self.flags, self.uid, self.gid];
        words.iter().for_each(|v| out.extend_from_slice(&v.to_le_bytes()));
        out.extend_from_slice(&self.stack_bytes.to_le_bytes());
        out.extend_from_slice(&self.data_bytes.to_le_bytes());
        out.extend_from_slice(&self.identity.product_id.to_le_bytes());
        out.extend_from_slice(&self.identity.svn.to_le_bytes());
        out.extend_from_slice(&self.identity.family_id);
        out.extend_from_slice(&self.identity.ext_product_id);
        put(&mut out, &self.cwd);
        for list in [&self.entry_points, &self.env_default, &self.env_untrusted] {
            out.extend_from_slice(&(list.len() as u32).to_le_bytes());
            list.iter().for_each(|s| put(&mut out, s));
        }
        out.extend_from_slice(&(self.mounts.len() as u32).to_le_bytes());
        for m in &self.mounts {
            out.extend_from_slice(&(m.kind as u32).to_le_bytes());
            out.extend_from_slice(&m.flags.to_le_bytes());
            put(&mut out, &m.target);
            put(&mut out, &m.source);
            put(&mut out, &m.options);
            out.extend_from_slice(&m.root);
        }
        let length = out.len() as u32;
        out[8..12].copy_from_slice(&length.to_le_bytes());
        out
    }

    /// The length that the first page names, if it begins like a configuration.
    pub fn length(first: &[u8]) -> Option<usize> {
        let (magic, rest) = first.split_first_chunk::<8>()?;
        let (length, _) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        (*magic == Self::MAGIC && (Self::HEAD..=CONFIG_MAX).contains(&length)).then_some(length)
    }

    /// Reads exactly one configuration; zeros may follow it.
    pub fn decode(bytes: &[u8]) -> Result<Self, ConfigError> {
        let length = Self::length(bytes).ok_or("it does not begin as one")?;
        let (body, rest) = bytes.split_at_checked(length).ok_or("it is shorter than it says")?;
        if rest.iter().any(|b| *b != 0) {
            return Err("something follows it");
        }
        let mut r = Reader { bytes: body.get(Self::HEAD..).unwrap_or_default() };
        let config = Self::fields(&mut r).ok_or("a field is cut off, or has a value that there is not")?;
        if !r.bytes.is_empty() {
            return Err("it is longer than its fields");
        }
        config.check()?;
        Ok(config)
    }

    fn fields(r: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            memory_bytes: r.u64()?,
            vcpus: r.u32()?,
            max_tasks: r.u32()?,
            pid_max: r.u32()?,
            cfi: CfiLevel::from_u32(r.u32()?)?,
            flags: r.u32()?,
            uid: r.u32()?,
            gid: r.u32()?,
            stack_bytes: r.u64()?,
            data_bytes: r.u64()?,
            identity: Identity {
                product_id: u16::from_le_bytes(r.array()?),
                svn: u16::from_le_bytes(r.array()?),
                family_id: r.array()?,
                ext_product_id: r.array()?,
            },
            cwd: r.bytes()?,
            entry_points: list(r, Reader::bytes)?,
            env_default: list(r, Reader::bytes)?,
            env_untrusted: list(r, Reader::bytes)?,
            mounts: list(r, mount)?,
        })
    }

    fn check(&self) -> Result<(), ConfigError> {
        let need = |good: bool, why| if good { Ok(()) } else { Err(why) };
        need(self.flags & !CONFIG_FLAGS == 0, "it has flags that there are not")?;
        let kss = self.flags & CONFIG_KSS != 0;
        let ids = (self.identity.family_id, self.identity.ext_product_id);
        need(kss || ids == ([0; 16], [0; 16]), "it has ids that need KSS")?;
        need(self.vcpus != 0 && self.max_tasks != 0 && self.pid_max > 1, "a limit is zero")?;
        need(self.entry_points.iter().all(|p| is_path(p)), "an entry point is no absolute path")?;
        need(self.env_default.iter().all(|v| is_setting(v)), "a variable is not NAME=VALUE")?;
        need(self.env_untrusted.iter().all(|v| is_name(v)), "the name of a variable is none")?;
        if self.is_host_view() {
            let empty = self.cwd.is_empty() && self.entry_points.is_empty() && self.env_default.is_empty();
            let empty = empty && self.env_untrusted.is_empty() && self.mounts.is_empty();
            return need(empty, "the host's view has nothing of an instance's");
        }
        need(is_path(&self.cwd), "the working directory is no absolute path")?;
        need(self.mounts.first().is_some_and(|m| m.target == b"/"), "the first mount is not the root")?;
        self.mounts.iter().try_for_each(Mount::check)
    }
}

impl Mount {
    fn check(&self) -> Result<(), ConfigError> {
        let need = |good: bool, why| if good { Ok(()) } else { Err(why) };
        let image = self.kind == MountKind::SealedImage;
        let of_host =
            matches!(self.kind, MountKind::SealedImage | MountKind::SealedLayer | MountKind::HostFs);
        need(self.flags & !MOUNT_FLAGS == 0, "a mount has flags that there are not")?;
        need(is_path(&self.target), "the target of a mount is no absolute path")?;
        need(of_host != self.source.is_empty(), "a mount needs a source, or has one and needs none")?;
        need(
            !self.source.contains(&0) && !self.options.contains(&0),
            "a mount's source or options have a NUL",
        )?;
        need(!image || self.flags & MOUNT_READ_ONLY != 0, "an image is mounted read-only")?;
        need(image != (self.root == [0; PINNED_ROOT]), "an image has a pinned root, and nothing else has")
    }
}

fn list<'a, T>(r: &mut Reader<'a>, one: fn(&mut Reader<'a>) -> Option<T>) -> Option<Vec<T>> {
    let count = r.u32().filter(|n| *n <= CONFIG_LIST_MAX)?;
    (0..count).map(|_| one(r)).collect()
}

fn mount(r: &mut Reader<'_>) -> Option<Mount> {
    let (kind, flags) = (MountKind::from_u32(r.u32()?)?, r.u32()?);
    Some(Mount { kind, flags, target: r.bytes()?, source: r.bytes()?, options: r.bytes()?, root: r.array()? })
}

/// An absolute path in its shortest form.
fn is_path(path: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(b"/") else { return false };
    let good = |name: &[u8]| !name.is_empty() && name != b"." && name != b".." && !name.contains(&0);
    rest.is_empty() || rest.split(|b| *b == b'/').all(good)
}
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && !name.contains(&0) && !name.contains(&b'=')
}
fn is_setting(setting: &[u8]) -> bool {
    setting.iter().position(|b| *b == b'=').is_some_and(|at| at > 0) && !setting.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn row(kind: MountKind, target: &[u8]) -> Mount {
        Mount {
            target: target.to_vec(),
            kind,
            flags: 0,
            source: vec![],
            options: vec![],
            root: [0; PINNED_ROOT],
        }
    }
    fn instance() -> Config {
        let image = Mount {
            flags: MOUNT_READ_ONLY,
            source: b"image".to_vec(),
            root: [7; PINNED_ROOT],
            ..row(MountKind::SealedImage, b"/")
        };
        Config {
            memory_bytes: 512 << 20,
            vcpus: 2,
            max_tasks: 32,
            pid_max: 32768,
            flags: CONFIG_DEBUG | CONFIG_KSS,
            cwd: b"/".to_vec(),
            identity: Identity { product_id: 3, svn: 1, family_id: [1; 16], ext_product_id: [2; 16] },
            entry_points: vec![b"/bin".to_vec(), b"/usr/bin/python3".to_vec()],
            env_default: vec![b"OCCLUM=yes".to_vec()],
            env_untrusted: vec![b"EXAMPLE".to_vec()],
            mounts: vec![image, row(MountKind::RamFs, b"/"), row(MountKind::ProcFs, b"/proc")],
            ..Config::default()
        }
    }
    fn host_view() -> Config {
        let flags = CONFIG_DEBUG | CONFIG_HOST_VIEW;
        Config { memory_bytes: 1 << 30, vcpus: 1, max_tasks: 9, pid_max: 9, flags, ..Config::default() }
    }

    /// The example that `tests/unit/config/test_page.py` encodes, too.
    #[test]
    fn the_vector_is_this_configuration() {
        let hex: Vec<u8> =
            include_str!("../tests/configuration.hex").bytes().filter(|b| *b != b'\n').collect();
        let digit = |b: u8| char::from(b).to_digit(16).unwrap() as u8;
        let bytes: Vec<u8> = hex.chunks(2).map(|d| digit(d[0]) << 4 | digit(d[1])).collect();
        assert_eq!(Config::decode(&bytes), Ok(instance()));
        assert_eq!(instance().encode(), bytes);
    }

    #[test]
    fn configurations_survive_their_pages() {
        for config in [instance(), host_view()] {
            let mut pages = config.encode();
            assert_eq!(Config::decode(&pages), Ok(config.clone()));
            pages.resize(8192, 0);
            assert_eq!(Config::decode(&pages), Ok(config));
        }
    }

    #[test]
    fn every_cut_and_every_tail_is_refused() {
        let bytes = instance().encode();
        for n in 0..bytes.len() {
            assert!(Config::decode(&bytes[..n]).is_err());
            let mut shorter = bytes[..n].to_vec();
            if n >= Config::HEAD {
                shorter[8..12].copy_from_slice(&(n as u32).to_le_bytes());
                assert!(Config::decode(&shorter).is_err());
            }
        }
        assert!(Config::decode(&[&bytes[..], &[0, 1]].concat()).is_err());
    }

    #[test]
    fn flipped_bits_never_panic_and_what_is_accepted_has_one_encoding() {
        let bytes = instance().encode();
        for bit in 0..bytes.len() * 8 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            if let Ok(config) = Config::decode(&other) {
                assert_eq!(config.encode(), other);
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let changes: [fn(&mut Config); 17] = [
            |c| c.flags = 1 << 31,
            |c| c.vcpus = 0,
            |c| c.max_tasks = 0,
            |c| c.pid_max = 1,
            |c| c.cwd = b"etc".to_vec(),
            |c| c.entry_points = vec![b"/bin/../etc".to_vec()],
            |c| c.env_default = vec![b"=x".to_vec()],
            |c| c.env_default = vec![b"NOVALUE".to_vec()],
            |c| c.env_untrusted = vec![b"A=B".to_vec()],
            |c| c.mounts.clear(),
            |c| c.mounts[0].root = [0; PINNED_ROOT],
            |c| c.mounts[0].flags = 0,
            |c| c.mounts[0].source.clear(),
            |c| c.mounts[1].source = b"x".to_vec(),
            |c| c.mounts[2].target = b"/proc/".to_vec(),
            |c| c.flags |= CONFIG_HOST_VIEW,
            |c| c.flags &= !CONFIG_KSS,
        ];
        for change in changes {
            let mut config = instance();
            change(&mut config);
            assert!(Config::decode(&config.encode()).is_err());
        }
    }
}
