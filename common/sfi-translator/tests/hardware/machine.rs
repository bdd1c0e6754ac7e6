//! One scratch process's two sides: guest memory at the same offsets natively (from address 0) and in a slot, the whole
//! user-visible CPU state loaded before and stored after a run of either side.
//!
//! Neighbours: `main` forks the process that owns a machine; `side` runs translated code in it. Nothing of the guest's
//! can hurt more than this process: code pages are not writable under their own addresses, system calls made from guest
//! code trap (seccomp), and a timer that counts CPU time ends what loops.
//! Invariants: one machine per process, single-threaded; `running` is set only while generated code executes.

#![allow(unsafe_code, reason = "maps memory at fixed addresses and jumps to generated code")]

use crate::shared::STUBS;
use occlum_sfi_spec::{ctx, domain, elrange, shadow, table};

/// Guest code; data follows directly, so that rip-relative operands reach it.
pub const CODE: u32 = 0x0010_0000;
pub const PAGE: u32 = 0x1000;
pub const DATA: u32 = CODE + PAGE;
pub const DATA_LEN: u32 = 4 * PAGE;
pub const STACK: u32 = 0x0300_0000;
pub const STACK_LEN: u32 = 24 * PAGE;
pub const TLS: u32 = 0x0020_0000;
pub const GUEST_GS: u32 = 0x0020_8000;
/// Its negation and its complement lie in the same window.
pub const MIDDLE: u32 = 0x8000_0000;
/// What translated and native runs may write: offset, length, in ascending order.
pub const WINDOWS: [(u32, u32); 5] = [
    (DATA, DATA_LEN),
    (TLS - PAGE, 2 * PAGE),
    (GUEST_GS - PAGE, 2 * PAGE),
    (STACK, STACK_LEN),
    (MIDDLE - PAGE, 2 * PAGE),
];
/// Pages with shadow words: those of the windows, and of the code in front of the first.
const SHADOWED: [(u64, u64); 5] = {
    let mut out = [(0, 0); 5];
    let mut n = 0;
    while n < out.len() {
        let (at, len) = WINDOWS[n];
        let before = if n == 0 { PAGE } else { 0 };
        let first = SLOT + shadow::DISTANCE + (at - before) as u64;
        // Not aligned, hence a page more.
        out[n] = (first & !0xfff, (len + before + PAGE) as u64);
        n += 1;
    }
    out
};
/// A jump there ends a sequence.
pub const END: u32 = 0x2000_6000;
pub const SLOT: u64 = domain::base(0);
pub const CACHE: u32 = elrange::CODE_BASE as u32;
const CACHE_LEN: usize = 256 << 10;
const STUBS_LEN: usize = 0x7000;
/// The status flags and the direction flag.
pub const FLAGS: u64 = 0x8d5 | 0x400;
const TF: i64 = 0x100;
const MAX_STEPS: u64 = 20_000;
/// A run that is still going on after so many ticks of CPU time is a loop.
pub const TICKS: u64 = 4;
/// Bytes of each lookup table for the code page.
const TABLE: u64 = table::ENTRY * PAGE as u64;
const TICK_US: i64 = 4000;

/// All that a program can see of the CPU. Layout known to the assembly below.
#[repr(C, align(64))]
#[derive(Clone)]
pub struct State {
    pub gpr: [u64; 16],
    pub flags: u64,
    pub fs: u64,
    pub gs: u64,
    pub rip: u64,
    pub pad: [u64; 4],
    /// As `fxsave64` stores it, at 192.
    pub fx: [u8; 512],
    /// At 704.
    pub ymm: [[u64; 4]; 16],
}

impl State {
    pub fn new() -> State {
        State { gpr: [0; 16], flags: 0, fs: 0, gs: 0, rip: 0, pad: [0; 4], fx: [0; 512], ymm: [[0; 4]; 16] }
    }
}

/// What the signal handler saw; signal 0: nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Caught {
    pub signal: i32,
    pub code: i32,
    pub address: u64,
    pub rip: u64,
}

