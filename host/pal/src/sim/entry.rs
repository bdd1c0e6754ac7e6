//! EENTER and EEXIT of the simulator, and what a vCPU thread needs for them.
//!
//! Register contract: `enclave/rt/src/asm.rs`. Invariants: while the enclave runs, SSA[CSSA].URSP points to this thread's
//! saved registers; FS and GS bases of the host are in `Thread` and come back before any host code runs.
use crate::PalError;
use crate::ocall::Host;
use occlum_sgx_arch::{layout, ssa, tcs};
use std::arch::global_asm;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Exit code that the simulator itself uses: the enclave has ended while this vCPU was inside.
pub(super) const EXIT_ABANDONED: u64 = 0x100;
/// Size and alignment of a vCPU thread's block in the signal stacks' area: `Thread` pointer, guard page, stack.
const ALTSTACK: usize = 256 << 10;
/// Where the stack starts in its block.
const STACK: usize = 8192;
/// Bytes of the area: a block for each possible vCPU.
const AREA: usize = ALTSTACK * layout::MAX_VCPUS as usize;

/// State of a vCPU thread that assembly and signal handlers use.
#[repr(C)]
pub(super) struct Thread {
    pub(super) host_fs: u64,
    pub(super) host_gs: u64,
    pub(super) tcs: u64,
    host: *const std::ffi::c_void,
}

global_asm!(
    r#"
    .text
    .globl occlum_sim_begin
occlum_sim_begin:
    // rdi = Thread, rsi = TCS, rdx = CSSA, rcx = command, r8 = three arguments. Returns the exit code.
    .globl occlum_sim_eenter
occlum_sim_eenter:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    push rdi
    rdfsbase rax
    mov [rdi + {host_fs}], rax
    rdgsbase rax
    mov [rdi + {host_gs}], rax
    mov rbx, rsi
    mov r9, rdx
    mov rdi, rcx
    mov rsi, [r8]
    mov rdx, [r8 + 8]
    mov r8, [r8 + 16]
    mov rax, r9
    imul rax, rax, {frame}
    add rax, [rbx + {ossa}]
    mov [rax + {ursp}], rsp
    mov rax, r9
    lea rcx, [rip + occlum_sim_after]
    mov r10, [rbx + {ofsbase}]
    mov r11, [rbx + {oentry}]
    wrfsbase r10
    wrgsbase r10
    jmp r11
    // EEXIT: rsp = URSP, rbx = target, rdi = exit code.
    .globl occlum_sim_gate
occlum_sim_gate:
    mov rax, [rsp]
    mov r10, [rax + {host_fs}]
    wrfsbase r10
    mov r10, [rax + {host_gs}]
    wrgsbase r10
    jmp rbx
    .globl occlum_sim_after
occlum_sim_after:
    cld
    mov rax, rdi
    add rsp, 8
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret
    .globl occlum_sim_end
occlum_sim_end:
    // Signal entry: rdi = number, rsi = siginfo, rdx = ucontext, FS and GS of whatever ran. A thread whose signal stack
    // is not in our area is no vCPU: it has its own FS and GS, and nothing below its stack pointer is ours to read (S4).
    .globl occlum_sim_signal
occlum_sim_signal:
    mov rax, rsp
    sub rax, [rip + {area}]
    cmp rax, {area_size}
    jae {foreign}
    push rbp
    mov rbp, rsp
    and rsp, -16
    rdfsbase rax
    rdgsbase r8
    push r8
    push rax
    mov rcx, rsp
    and rcx, -{altstack}
    mov rcx, [rcx]
    mov r9, [rcx + {host_fs}]
    wrfsbase r9
    mov r9, [rcx + {host_gs}]
    wrgsbase r9
    mov r8, rsp
    cld
    call {handler}
    pop rax
    pop r8
    wrfsbase rax
    wrgsbase r8
    mov rsp, rbp
    pop rbp
    ret
"#,
    host_fs = const std::mem::offset_of!(Thread, host_fs),
    host_gs = const std::mem::offset_of!(Thread, host_gs),
    frame = const ssa::FRAME,
    ursp = const ssa::URSP,
    ossa = const tcs::OSSA,
    ofsbase = const tcs::OFSBASE,
    oentry = const tcs::OENTRY,
    altstack = const ALTSTACK,
    handler = sym super::aex::on_signal,
    foreign = sym super::signals::on_foreign,
    area = sym ALTSTACKS,
    area_size = const AREA,
);

/// Address of the signal stacks' area; `usize::MAX`, from which no stack pointer is less than its size away, if there is none.
static ALTSTACKS: AtomicUsize = AtomicUsize::new(usize::MAX);

/// The signal stacks of one enclave's vCPU threads, in one area, so that the handler knows them by their address alone.
pub(super) struct Altstacks {
    mapping: usize,
}

