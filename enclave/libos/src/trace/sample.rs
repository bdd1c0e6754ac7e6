//! Samples for a profile: where a program is, with a piece of its stack, which the host unwinds.
//!
//! Neighbours: the host kicks the vCPUs at a frequency; `syscall::kick` asks here whether a kick is one of these. (A kick
//! is never information: at worst there are more or fewer samples, at most one each half period.) Invariant: a sample is
//! taken of an original state only.
use super::record::Builder;
use super::{OPTIONS, maps, memory, registers};
use crate::mm::Mm;
use crate::process::Task;
use crate::time::monotonic_ns;
use alloc::collections::BTreeMap;
use occlum_enclave_abi::Record as Kind;
use occlum_linux_abi::mmap::PROT_EXEC;
use occlum_rt::bkl::BklCell;

/// When each vCPU gave its last sample.
static LAST: BklCell<[u64; 64]> = BklCell::new([0; 64]);
/// A digest of the executable mappings that the host was told of, by pid.
static TOLD: BklCell<BTreeMap<i32, u64>> = BklCell::new(BTreeMap::new());

/// Is this vCPU's next sample due?
pub fn is_due() -> bool {
    let period = OPTIONS.with(|o| o.sample_ns);
    if period == 0 {
        return false;
    }
    let (now, vcpu) = (monotonic_ns(), occlum_rt::vcpu::current() as usize);
    LAST.with_mut(|last| {
        let due = now.saturating_sub(last[vcpu]) >= period / 2;
        if due {
            last[vcpu] = now;
        }
        due
    })
}

/// Tells of the task, which is in its original state.
pub fn sample(t: &Task) {
    let Some(mm) = t.process.mm() else { return };
    let digest = digest(&mm);
    if TOLD.with_mut(|told| told.insert(t.process.pid, digest)) != Some(digest) {
        maps(t, &mm, false);
    }
    let mut b = Builder::new(Kind::Sample, t.process.pid, t.tid);
    registers(&mut b, t);
    let most = OPTIONS.with(|o| u64::from(o.sample_stack));
    b.bytes(&memory(&mm, t.rt.gpr(4), most));
    b.end();
}

/// FNV-1a over the executable mappings.
fn digest(mm: &Mm) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for (start, vma) in mm.vmas().filter(|(_, v)| v.prot() & PROT_EXEC != 0) {
        let (id, version) = vma.backing.file().map_or((0, 0), |f| f.id());
        for word in [start, vma.end, vma.backing.offset(), id, version] {
            hash = (hash ^ word).wrapping_mul(0x100_0000_01b3);
        }
    }
    hash
}
