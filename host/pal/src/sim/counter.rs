//! The simulated CPU's trusted counters: one small file each, beside the fuse key.
//!
//! Neighbours: `egetkey` has the key and the place, `occlum_sgx_arch::counter` says what a counter does. A counter is
//! replaced in one step, under a lock, and is durable before it is answered for. Whoever changes the file is noticed; who
//! puts an older one back is not: hardware keeps counters where nobody can, simulation has no such place.
use occlum_sgx_arch::counter::{ANSWER, REQUEST, Request, serve as count};
use std::fs::{DirBuilder, File, Permissions};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Serves one request of an enclave whose counters have this key.
pub(super) fn serve(folder: &Path, key: &[u8; 32], request: &[u8; REQUEST]) -> Result<[u8; ANSWER]> {
    let request =
        Request::open(request, key).ok_or_else(|| Error::new(ErrorKind::InvalidInput, "a forged request"))?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Only its owner: also a directory that was there before.
    std::fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    let lock =
        File::options().write(true).create(true).truncate(false).mode(0o600).open(folder.join("lock"))?;
    // SAFETY: 1. flock has no memory arguments; 2. the descriptor is open as long as `lock` lives.
    if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) } != 0 {
        return Err(Error::last_os_error());
    }
    let name: String = request.slot.iter().map(|b| format!("{b:02x}")).collect();
    let path = folder.join(name);
    let kept = match File::open(&path) {
        // A longer one is damaged, whatever its length.
        Ok(file) => {
            let mut bytes = Vec::new();
            file.take(4096).read_to_end(&mut bytes)?;
            Some(bytes)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let (answer, next) = count(kept.as_deref(), &request, key);
    if let Some(record) = next {
        replace(folder, &path, &record.seal(&request.slot, key))?;
    }
    Ok(answer.seal(&request, key))
}

/// Puts a file in the place of another, durably and in one step.
fn replace(folder: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension("new");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&part, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use occlum_sgx_arch::counter::{Answer, Op, STATE};

    const KEY: [u8; 32] = [9; 32];

    fn ask(folder: &Path, op: Op, from: u64) -> Answer {
        let request =
            Request { op, policy: 1, slot: [1; 16], nonce: [2; 16], from, state: [from as u8; STATE] };
        let answer = serve(folder, &KEY, &request.seal(&KEY)).expect("an answer");
        Answer::open(&answer, &request, &KEY).expect("an authentic answer")
    }

    #[test]
    fn counters_last_are_private_and_notice_who_changes_them() {
        let folder = std::env::temp_dir().join(format!("occlum-counters-{}", std::process::id()));
        assert_eq!(ask(&folder, Op::Read, 0), Answer::Absent);
        assert!(matches!(ask(&folder, Op::Advance, 0), Answer::Stands(r) if r.value == 1));
        assert!(matches!(ask(&folder, Op::Advance, 1), Answer::Stands(r) if r.value == 2));
        assert!(matches!(ask(&folder, Op::Advance, 1), Answer::Moved(r) if r.value == 2));
        assert!(
            matches!(ask(&folder, Op::Read, 0), Answer::Stands(r) if r.value == 2 && r.state == [1; STATE])
        );
        let path = folder.join("01".repeat(16));
        let mode = |path: &Path| std::fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));
        let forged = [0; REQUEST];
        assert_eq!(serve(&folder, &KEY, &forged).expect_err("refused").kind(), ErrorKind::InvalidInput);
        let mut bytes = std::fs::read(&path).expect("read");
        bytes[8] = 1;
        std::fs::write(&path, bytes).expect("write");
        assert_eq!(ask(&folder, Op::Read, 0), Answer::Damaged);
        assert_eq!(ask(&folder, Op::Advance, 1), Answer::Damaged);
        std::fs::remove_dir_all(&folder).expect("remove");
    }
}
