//! Runs original code natively and translated code under the real conditions: FS on a trusted context, GS on a 4 GiB
//! slot with its lookup tables below, stubs and code cache below 2 GiB.
//!
//! Original code runs at its guest offset as an absolute address, so both runs can start from equal registers and equal
//! memory. A run ends at a stub, at a signal, or after a number of single steps.
//! Invariant: one machine per process and one run at a time (`Machine::get` hands out a lock guard).

#![allow(unsafe_code, reason = "maps memory at fixed addresses and jumps to generated code")]
#![allow(dead_code, reason = "each test file uses its own part")]

use super::{BASE, STUBS};
use occlum_sfi_spec::{ctx, domain, elrange, reason, shadow, table};
use occlum_sfi_translator::{Config, Env, Fragment, ShadowWord, Source, translate};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

/// Guest memory: mapped at these offsets in the slot and, for native runs, at the same absolute addresses.
pub const LOW: u32 = 0x0001_0000;
pub const HIGH: u32 = 0x0400_0000;
const CODE_LEN: usize = 32 << 20;
pub const TF: u64 = 0x100;
pub const STATUS: u64 = 0x8d5;
/// What the register r11 holds at entries: nothing of the guest's may depend on it.
const RUBBISH: u64 = 0xbad0_11ba_d011;
pub const FLAGS: u64 = STATUS | 0x400;

/// Registers as a program sees them (rsp an offset).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    pub gpr: [u64; 16],
    pub flags: u64,
    pub xmm: [[u64; 2]; 16],
    pub pc: u32,
}

impl State {
    pub fn new(pc: u32) -> State {
        State { gpr: [0; 16], flags: 0, xmm: [[0; 2]; 16], pc }
    }
}

/// Why a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// A stub: reason, EXIT.
    Stub(u32, u32),
    /// A signal: number, address at which it was raised (absolute).
    Signal(i32, u64),
    /// The asked number of steps was done; rip is here.
    Step(u64),
}

#[repr(C)]
struct Entry {
    gpr: [u64; 16],
    xmm: [[u64; 2]; 16],
    flags: u64,
    fs: u64,
    gs: u64,
    rip: u64,
}

/// What the signal handler reports; all zero if none came.
#[repr(C)]
struct Caught {
    signal: u64,
    rip: u64,
    flags: u64,
    gpr: [u64; 16],
    xmm: [[u64; 2]; 16],
    /// Steps still to do; 0: not stepping.
    steps: u64,
    /// Steps count only in this range.
    range: [u64; 2],
}

static mut CAUGHT: Caught =
    Caught { signal: 0, rip: 0, flags: 0, gpr: [0; 16], xmm: [[0; 2]; 16], steps: 0, range: [0; 2] };

const CAUGHT_AT: *mut Caught = &raw mut CAUGHT;

core::arch::global_asm!(
    r#"
    .text
    .globl t_enter
t_enter:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    rdfsbase %rax
    mov %rax, t_host_fs(%rip)
    mov %rsp, t_host_rsp(%rip)
    mov 408(%rdi), %rax
    mov %rax, t_target(%rip)
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovups t_vectors + 32 * \n(%rip), %ymm\n
    movups 128 + 16 * \n(%rdi), %xmm\n
    .endr
    mov 400(%rdi), %rax
    wrgsbase %rax
    mov 392(%rdi), %rax
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
    pushq 384(%rdi)
    mov 56(%rdi), %rdi
    popfq
    mov (%rsp), %rsp
    jmp *t_target(%rip)

    .globl t_leave
t_leave:
    pushq $2
    popfq
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovups %ymm\n, t_vectors + 32 * \n(%rip)
    .endr
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

    .globl t_stub
t_stub:
    .set off, 0x100
    .irp r, rax,rcx,rdx,rbx,rsp,rbp,rsi,rdi,r8,r9,r10,r11,r12,r13,r14,r15
    mov %\r, %fs:off
    .set off, off + 8
    .endr
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movups %xmm\n, %fs:0x200 + 16 * \n
    .endr
    mov t_host_rsp(%rip), %rsp
    pushfq
    pop %rax
    mov %rax, %fs:0x188
    mov t_host_fs(%rip), %rax
    wrfsbase %rax
    jmp t_leave

    .globl t_signal
t_signal:
    push %rbx
    rdfsbase %rbx
    mov t_host_fs(%rip), %rax
    wrfsbase %rax
    call t_on_signal
    test %eax, %eax
    jne 1f
    wrfsbase %rbx
1:  pop %rbx
    ret

    .bss
    .balign 32
    // The upper halves between two runs: the host's own code may clear them.
    .globl t_vectors
t_vectors: .skip 512
    .globl t_host_fs
t_host_fs: .quad 0
    .globl t_host_rsp
t_host_rsp: .quad 0
t_target: .quad 0
"#,
    options(att_syntax)
);

