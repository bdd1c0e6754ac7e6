//! Translated code with bytes changed, as far as the verifier still accepts it, runs in the scratch process: whatever it
//! computes, it writes nothing outside the slot, runs nothing but itself and the stubs, makes no system call and hands no
//! address of the slot to the program.
//!
//! Neighbours: `side` translates, `machine` runs. What lies round the slot: the native side's windows below 4 GiB, the
//! lookup tables, the trusted context; all else is not mapped, or not writable for generated code.

use crate::machine::{CACHE, CODE, Caught, DATA, END, GUEST_GS, SLOT, State, TLS};
use crate::shared::{Random, STUBS};
use crate::side::Sides;
use occlum_sfi_spec::{Returns, ctx, domain, table};
use occlum_sfi_verifier::{Maps, Proven, Unit, map_len, verify};

/// Changes tried of each sequence before the next one.
pub const TRIES: usize = 12;
/// What generated code may write of the context: by offset.
const OWN: [u32; 3] = [ctx::REASON, ctx::EXIT, ctx::TARGET];
/// Around the slot: what a stack pointer that is not confined may reach.
const AROUND: u64 = 1 << 20;

struct Nothing;
impl Proven for Nothing {
    fn is_entry(&self, _: u32) -> bool {
        false
    }
    fn is_boundary(&self, _: u32) -> bool {
        false
    }
}

fn is_accepted(returns: Returns, base: u32, code: &[u8]) -> bool {
    let len = map_len(code.len());
    let (mut boundaries, mut entries, mut targets) = (vec![0; len], vec![0; len], vec![0; len]);
    let mut maps = Maps { boundaries: &mut boundaries, entries: &mut entries, targets: &mut targets };
    verify(&STUBS, returns, Unit { base, code }, &Nothing, &mut maps).is_ok()
}

/// Bytes that mean something: prefixes, escapes, forms with rsp.
const TELLING: [u8; 16] =
    [0x65, 0x67, 0x66, 0xf2, 0xf3, 0x48, 0x4c, 0x41, 0x64, 0x0f, 0xc4, 0xc5, 0x24, 0x84, 0x5c, 0x90];

/// A few bytes become others.
fn change(r: &mut Random, code: &mut [u8]) {
    for _ in 0..1 + r.below(2) {
        let at = r.below(code.len());
        match r.below(3) {
            0 => code[at] ^= 1 << r.below(8),
            1 => code[at] = r.next() as u8,
            _ => code[at] = r.pick(&TELLING),
        }
    }
}

/// What ran.
pub enum Ran {
    /// The verifier refused it, or nothing changed.
    Refused,
    /// It ran, and left by a stub, by a signal, or not in time.
    Left,
    Signal,
    Loop,
}

/// Changes the translation of the sequence in the code page and runs it. The error says what harm it did.
pub fn run(sides: &mut Sides, r: &mut Random, start: &State) -> Result<Ran, String> {
    let Some((base, original)) = sides.first_translation() else { return Ok(Ran::Refused) };
    let mut code = original.clone();
    change(r, &mut code);
    if code == original || !is_accepted(sides.returns(), base, &code) {
        return Ok(Ran::Refused);
    }
    execute(sides, start, base, &code).map_err(|what| format!("{what}\n{code:02x?}\nfrom {original:02x?}"))
}