static mut CAUGHT: Caught = Caught { signal: 0, code: 0, address: 0, rip: 0 };
static mut TICKED: u64 = 0;
static mut LIMIT: u64 = TICKS;
/// Steps still to do one by one, and whether rsp, or a watched register at a place, was above this bound on the way.
static mut STEPS: u64 = 0;
static mut BOUND: u64 = 0;
static mut WATCHED: [(u64, usize); 16] = [(0, 0); 16];
static mut BEYOND: bool = false;
/// Where stepping ends, and how many times it passes there before; 0: nowhere.
static mut STOP: u64 = 0;
static mut PASSES: u32 = 0;

core::arch::global_asm!(
    r#"
    .text
h_enter:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    rdfsbase %rax
    mov %rax, h_host_fs(%rip)
    mov %rsp, h_host_rsp(%rip)
    movl $1, h_running(%rip)
    mov 152(%rdi), %rax
    mov %rax, h_target(%rip)
    fxrstor64 192(%rdi)
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovups 704 + 32 * \n(%rdi), %ymm\n
    .endr
    mov 144(%rdi), %rax
    wrgsbase %rax
    mov 136(%rdi), %rax
    wrfsbase %rax
    mov 0(%rdi), %rax
    mov 8(%rdi), %rcx
    mov 16(%rdi), %rdx
    mov 24(%rdi), %rbx
    mov 40(%rdi), %rbp
    mov 48(%rdi), %rsi
    mov 64(%rdi), %r8
    mov 72(%rdi), %r9
    mov 80(%rdi), %r10
    mov 88(%rdi), %r11
    mov 96(%rdi), %r12
    mov 104(%rdi), %r13
    mov 112(%rdi), %r14
    mov 120(%rdi), %r15
    pushq 32(%rdi)
    pushq 128(%rdi)
    mov 56(%rdi), %rdi
    popfq
    mov (%rsp), %rsp
    jmp *h_target(%rip)

    // Every end of a run comes here with the guest's registers and flags.
h_leave:
    mov %rax, h_out + 0(%rip)
    mov %rcx, h_out + 8(%rip)
    mov %rdx, h_out + 16(%rip)
    mov %rbx, h_out + 24(%rip)
    mov %rsp, h_out + 32(%rip)
    mov %rbp, h_out + 40(%rip)
    mov %rsi, h_out + 48(%rip)
    mov %rdi, h_out + 56(%rip)
    mov %r8, h_out + 64(%rip)
    mov %r9, h_out + 72(%rip)
    mov %r10, h_out + 80(%rip)
    mov %r11, h_out + 88(%rip)
    mov %r12, h_out + 96(%rip)
    mov %r13, h_out + 104(%rip)
    mov %r14, h_out + 112(%rip)
    mov %r15, h_out + 120(%rip)
    mov h_host_rsp(%rip), %rsp
    pushfq
    popq h_out + 128(%rip)
    pushq $2
    popfq
    fxsave64 h_out + 192(%rip)
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovups %ymm\n, h_out + 704 + 32 * \n(%rip)
    .endr
    vzeroupper
    fninit
    ldmxcsr h_mxcsr(%rip)
    mov h_host_fs(%rip), %rax
    wrfsbase %rax
    movl $0, h_running(%rip)
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
h_text_end:

h_signal:
    push %rbx
    rdfsbase %rbx
    mov h_host_fs(%rip), %rax
    wrfsbase %rax
    call h_on_signal
    wrfsbase %rbx
    pop %rbx
    ret

    .globl h_enter, h_leave, h_text_end, h_signal, h_out, h_running
    .data
h_mxcsr: .long 0x1f80
    .bss
    .balign 64
h_out: .skip 1216
h_host_fs: .quad 0
h_host_rsp: .quad 0
h_target: .quad 0
h_running: .long 0
"#,
    options(att_syntax)
);