unsafe extern "C" {
    fn t_enter(entry: *const Entry);
    fn t_leave();
    fn t_stub();
    fn t_signal();
    static t_host_rsp: u64;
    static mut t_vectors: [u8; 512];
}

/// Order of the general registers in a signal context.
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

/// Returns 1 if the run is over: the context then goes to `t_leave` with the host's FS base.
#[unsafe(no_mangle)]
extern "C" fn t_on_signal(signal: i32, info: *const libc::siginfo_t, context: *mut libc::ucontext_t) -> i32 {
    // SAFETY: 1. The kernel passes valid pointers. 2. `CAUGHT` is used by one run at a time, and not by `run` while
    // generated code executes.
    unsafe {
        let g = &mut (*context).uc_mcontext.gregs;
        let rip = g[libc::REG_RIP as usize] as u64;
        let caught = &mut *CAUGHT_AT;
        let generated = rip < 0x8000_0000 || rip >> 32 == domain::base(0) >> 32;
        if signal == libc::SIGTRAP && (*info).si_code == libc::TRAP_TRACE && caught.steps != 0 {
            if rip < caught.range[0] || rip >= caught.range[1] {
                return 0;
            }
            caught.steps -= 1;
            if caught.steps != 0 {
                return 0;
            }
        } else if !generated {
            libc::signal(signal, libc::SIG_DFL);
            return 0;
        }
        caught.signal = signal as u64;
        caught.rip = rip;
        caught.flags = g[libc::REG_EFL as usize] as u64;
        for (n, &r) in GREGS.iter().enumerate() {
            caught.gpr[n] = g[r] as u64;
        }
        let fp = (*context).uc_mcontext.fpregs;
        for n in 0..16 {
            let x = (*fp)._xmm[n].element;
            caught.xmm[n] =
                [u64::from(x[0]) | u64::from(x[1]) << 32, u64::from(x[2]) | u64::from(x[3]) << 32];
        }
        g[libc::REG_RIP as usize] = t_leave as *const () as i64;
        g[libc::REG_RSP as usize] = t_host_rsp as i64;
        g[libc::REG_EFL as usize] &= !(TF as i64 | 0x400);
        1
    }
}

/// What the code map of the test knows.
#[derive(Default)]
pub struct Map {
    /// Entries by offset.
    pub entries: BTreeMap<u32, u32>,
    pub fragments: Vec<Fragment>,
}

impl Env for Map {
    fn lookup(&self, off: u32) -> Option<u32> {
        self.entries.get(&off).copied()
    }
}

/// The mapped slot, code cache and stubs.
pub struct Machine {
    context: u64,
    pub map: Map,
    next_code: u32,
    /// Exit number to original target.
    exits: Vec<(u32, u32)>,
    set_entries: Vec<u64>,
}

static MACHINE: Mutex<Option<Machine>> = Mutex::new(None);

