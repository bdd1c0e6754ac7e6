//! Files: `stat`, `statx`, `statfs`, `iovec`, locks, directory entries.
use super::layout;
use super::time::Timespec;

layout! {
    /// `struct stat`.
    Stat[144] {
        st_dev: u64 = 0,
        st_ino: u64 = 8,
        st_nlink: u64 = 16,
        st_mode: u32 = 24,
        st_uid: u32 = 28,
        st_gid: u32 = 32,
        st_rdev: u64 = 40,
        st_size: i64 = 48,
        st_blksize: i64 = 56,
        st_blocks: i64 = 64,
        st_atim: Timespec = 72,
        st_mtim: Timespec = 88,
        st_ctim: Timespec = 104,
    }
    /// `struct statx_timestamp`.
    StatxTimestamp[16] {
        tv_sec: i64 = 0,
        tv_nsec: u32 = 8,
    }
    /// `struct statx`.
    Statx[256] {
        stx_mask: u32 = 0,
        stx_blksize: u32 = 4,
        stx_attributes: u64 = 8,
        stx_nlink: u32 = 16,
        stx_uid: u32 = 20,
        stx_gid: u32 = 24,
        stx_mode: u16 = 28,
        stx_ino: u64 = 32,
        stx_size: u64 = 40,
        stx_blocks: u64 = 48,
        stx_attributes_mask: u64 = 56,
        stx_atime: StatxTimestamp = 64,
        stx_btime: StatxTimestamp = 80,
        stx_ctime: StatxTimestamp = 96,
        stx_mtime: StatxTimestamp = 112,
        stx_rdev_major: u32 = 128,
        stx_rdev_minor: u32 = 132,
        stx_dev_major: u32 = 136,
        stx_dev_minor: u32 = 140,
        stx_mnt_id: u64 = 144,
    }
    /// `struct statfs`.
    Statfs[120] {
        f_type: i64 = 0,
        f_bsize: i64 = 8,
        f_blocks: u64 = 16,
        f_bfree: u64 = 24,
        f_bavail: u64 = 32,
        f_files: u64 = 40,
        f_ffree: u64 = 48,
        f_fsid: u64 = 56,
        f_namelen: i64 = 64,
        f_frsize: i64 = 72,
        f_flags: i64 = 80,
    }
    /// `struct iovec`.
    Iovec[16] {
        iov_base: u64 = 0,
        iov_len: u64 = 8,
    }
    /// `struct flock`.
    Flock[32] {
        l_type: i16 = 0,
        l_whence: i16 = 2,
        l_start: i64 = 8,
        l_len: i64 = 16,
        l_pid: i32 = 24,
    }
}

/// One entry of `getdents64`: u64 inode, i64 offset, u16 record length, u8 type, name, NUL, padding to 8
/// bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirent64<'a> {
    /// Inode number.
    pub ino: u64,
    /// Position of the next entry.
    pub next: i64,
    /// `stat::DT_*`.
    pub kind: u8,
    /// Name without NUL.
    pub name: &'a [u8],
}
impl Dirent64<'_> {
    const NAME_AT: usize = 19;

    /// Bytes of the record.
    pub const fn record_len(&self) -> usize {
        (Self::NAME_AT + self.name.len() + 1).next_multiple_of(8)
    }

    /// Writes the record at the start of `out`; `None` if it does not fit.
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let len = self.record_len();
        let record_len = u16::try_from(len).ok()?;
        let out = out.get_mut(..len)?;
        out.fill(0);
        out[..8].copy_from_slice(&self.ino.to_le_bytes());
        out[8..16].copy_from_slice(&self.next.to_le_bytes());
        out[16..18].copy_from_slice(&record_len.to_le_bytes());
        out[18] = self.kind;
        out[Self::NAME_AT..Self::NAME_AT + self.name.len()].copy_from_slice(self.name);
        Some(len)
    }
}