unsafe extern "C" {
    fn h_enter(state: *const State);
    fn h_leave();
    fn h_text_end();
    fn h_signal();
    static h_out: State;
    static h_running: u32;
}

/// General registers of a signal context by hardware number.
const GREGS: [usize; 16] = [
    libc::REG_RAX as usize,
    libc::REG_RCX as usize,
    libc::REG_RDX as usize,
    libc::REG_RBX as usize,
    libc::REG_RSP as usize,
    libc::REG_RBP as usize,
    libc::REG_RSI as usize,
    libc::REG_RDI as usize,
    libc::REG_R8 as usize,
    libc::REG_R9 as usize,
    libc::REG_R10 as usize,
    libc::REG_R11 as usize,
    libc::REG_R12 as usize,
    libc::REG_R13 as usize,
    libc::REG_R14 as usize,
    libc::REG_R15 as usize,
];

/// Notes a signal of generated code and goes on at `h_leave`.
#[unsafe(no_mangle)]
extern "C" fn h_on_signal(signal: i32, info: *const libc::siginfo_t, context: *mut libc::ucontext_t) {
    // SAFETY: 1. The kernel passes valid pointers. 2. The process has one thread, so nobody else uses the statics.
    unsafe {
        let g = &mut (*context).uc_mcontext.gregs;
        let rip = g[libc::REG_RIP as usize] as u64;
        let own = rip >= h_enter as *const () as u64 && rip < h_text_end as *const () as u64;
        let generated = (&raw const h_running).read_volatile() == 1 && !own;
        if signal == libc::SIGTRAP && (*info).si_code == libc::TRAP_TRACE && STEPS > 0 {
            let watched =
                (*(&raw const WATCHED)).iter().any(|&(at, r)| at == rip && g[GREGS[r]] as u64 >= BOUND);
            BEYOND |= generated && (g[libc::REG_RSP as usize] as u64 >= BOUND || watched);
            STEPS -= 1;
            if generated && rip == STOP && PASSES > 0 {
                PASSES -= 1;
            } else if generated && rip == STOP {
                // As a breakpoint there would look.
                CAUGHT = Caught { signal, code: (*info).si_code, address: 0, rip: rip + 1 };
                g[libc::REG_RIP as usize] = h_leave as *const () as i64;
                STEPS = 0;
            }
            if STEPS == 0 {
                g[libc::REG_EFL as usize] &= !TF;
            }
            return;
        }
        if signal == libc::SIGPROF {
            TICKED += 1;
            if !generated || TICKED < LIMIT {
                return;
            }
        }
        if !generated {
            libc::signal(signal, libc::SIG_DFL);
            return;
        }
        CAUGHT = Caught { signal, code: (*info).si_code, address: (*info).si_addr() as u64, rip };
        g[libc::REG_RIP as usize] = h_leave as *const () as i64;
    }
}

fn map(at: u64, len: u64, prot: i32, fd: i32) {
    let kind = if fd < 0 { libc::MAP_PRIVATE | libc::MAP_ANONYMOUS } else { libc::MAP_SHARED };
    let flags = kind | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: 1. NOREPLACE: nothing that exists is touched.
    let got = unsafe { libc::mmap(at as *mut _, len as usize, prot, flags, fd, 0) };
    assert_eq!(got as u64, at, "cannot map {at:#x}");
}

/// Memory with rights `prot` at the fixed addresses `at`, writable at the address that comes back.
fn map_twice(at: &[(u64, i32)], len: usize) -> *mut u8 {
    // SAFETY: 1. A new file and fresh mappings of it.
    unsafe {
        let fd = libc::memfd_create(c"code".as_ptr(), 0);
        assert!(fd >= 0 && libc::ftruncate(fd, len as i64) == 0, "no memory file");
        for &(at, prot) in at {
            map(at, len as u64, prot, fd);
        }
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        let view = libc::mmap(std::ptr::null_mut(), len, rw, libc::MAP_SHARED, fd, 0);
        libc::close(fd);
        assert!(view != libc::MAP_FAILED);
        view.cast()
    }
}