fn map_fixed(at: u64, len: u64, prot: i32) {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: 1. NOREPLACE: nothing that exists is touched.
    let got = unsafe { libc::mmap(at as *mut _, len as usize, prot, flags, -1, 0) };
    assert_eq!(got as u64, at, "cannot map {at:#x}");
}

fn poke(at: u64, bytes: &[u8]) {
    // SAFETY: 1. Callers name addresses this file has mapped writable.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len()) }
}

pub const SLOT: u64 = domain::base(0);

impl Machine {
    /// The one machine; `f` runs with it locked.
    pub fn with<T>(f: impl FnOnce(&mut Machine) -> T) -> T {
        let mut guard: MutexGuard<'_, Option<Machine>> = MACHINE.lock().unwrap_or_else(|e| e.into_inner());
        let machine = guard.get_or_insert_with(Machine::new);
        machine.install_handlers();
        f(machine)
    }

    fn new() -> Machine {
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        map_fixed(SLOT - table::SIZE, table::SIZE, rw);
        map_fixed(SLOT + table::CALL_TABLE, table::SIZE, rw);
        map_fixed(SLOT + u64::from(LOW), u64::from(HIGH - LOW), rw);
        map_fixed(SLOT + domain::SIZE + u64::from(LOW), u64::from(HIGH - LOW), rw);
        map_fixed(u64::from(LOW), u64::from(HIGH - LOW), rw | libc::PROT_EXEC);
        map_fixed(elrange::CODE_BASE, CODE_LEN as u64, rw | libc::PROT_EXEC);
        map_fixed(elrange::IMAGE_BASE, 0x10_0000, rw | libc::PROT_EXEC);
        let context = elrange::IMAGE_BASE + 0x8_0000;
        poke(elrange::IMAGE_BASE + 0x800, &(t_stub as *const () as u64).to_le_bytes());
        let rows = [
            (STUBS.syscall, reason::SYSCALL),
            (STUBS.link, reason::LINK),
            (STUBS.miss_ret, reason::MISS_RET),
            (STUBS.miss_call, reason::MISS_CALL),
            (STUBS.emulate, reason::EMULATE),
        ];
        for (address, reason) in rows {
            let mut code = vec![0x64, 0xc7, 0x04, 0x25];
            code.extend_from_slice(&ctx::REASON.to_le_bytes());
            code.extend_from_slice(&reason.to_le_bytes());
            code.extend_from_slice(&[0xff, 0x24, 0x25, 0x00, 0x08, 0x00, 0x20]);
            poke(u64::from(address), &code);
        }
        poke(context + u64::from(ctx::SLOT_BASE), &SLOT.to_le_bytes());
        poke(context + u64::from(ctx::SHADOW), &shadow::DISTANCE.to_le_bytes());
        Machine { context, map: Map::default(), next_code: BASE, exits: Vec::new(), set_entries: Vec::new() }
    }