/// Runs code as it is. The error says what harm it did.
pub fn execute(sides: &mut Sides, start: &State, base: u32, code: &[u8]) -> Result<Ran, String> {
    sides.machine.write_cache(base, code);
    let mut s = start.clone();
    (s.rip, s.fs, s.gs) = (u64::from(base), sides.machine.context_address(), SLOT);
    s.gpr[4] = SLOT + (s.gpr[4] & 0xffff_ffff);
    *sides.machine.context(ctx::spill(11)) = s.gpr[11];
    *sides.machine.context(ctx::SLOT_BASE) = SLOT;
    *sides.machine.context(ctx::TLS) = u64::from(TLS);
    *sides.machine.context(ctx::GUEST_GS) = u64::from(GUEST_GS);
    s.gpr[11] = 0xbad0_11ba_d011;
    let before = outside(sides);
    let (out, caught) = sides.machine.run(&s);
    let harm = match caught {
        Some(c) => signal_harms(c, base, code.len()),
        None => leak(start, &out),
    };
    let written = !sides.machine.is_native_pristine() || outside(sides) != before;
    sides.machine.restore();
    match harm.or_else(|| written.then(|| "it wrote outside the slot".into())) {
        Some(what) => Err(what),
        None => Ok(match caught {
            None => Ran::Left,
            Some(c) if c.signal == libc::SIGPROF => Ran::Loop,
            Some(_) => Ran::Signal,
        }),
    }
}

/// Code that harms, which no verifier has seen: what it does must be noticed.
pub fn controls() -> [(&'static str, Vec<u8>); 6] {
    let to = |opcode: &[u8], operand: u32| [opcode, &operand.to_le_bytes(), &[0xcc]].concat();
    let jump = |at: u32, to: u32| [&[0xe9][..], &to.wrapping_sub(at + 5).to_le_bytes()].concat();
    [
        ("another one's memory", to(&[0x89, 0x04, 0x25], DATA + 8)),
        ("memory that is not there", to(&[0x89, 0x04, 0x25], 0x7000_0000)),
        ("the context", [&[0x64, 0xff, 0x04, 0x25][..], &ctx::SLOT_BASE.to_le_bytes(), &[0xcc]].concat()),
        ("a system call", vec![0x0f, 0x05, 0xcc]),
        ("another one's code", jump(CACHE, CODE)),
        ("an address", [&[0x48, 0x89, 0xe3][..], &jump(CACHE + 3, END)].concat()),
    ]
}

/// The context without what generated code may write, and the tables.
fn outside(sides: &mut Sides) -> (Vec<u64>, Vec<u8>) {
    let spills = (0..16).map(ctx::spill);
    let own: Vec<u32> = OWN.into_iter().chain(spills).map(|at| at / 8).collect();
    let words = (0..ctx::SIZE / 8).filter(|n| !own.contains(n));
    let context = words.map(|n| *sides.machine.context(n * 8)).collect();
    (context, sides.machine.tables())
}

/// Is it a signal that code inside its bounds cannot get?
fn signal_harms(c: Caught, base: u32, len: usize) -> Option<String> {
    let inside = (u64::from(base)..u64::from(base) + len as u64 + 1).contains(&c.rip);
    let in_slot = (SLOT - AROUND..SLOT + domain::SIZE + AROUND).contains(&c.address);
    let is_own = in_slot || table::entry_at(SLOT, c.address).is_some();
    let harm = match c.signal {
        libc::SIGPROF => return None,
        libc::SIGSYS => "it made a system call",
        _ if !inside => "it ran something else",
        // Without an address: an operand that is not aligned, or rsp beyond all addresses.
        libc::SIGSEGV | libc::SIGBUS if c.code > 0 && c.code != 0x80 && !is_own => {
            "it touched what is not its own"
        }
        _ => return None,
    };
    Some(format!("{harm}: {c:x?}"))
}

/// Does a register hold an address of the slot that it did not hold before? rsp does; r11 is in its own place. A product or
/// a shift hits one by chance once in some 100,000 runs or less: what is reported has to be looked at.
fn leak(start: &State, out: &State) -> Option<String> {
    let slot = SLOT - AROUND..SLOT + domain::SIZE + AROUND;
    let shown = (0..16).find(|n| *n != 4 && *n != 11 && slot.contains(&out.gpr[*n]))?;
    (!start.gpr.iter().any(|v| slot.contains(v)))
        .then(|| format!("register {shown} holds {:#x}", out.gpr[shown]))
}