/// Where the two tables of the code page begin.
fn code_tables() -> [u64; 2] {
    [
        table::entry_addr(SLOT, table::Kind::Ret, CODE + PAGE - 1),
        table::entry_addr(SLOT, table::Kind::Call, CODE),
    ]
}

/// The mapped memory of both sides.
pub struct Machine {
    native_code: *mut u8,
    slot_code: *mut u8,
    cache: *mut u8,
    context: Box<[u64; ctx::SIZE as usize / 8]>,
    /// Initial content of `WINDOWS`.
    pristine: Vec<Vec<u8>>,
    /// Ticks after which a run is taken for a loop.
    pub ticks: u64,
    /// A run was taken for a loop.
    pub was_slow: bool,
}

impl Machine {
    pub fn new(pristine: Vec<Vec<u8>>) -> Machine {
        let (rw, rx, r) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::PROT_READ | libc::PROT_EXEC, libc::PROT_READ);
        let slot = |off: u32| SLOT + u64::from(off);
        // Tables: those of the code page are writable, the others are missing chunks.
        let [returns, calls] = code_tables();
        map(SLOT - table::SIZE, returns - (SLOT - table::SIZE), libc::PROT_NONE, -1);
        map(calls + TABLE, table::SIZE - (calls + TABLE - SLOT - table::CALL_TABLE), libc::PROT_NONE, -1);
        for (at, miss) in [(returns, STUBS.miss_ret), (calls, STUBS.miss_call)] {
            map(at, TABLE, rw, -1);
            // SAFETY: 1. Just mapped.
            unsafe { std::slice::from_raw_parts_mut(at as *mut u32, PAGE as usize) }.fill(miss);
        }
        for (at, len) in WINDOWS {
            map(slot(at), u64::from(len), rw, -1);
            map(u64::from(at), u64::from(len), rw, -1);
        }
        for (at, len) in SHADOWED {
            map(at, len, rw, -1);
        }
        let native_code = map_twice(&[(u64::from(CODE), rx)], PAGE as usize);
        let slot_code = map_twice(&[(slot(CODE), r)], PAGE as usize);
        let cache = map_twice(&[(u64::from(CACHE), rx)], CACHE_LEN);
        let stubs = map_twice(&[(elrange::IMAGE_BASE, rx)], STUBS_LEN);
        let machine = Machine {
            native_code,
            slot_code,
            cache,
            context: Box::new([0; ctx::SIZE as usize / 8]),
            pristine,
            ticks: TICKS,
            was_slow: false,
        };
        machine.write_stubs(stubs);
        machine.install();
        machine
    }

    /// Stubs store their reason in the context and leave; `END` only leaves.
    fn write_stubs(&self, view: *mut u8) {
        use occlum_sfi_spec::reason;
        let to = |at: u32, bytes: &[u8]| {
            // SAFETY: 1. Callers stay inside the stubs' mapping.
            unsafe {
                let at = view.add(at as usize - elrange::IMAGE_BASE as usize);
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len());
            }
        };
        let leave = [0xff, 0x24, 0x25, 0x00, 0x08, 0x00, 0x20]; // jmp *0x20000800
        to(0x2000_0800, &(h_leave as *const () as u64).to_le_bytes());
        to(END, &leave);
        for (stub, reason) in [
            (STUBS.syscall, reason::SYSCALL),
            (STUBS.link, reason::LINK),
            (STUBS.miss_ret, reason::MISS_RET),
            (STUBS.miss_call, reason::MISS_CALL),
            (STUBS.emulate, reason::EMULATE),
        ] {
            let mut code = vec![0x64, 0xc7, 0x04, 0x25];
            code.extend_from_slice(&ctx::REASON.to_le_bytes());
            code.extend_from_slice(&reason.to_le_bytes());
            code.extend_from_slice(&leave);
            to(stub, &code);
        }
    }

    fn install(&self) {
        // SAFETY: 1. `h_signal` restores FS before any Rust code. 2. The alternate stack is leaked, hence stays valid.
        unsafe {
            let stack = Box::leak(vec![0u8; 256 << 10].into_boxed_slice());
            let alt = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
            libc::sigaltstack(&alt, std::ptr::null_mut());
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = h_signal as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigfillset(&mut action.sa_mask);
            for s in [
                libc::SIGSEGV,
                libc::SIGBUS,
                libc::SIGILL,
                libc::SIGTRAP,
                libc::SIGFPE,
                libc::SIGSYS,
                libc::SIGPROF,
            ] {
                libc::sigaction(s, &action, std::ptr::null_mut());
            }
            let tick = libc::timeval { tv_sec: 0, tv_usec: TICK_US };
            let timer = libc::itimerval { it_interval: tick, it_value: tick };
            libc::setitimer(libc::ITIMER_PROF, &timer, std::ptr::null_mut());
        }
        forbid_guest_system_calls();
    }

    /// The context that FS points to while translated code runs.
    pub fn context(&mut self, at: u32) -> &mut u64 {
        &mut self.context[at as usize / 8]
    }

    pub fn context_address(&self) -> u64 {
        self.context.as_ptr() as u64
    }

    /// Runs from `s.rip` until a stub, `END` or a signal.
    pub fn run(&mut self, s: &State) -> (State, Option<Caught>) {
        // SAFETY: 1. What runs is confined (the head of this file). 2. `h_leave` brings everything of ours back.
        unsafe {
            CAUGHT.signal = 0;
            TICKED = 0;
            LIMIT = self.ticks;
            h_enter(s);
            let caught = (&raw const CAUGHT).read_volatile();
            self.was_slow |= caught.signal == libc::SIGPROF;
            ((*(&raw const h_out)).clone(), (caught.signal != 0).then_some(caught))
        }
    }

    /// Runs from `s.rip` step by step: does rsp ever reach `bound`, or one of the watched registers, each at its place?
    pub fn steps_wild(&mut self, s: &State, bound: u64, watched: &[(u64, usize)]) -> bool {
        self.restore();
        // SAFETY: 1. No run is active. 2. The process has one thread.
        unsafe {
            (STEPS, BOUND, BEYOND) = (MAX_STEPS, bound, false);
            WATCHED = std::array::from_fn(|n| watched.get(n).copied().unwrap_or_default());
            self.run(&State { flags: s.flags | TF as u64, ..s.clone() });
            STEPS = 0;
            BEYOND
        }
    }

    /// Runs from `s.rip` step by step up to `stop`, which comes after at least one step, having passed there so often.
    pub fn run_to(&mut self, s: &State, stop: u32, passes: u32) -> (State, Option<Caught>) {
        // SAFETY: 1. No run is active. 2. The process has one thread.
        unsafe {
            (STEPS, STOP, PASSES) = (MAX_STEPS, u64::from(stop), passes);
            let result = self.run(&State { flags: s.flags | TF as u64, ..s.clone() });
            (STEPS, STOP) = (0, 0);
            result
        }
    }

    /// The same code for both sides; the rest of the page is int3.
    pub fn write_code(&self, bytes: &[u8]) {
        for view in [self.native_code, self.slot_code] {
            // SAFETY: 1. Both views are one page long, and `bytes` is shorter.
            unsafe {
                assert!(bytes.len() <= PAGE as usize);
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), view, bytes.len());
                std::ptr::write_bytes(view.add(bytes.len()), 0xcc, 1024.min(PAGE as usize - bytes.len()));
            }
        }
    }

    /// Changes one byte of the native code; returns what was there.
    pub fn native_byte(&self, off: u32, byte: u8) -> u8 {
        assert!((CODE..CODE + PAGE).contains(&off));
        // SAFETY: 1. Inside the page (above).
        unsafe { self.native_code.add((off - CODE) as usize).replace(byte) }
    }

    /// Guest code as the translator reads it.
    pub fn code(&self) -> &[u8] {
        // SAFETY: 1. The page stays mapped; only `write_code` changes it, which no borrow of this outlives.
        unsafe { std::slice::from_raw_parts(self.slot_code, PAGE as usize) }
    }

    /// Writes to the code cache.
    pub fn write_cache(&self, at: u32, bytes: &[u8]) {
        let at = (at - CACHE) as usize;
        assert!(at + bytes.len() <= CACHE_LEN);
        // SAFETY: 1. Inside the view (above).
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.cache.add(at), bytes.len()) }
    }

    /// Sets an entry of the lookup table; `off` lies in the code page.
    pub fn set_entry(&self, kind: table::Kind, off: u32, to: u32) {
        assert!((CODE..CODE + PAGE).contains(&off));
        // SAFETY: 1. The tables of the code page are mapped.
        unsafe { (table::entry_addr(SLOT, kind, off) as *mut u32).write(to) }
    }

    fn window(at: u64, len: u32) -> &'static mut [u8] {
        // SAFETY: 1. Windows are mapped for ever. 2. No run is active, and the borrow ends in the caller.
        unsafe { std::slice::from_raw_parts_mut(at as *mut u8, len as usize) }
    }

    /// Reads 8 bytes of the slot's windows.
    pub fn slot_u64(&self, off: u32) -> Option<u64> {
        let inside = WINDOWS.iter().any(|&(at, len)| off >= at && off + 8 <= at + len);
        let bytes: &[u8] = Self::window(SLOT + u64::from(off), 8);
        inside.then(|| u64::from_le_bytes(std::array::from_fn(|n| bytes[n])))
    }

    /// The shadow word of a stack word in a window.
    pub fn shadow(&self, off: u32) -> u64 {
        let bytes: &[u8] = Self::window(SLOT + shadow::DISTANCE + u64::from(off), 8);
        u64::from_le_bytes(std::array::from_fn(|n| bytes[n]))
    }

    /// No call has been.
    pub fn clear_shadow(&self) {
        for (at, len) in SHADOWED {
            Self::window(at, len as u32).fill(0);
        }
    }

    /// First offset, from `from` on, at which the two sides' memory differs.
    pub fn difference(&self, from: u32) -> Option<u32> {
        WINDOWS.iter().filter(|(at, len)| at + len > from).find_map(|&(at, len)| {
            let first = at.max(from);
            let len = at + len - first;
            let (a, b) = (Self::window(u64::from(first), len), Self::window(SLOT + u64::from(first), len));
            (a != b).then(|| first + a.iter().zip(b.iter()).take_while(|(x, y)| x == y).count() as u32)
        })
    }

    /// Is the native side's memory as it was made?
    pub fn is_native_pristine(&self) -> bool {
        let windows = WINDOWS.iter().zip(&self.pristine);
        windows.into_iter().all(|(&(at, len), good)| Self::window(u64::from(at), len) == &good[..])
    }

    /// What the lookup tables hold.
    pub fn tables(&self) -> Vec<u8> {
        code_tables().map(|at| Self::window(at, TABLE as u32).to_vec()).concat()
    }

    /// Undoes all changes of memory; true if there were any.
    pub fn restore(&self) -> bool {
        let mut changed = false;
        for (&(at, len), good) in WINDOWS.iter().zip(&self.pristine) {
            for at in [u64::from(at), SLOT + u64::from(at)] {
                let window = Self::window(at, len);
                if window != &good[..] {
                    window.copy_from_slice(good);
                    changed = true;
                }
            }
        }
        changed
    }
}

/// A system call from below 4 GiB, where only generated code lies, becomes SIGSYS.
fn forbid_guest_system_calls() {
    let op = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    // High half of seccomp_data.instruction_pointer.
    let mut filter = [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 12),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, 0),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_TRAP),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: 1. The kernel copies the program.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let done = libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program);
        assert_eq!(done, 0, "no seccomp filter");
    }
}