    fn install_handlers(&self) {
        // SAFETY: 1. `t_signal` restores FS before any Rust code. 2. The alternate stack is leaked, hence stays valid.
        unsafe {
            let stack = Box::leak(vec![0u8; 256 << 10].into_boxed_slice());
            let alt = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
            libc::sigaltstack(&alt, std::ptr::null_mut());
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = t_signal as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            for s in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGTRAP, libc::SIGFPE] {
                libc::sigaction(s, &action, std::ptr::null_mut());
            }
        }
    }

    /// Upper halves of the vector registers survive exits and re-entries; this clears them.
    pub fn clear_vectors(&self) {
        // SAFETY: 1. No run is active (the lock), so nothing else uses the copy.
        unsafe { t_vectors = [0; 512] };
    }

    /// Writes guest memory, both copies.
    pub fn write(&self, off: u32, bytes: &[u8]) {
        poke(SLOT + u64::from(off), bytes);
        poke(u64::from(off), bytes);
    }

    /// Reads guest memory: (slot, native).
    pub fn read(&self, off: u32, len: usize) -> (Vec<u8>, Vec<u8>) {
        let peek = |at: u64| {
            // SAFETY: 1. The caller stays within LOW..HIGH, which is mapped.
            unsafe { std::slice::from_raw_parts(at as *const u8, len).to_vec() }
        };
        (peek(SLOT + u64::from(off)), peek(u64::from(off)))
    }

    pub fn set_tls(&self, tls: u32, gs: u32) {
        poke(self.context + u64::from(ctx::TLS), &u64::from(tls).to_le_bytes());
        poke(self.context + u64::from(ctx::GUEST_GS), &u64::from(gs).to_le_bytes());
    }

    fn context_u64(&self, at: u32) -> u64 {
        // SAFETY: 1. Inside the mapped context.
        unsafe { ((self.context + u64::from(at)) as *const u64).read() }
    }

    /// Forgets all translations.
    pub fn reset_code(&mut self) {
        for at in self.set_entries.drain(..) {
            poke(at, &[0; 4]);
        }
        self.map = Map::default();
        self.exits.clear();
        self.next_code = BASE;
    }

    fn table_set(&mut self, kind: table::Kind, off: u32, to: u32) {
        let at = table::entry_addr(SLOT, kind, off);
        poke(at, &to.to_le_bytes());
        self.set_entries.push(at);
    }

    /// Miss stubs for all code offsets of a range.
    pub fn fill_tables(&mut self, off: u32, len: u32) {
        for o in off..off + len {
            self.table_set(table::Kind::Ret, o, STUBS.miss_ret);
            self.table_set(table::Kind::Call, o, STUBS.miss_call);
        }
    }

    /// Translates `bytes` at `off`, publishes and registers everything; returns the entry.
    pub fn translate(&mut self, cfg: &Config, off: u32, bytes: &[u8]) -> u32 {
        let first = self.exits.len() as u32;
        let base = self.next_code;
        let f = translate(cfg, Source { start: off, bytes }, base, first, &self.map).expect("translates");
        super::check(&f).unwrap();
        poke(u64::from(base), &f.code);
        self.next_code = (base + f.code.len() as u32 + 15) & !15;
        assert!(self.next_code < BASE + CODE_LEN as u32);
        for e in &f.entries {
            self.map.entries.entry(e.off).or_insert(e.at);
            self.table_set(table::Kind::Ret, e.off, e.at);
            self.table_set(table::Kind::Call, e.off, e.at);
        }
        self.exits.extend(f.exits.iter().map(|x| (x.target, x.patch_at)));
        let start = f.entries[0];
        self.map.fragments.push(f);
        start.at
    }

    /// Fragment that holds a translated address.
    pub fn fragment_at(&self, address: u64) -> Option<&Fragment> {
        self.map
            .fragments
            .iter()
            .find(|f| (u64::from(f.base)..u64::from(f.base) + f.code.len() as u64).contains(&address))
    }

    fn enter(&self, entry: &Entry, steps: u64, range: [u64; 2]) {
        // SAFETY: 1. One run at a time (the lock). 2. Generated code ends at a stub or a signal, both of which restore
        // the host's stack and FS base.
        unsafe {
            let caught = &mut *CAUGHT_AT;
            caught.signal = 0;
            caught.steps = steps;
            caught.range = range;
            t_enter(entry);
        }
    }

    fn caught(&self) -> Option<&'static Caught> {
        // SAFETY: 1. No run is active, and the caller copies before the next one.
        let c = unsafe { &*CAUGHT_AT };
        (c.signal != 0).then_some(c)
    }

    /// Runs translated code from the entry `at` (r11 is in its spill slot, its register holds rubbish); after `steps` (if not 0) instructions in the code cache it stops.
    /// In the state that comes back rsp is an offset; `pc` is not meaningful.
    pub fn run(&self, s: &State, at: u32, steps: u64) -> (State, End) {
        let mut gpr = s.gpr;
        gpr[4] = SLOT + (gpr[4] & 0xffff_ffff);
        poke(self.context + u64::from(ctx::spill(11)), &gpr[11].to_le_bytes());
        gpr[11] = RUBBISH;
        let flags = s.flags | 0x202 | if steps != 0 { TF } else { 0 };
        let entry = Entry { gpr, xmm: s.xmm, flags, fs: self.context, gs: SLOT, rip: u64::from(at) };
        poke(self.context + u64::from(ctx::REASON), &[0; 4]);
        self.enter(&entry, steps, [u64::from(BASE), u64::from(BASE) + CODE_LEN as u64]);
        let mut out = s.clone();
        let end = match self.caught() {
            Some(c) => {
                out.gpr = c.gpr;
                out.flags = c.flags & FLAGS;
                out.xmm = c.xmm;
                let stepped = c.signal == libc::SIGTRAP as u64 && steps != 0;
                if stepped { End::Step(c.rip) } else { End::Signal(c.signal as i32, c.rip) }
            }
            None => {
                for n in 0..16 {
                    out.gpr[n] = self.context_u64(ctx::GPR + 8 * n as u32);
                    out.xmm[n] = [
                        self.context_u64(ctx::XMM + 16 * n as u32),
                        self.context_u64(ctx::XMM + 16 * n as u32 + 8),
                    ];
                }
                out.gpr[11] = self.spill(11);
                out.flags = self.context_u64(ctx::RFLAGS) & FLAGS;
                End::Stub(self.context_u64(ctx::REASON) as u32, self.context_u64(ctx::EXIT) as u32)
            }
        };
        out.gpr[4] &= 0xffff_ffff;
        (out, end)
    }

    /// Runs original code natively from `s.pc`.
    pub fn run_native(&self, s: &State, tls: u32, gs: u32) -> (State, End) {
        let entry = Entry {
            gpr: s.gpr,
            xmm: s.xmm,
            flags: s.flags | 0x202,
            fs: u64::from(tls),
            gs: u64::from(gs),
            rip: u64::from(s.pc),
        };
        self.enter(&entry, 0, [0, 0]);
        let c = self.caught().expect("native code ends with a signal");
        let state = State { gpr: c.gpr, flags: c.flags & FLAGS, xmm: c.xmm, pc: c.rip as u32 };
        (state, End::Signal(c.signal as i32, c.rip))
    }

    /// The shadow word of the stack word at `off`.
    pub fn shadow(&self, off: u32) -> u64 {
        // SAFETY: 1. The shadow of LOW..HIGH, where tests have their stacks, is mapped.
        unsafe { ((SLOT + shadow::DISTANCE + u64::from(off)) as *const u64).read() }
    }

    pub fn set_shadow(&self, off: u32, word: u64) {
        poke(SLOT + shadow::DISTANCE + u64::from(off), &word.to_le_bytes());
    }

    /// Takes back what an interrupted pattern did; `rsp` is the original one.
    pub fn undo_shadow(&self, what: ShadowWord, rsp: u32) {
        match what {
            ShadowWord::Kept => {}
            ShadowWord::Pushed => self.set_shadow(rsp - 8, 0),
            ShadowWord::Consumed => {
                let site = shadow::consumed_site(self.shadow(rsp)).expect("a consumed word");
                self.set_shadow(rsp, shadow::live(site));
            }
        }
    }

    pub fn spill(&self, n: usize) -> u64 {
        self.context_u64(ctx::spill(n as u32))
    }

    pub fn target(&self) -> u32 {
        self.context_u64(ctx::TARGET) as u32
    }

    pub fn exit_target(&self, index: u32) -> (u32, u32) {
        self.exits[index as usize]
    }

    /// Links an exit.
    pub fn link(&self, patch_at: u32, to: u32) {
        poke(u64::from(patch_at), &to.wrapping_sub(patch_at + 4).to_le_bytes());
    }
}
