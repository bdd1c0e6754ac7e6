//! The error type of the LibOS: Linux errno values.
pub use occlum_linux_abi::Errno;
/// Result of everything that can fail with an errno.
pub type Result<T> = core::result::Result<T, Errno>;

/// A negated errno from the host, taken as untrusted: anything that is not an errno becomes EIO.
pub fn host_result(ret: i64) -> Result<u64> {
    if ret >= 0 {
        return Ok(ret as u64);
    }
    Err(ret.checked_neg().and_then(|e| i32::try_from(e).ok()).and_then(Errno::from_raw).unwrap_or(Errno::EIO))
}