impl Altstacks {
    /// Reserves the area. One at a time per process.
    pub(super) fn reserve() -> Result<Altstacks, PalError> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: 1. a new mapping.
        let p = unsafe { libc::mmap(std::ptr::null_mut(), AREA + ALTSTACK, libc::PROT_NONE, flags, -1, 0) };
        if p == libc::MAP_FAILED {
            return Err(PalError::last_os("reserving the signal stacks"));
        }
        ALTSTACKS.store((p as usize).next_multiple_of(ALTSTACK), Ordering::Release);
        Ok(Altstacks { mapping: p as usize })
    }

    /// Makes the block of `vcpu` usable; its address.
    fn block(vcpu: u32) -> Result<usize, PalError> {
        let at = ALTSTACKS.load(Ordering::Acquire) + vcpu as usize * ALTSTACK;
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        for (from, to) in [(0, 4096), (STACK, ALTSTACK)] {
            // SAFETY: 1. the piece lies in the reserved area (`vcpu` < MAX_VCPUS), which only this thread uses.
            if unsafe { libc::mprotect((at + from) as *mut _, to - from, rw) } < 0 {
                return Err(PalError::last_os("a signal stack"));
            }
        }
        Ok(at)
    }
}

impl Drop for Altstacks {
    fn drop(&mut self) {
        ALTSTACKS.store(usize::MAX, Ordering::Release);
        // SAFETY: 1. the mapping is ours; 2. no vCPU thread is left that uses it.
        unsafe { libc::munmap(self.mapping as *mut _, AREA + ALTSTACK) };
    }
}

// SAFETY: 1. the symbols are defined above with these signatures.
unsafe extern "C" {
    fn occlum_sim_begin();
    fn occlum_sim_end();
    fn occlum_sim_eenter(thread: *mut Thread, tcs: u64, cssa: u64, command: u64, args: *const u64) -> u64;
    fn occlum_sim_gate();
    fn occlum_sim_after();
    pub(super) fn occlum_sim_signal();
}

/// Where a simulated EEXIT leaves.
pub(super) fn gate() -> u64 {
    occlum_sim_gate as *const () as u64
}
/// Where it goes on in the host.
pub(super) fn after() -> u64 {
    occlum_sim_after as *const () as u64
}
/// Is this the simulator's own entry and exit code?
pub(super) fn is_entry_code(rip: u64) -> bool {
    (occlum_sim_begin as *const () as u64..occlum_sim_end as *const () as u64).contains(&rip)
}

impl Thread {
    /// Prepares the calling thread: signal stack and signal mask.
    pub(super) fn new(vcpu: u32, host: &Host) -> Result<Box<Thread>, PalError> {
        let block = Altstacks::block(vcpu)?;
        let mut t = Box::new(Thread {
            host_fs: 0,
            host_gs: 0,
            tcs: layout::thread(vcpu),
            host: std::ptr::from_ref(host).cast(),
        });
        let pointer: *mut Thread = &mut *t;
        // SAFETY: 1. the block is ours; its base holds the pointer that the handler reads; 2. FS and GS are read so that
        // a signal before the first entry finds the host's; 3. sigaltstack and the mask concern this thread only.
        unsafe {
            (block as *mut *mut Thread).write(pointer);
            std::arch::asm!("rdfsbase {}", out(reg) t.host_fs);
            std::arch::asm!("rdgsbase {}", out(reg) t.host_gs);
            let (ss_sp, ss_size) = ((block + STACK) as *mut libc::c_void, ALTSTACK - STACK);
            let ss = libc::stack_t { ss_sp, ss_flags: 0, ss_size };
            if libc::sigaltstack(&ss, std::ptr::null_mut()) < 0 {
                return Err(PalError::last_os("sigaltstack"));
            }
        }
        super::signals::vcpu_mask();
        Ok(t)
    }

    /// The host side of the enclave this thread belongs to.
    pub(super) fn host(&self) -> &Host {
        // SAFETY: 1. `new` stored a reference; 2. the host outlives its vCPU threads, which `run` joins.
        unsafe { &*self.host.cast() }
    }

    /// EENTER with CSSA = 0; returns the exit code.
    pub(super) fn enter(&mut self, command: u64, args: &[u64; 3]) -> u64 {
        // SAFETY: 1. the TCS page and SSA are added pages; 2. the thread is the only user of this TCS.
        unsafe { occlum_sim_eenter(self, self.tcs, 0, command, args.as_ptr()) }
    }
}

/// EENTER at the exception entry (CSSA = 1), from the signal handler.
///
/// # Safety
/// `thread` is the calling thread's, inside an AEX whose frame is in SSA[0].
pub(super) unsafe fn enter_nested(thread: *mut Thread) -> u64 {
    let args = [0u64; 3];
    // SAFETY: the caller's.
    unsafe { occlum_sim_eenter(thread, (*thread).tcs, 1, 0, args.as_ptr()) }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let off = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        // A kick may still be on its way.
        super::signals::block_all();
        // SAFETY: 1. the thread no longer enters, and takes no signal any more.
        unsafe { libc::sigaltstack(&off, std::ptr::null_mut()) };
    }
}
