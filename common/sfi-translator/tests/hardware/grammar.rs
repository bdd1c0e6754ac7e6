//! Sequences: instructions of every kind that the translator lets through, with every form of operand, between them
//! branches, calls, returns and loops; and bytes at random.
//!
//! Neighbours: `main` runs what comes out. A *template* is one kind of instruction (iced-x86's `Code`: opcode, prefix,
//! operand size); a *form* says where its operand is. Encodings are written here byte by byte, so that odd but valid ones
//! (long displacements, idle prefixes, high byte registers) occur; iced-x86 only says what they turned out to be.
//! Invariant: everything follows from the generator's seed.

use crate::machine::{CODE, DATA, DATA_LEN, END, GUEST_GS, MIDDLE, PAGE, STACK, STACK_LEN, TLS};
use crate::shared::{BASE, Nothing, Random, STUBS, config};
use iced_x86::{
    Code, Decoder, DecoderOptions, EncodingKind, FlowControl, Instruction, InstructionInfoFactory,
    MandatoryPrefix, Mnemonic, OpAccess, OpCodeInfo, OpCodeTableKind, OpKind, Register,
};
use occlum_sfi_spec::ctx;
use occlum_sfi_translator::{Config, Source, translate};

/// Where an instruction's operand is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Form {
    /// No operand but implied ones and immediates.
    None,
    Register,
    /// rsp or a part of it as a register operand.
    Rsp,
    Base,
    BaseDisp,
    Index,
    /// No base register.
    Absolute,
    Rip,
    /// disp(%rsp).
    Stack,
    /// rsp and an index.
    StackIndex,
    /// Through fs or gs.
    Segment,
    /// 32-bit addressing (67).
    Narrow,
}

pub const FORMS: [Form; 12] = [
    Form::None,
    Form::Register,
    Form::Rsp,
    Form::Base,
    Form::BaseDisp,
    Form::Index,
    Form::Absolute,
    Form::Rip,
    Form::Stack,
    Form::StackIndex,
    Form::Segment,
    Form::Narrow,
];

/// One row of the allow-list.
pub struct Template {
    pub code: Code,
    /// Forms that exist.
    pub forms: Vec<Form>,
    /// One instruction of the kind.
    pub example: Instruction,
}

pub struct Grammar {
    templates: Vec<Template>,
    /// Every template with every form.
    combinations: Vec<(usize, Form)>,
}

/// Start registers that hold addresses of data, and small numbers; the others hold anything.
pub const POINTERS: [usize; 7] = [3, 5, 6, 7, 12, 13, 14];
pub const SMALL: [usize; 4] = [1, 9, 10, 15];
/// Vector registers with small elements, for gathers.
pub const SMALL_VECTORS: [usize; 4] = [8, 9, 10, 11];
/// Registers that results may go to without spoiling addresses.
const FREE: [usize; 4] = [0, 2, 8, 11];

/// Encodings tried until one is of the wanted form.
const TRIES: usize = 2000;
const MIDDLE_OF_STACK: u32 = STACK + STACK_LEN / 2;

/// Is the instruction left to the LibOS?
fn is_emulated(bytes: &[u8]) -> bool {
    let config = Config { max_instructions: 1, ..config() };
    let Ok(f) = translate(&config, Source { start: CODE, bytes }, BASE, 0, &Nothing) else {
        return true;
    };
    f.code.starts_with(&[0x64, 0xc7, 0x04, 0x25, ctx::EXIT as u8]) && f.code.get(12) == Some(&0xe9) && {
        let rel = i32::from_le_bytes(std::array::from_fn(|n| f.code[13 + n]));
        (f.base + 17).wrapping_add_signed(rel) == STUBS.emulate
    }
}

/// Instructions whose results no two runs share.
fn is_random(i: &Instruction) -> bool {
    matches!(i.mnemonic(), Mnemonic::Rdrand | Mnemonic::Rdseed)
}

pub fn decode(bytes: &[u8], at: u32) -> Instruction {
    Decoder::with_ip(64, bytes, u64::from(at), DecoderOptions::NONE).decode()
}

/// The form of a decoded instruction.
fn form(i: &Instruction, bytes: &[u8]) -> Form {
    let explicit = (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Memory);
    let implied = (0..i.op_count()).any(|n| {
        matches!(
            i.op_kind(n),
            OpKind::MemorySegRSI
                | OpKind::MemorySegRDI
                | OpKind::MemoryESRDI
                | OpKind::MemorySegESI
                | OpKind::MemorySegEDI
                | OpKind::MemoryESEDI
        )
    });
    if !explicit && !implied {
        let registers = (0..i.op_count()).filter(|&n| i.op_kind(n) == OpKind::Register);
        let mut count = 0;
        for n in registers {
            count += 1;
            if i.op_register(n).full_register() == Register::RSP && i.op_register(n) != Register::AH {
                return Form::Rsp;
            }
        }
        return if count == 0 { Form::None } else { Form::Register };
    }
    let prefixes = bytes.iter().take_while(|b| {
        matches!(b, 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3)
    });
    let narrow = prefixes.clone().any(|&b| b == 0x67);
    if matches!(i.segment_prefix(), Register::FS | Register::GS) {
        return Form::Segment;
    }
    if narrow {
        return Form::Narrow;
    }
    if implied {
        return Form::None;
    }
    let (base, index) = (i.memory_base(), i.memory_index());
    match (base, index) {
        (Register::RIP, _) => Form::Rip,
        (Register::RSP, Register::None) => Form::Stack,
        (Register::RSP, _) => Form::StackIndex,
        (Register::None, _) => Form::Absolute,
        (_, Register::None) if i.memory_displ_size() == 0 => Form::Base,
        (_, Register::None) => Form::BaseDisp,
        _ => Form::Index,
    }
}

/// What an encoding is made of besides the opcode.
struct Fields {
    modrm: u8,
    sib: Option<u8>,
    disp: Vec<u8>,
    /// REX.RXB.
    rxb: u8,
    prefixes: Vec<u8>,
}

const EDGES: [u64; 14] = [
    0,
    1,
    2,
    7,
    8,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0x7fff_ffff,
    0x8000_0000,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];

/// A number, often one at an edge.
pub fn number(r: &mut Random) -> u64 {
    match r.below(4) {
        0 => r.next(),
        1 => r.pick(&EDGES).wrapping_neg(),
        2 => r.next() >> r.below(64),
        _ => r.pick(&EDGES),
    }
}

/// What is known of registers inside a sequence.
pub struct Known {
    pub pointers: Vec<usize>,
    pub small: Vec<usize>,
    factory: InstructionInfoFactory,
}

impl Known {
    pub fn new() -> Known {
        Known { pointers: POINTERS.to_vec(), small: SMALL.to_vec(), factory: InstructionInfoFactory::new() }
    }

    /// Forgets what `i` writes.
    fn note(&mut self, i: &Instruction) {
        let writes = |a: OpAccess| {
            !matches!(a, OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
        };
        for used in self.factory.info(i).used_registers() {
            if writes(used.access()) && used.register().is_gpr() {
                let n = used.register().full_register().number();
                let string = i.is_string_instruction();
                self.pointers.retain(|&p| p != n || string);
                self.small.retain(|&p| p != n);
            }
        }
    }

    fn writes(&mut self, i: &Instruction, register: Register) -> bool {
        self.factory.info(i).used_registers().iter().any(|u| {
            u.register().full_register() == register
                && !matches!(u.access(), OpAccess::Read | OpAccess::CondRead)
        })
    }
}

fn any_register(r: &mut Random, known: &Known) -> usize {
    match r.below(8) {
        0..=4 => r.pick(&FREE),
        5 if !known.small.is_empty() => r.pick(&known.small),
        _ => {
            let n = r.below(16);
            if n == 4 { 0 } else { n }
        }
    }
}

fn or_any(r: &mut Random, good: &[usize]) -> usize {
    if good.is_empty() || r.one_in(64) { r.below(16) } else { r.pick(good) }
}

/// ModRM, SIB and displacement of a form; `reg` is the other field.
fn operand(r: &mut Random, wanted: Form, reg: u8, vsib: bool, at: u32, known: &Known) -> Fields {
    let mut f = Fields {
        modrm: (reg & 7) << 3,
        sib: None,
        disp: Vec::new(),
        rxb: reg >> 3 << 2,
        prefixes: Vec::new(),
    };
    let disp8 = |r: &mut Random| r.next() as u8;
    let disp32 = |r: &mut Random| {
        let near = r.next() as u32 as i32 % 0x600;
        if r.one_in(200) { number(r) as u32 } else { near as u32 }
    };
    let absolute = |r: &mut Random| DATA + r.below(DATA_LEN as usize - 64) as u32;
    let index = |r: &mut Random, known: &Known| {
        if vsib { or_any(r, &SMALL_VECTORS) } else { or_any(r, &known.small) }
    };
    let sib = |f: &mut Fields, r: &mut Random, base: usize, index: usize| {
        f.modrm |= 4;
        f.sib = Some((r.below(4) << 6 | (index & 7) << 3 | base & 7) as u8);
        f.rxb |= (index >> 3 << 1 | base >> 3) as u8;
    };
    let with_disp = |f: &mut Fields, r: &mut Random| {
        if r.one_in(2) {
            f.modrm |= 0x40;
            f.disp.push(disp8(r));
        } else {
            f.modrm |= 0x80;
            f.disp.extend_from_slice(&disp32(r).to_le_bytes());
        }
    };
    match wanted {
        Form::None => f.modrm |= 0xc0 | r.below(8) as u8,
        Form::Register => {
            let rm = any_register(r, known);
            f.modrm |= 0xc0 | (rm & 7) as u8;
            f.rxb |= (rm >> 3) as u8;
        }
        Form::Rsp => {
            if r.one_in(2) {
                f.modrm |= 0xc4;
            } else {
                let rm = any_register(r, known);
                f.modrm = 0xc0 | 4 << 3 | (rm & 7) as u8;
                f.rxb = (rm >> 3) as u8;
            }
        }
        Form::Base | Form::BaseDisp | Form::Narrow if !vsib && (wanted == Form::Base || r.below(8) < 6) => {
            let base = or_any(r, &known.pointers);
            f.modrm |= (base & 7) as u8;
            f.rxb |= (base >> 3) as u8;
            if base & 7 == 4 {
                f.sib = Some(0x24);
            }
            if wanted != Form::Base || base & 7 == 5 {
                with_disp(&mut f, r);
            }
        }
        Form::Base | Form::Index | Form::BaseDisp | Form::Narrow => {
            let (base, index) = (or_any(r, &known.pointers), index(r, known));
            sib(&mut f, r, base, index);
            if r.one_in(2) || base & 7 == 5 {
                with_disp(&mut f, r);
            }
        }
        Form::Absolute => {
            let index = if vsib || r.one_in(2) { index(r, known) } else { 4 };
            sib(&mut f, r, 5, index);
            f.disp.extend_from_slice(&absolute(r).to_le_bytes());
        }
        Form::Rip => {
            f.modrm |= 5;
            let to = absolute(r).wrapping_sub(at + 8);
            f.disp.extend_from_slice(&to.to_le_bytes());
        }
        Form::Stack => {
            let index = if vsib { index(r, known) } else { 4 };
            sib(&mut f, r, 4, index);
            match r.below(8) {
                0 => {}
                1 => {
                    let far = r.pick(&[
                        4088u32,
                        4095,
                        4096,
                        0x4000,
                        0x3ff8,
                        0x4008,
                        0xffff_c000,
                        0xffff_bff8,
                        0xffff_f000,
                    ]);
                    f.modrm |= 0x80;
                    f.disp.extend_from_slice(&far.to_le_bytes());
                }
                _ => with_disp(&mut f, r),
            }
        }
        Form::StackIndex => {
            let index = index(r, known);
            sib(&mut f, r, 4, index);
            if r.one_in(2) {
                with_disp(&mut f, r);
            }
        }
        Form::Segment => {
            f.prefixes.push(r.pick(&[0x64, 0x64, 0x65]));
            let (index, near) = (index(r, known), disp32(r));
            if vsib || r.one_in(2) {
                sib(&mut f, r, 5, index);
            } else if r.one_in(2) || known.small.is_empty() {
                sib(&mut f, r, 5, 4);
            } else {
                let base = r.pick(&known.small);
                f.modrm |= 0x80 | (base & 7) as u8;
                f.rxb |= (base >> 3) as u8;
                if base & 7 == 4 {
                    f.sib = Some(0x24);
                }
            }
            f.disp.extend_from_slice(&near.to_le_bytes());
        }
    }
    if wanted == Form::Narrow {
        f.prefixes.push(0x67);
    }
    f
}

/// What only the opcode's description knows.
struct Shape {
    /// A register in the opcode's low bits.
    low: bool,
    modrm: bool,
    /// An address behind the opcode.
    moffs: bool,
    vvvv: bool,
    vsib: bool,
}

fn shape(op: &OpCodeInfo) -> Shape {
    let kinds: Vec<String> = op.op_kinds().iter().map(|k| format!("{k:?}")).collect();
    let any = |what: &str| kinds.iter().any(|k| k.contains(what));
    let moffs = any("mem_offs");
    let fields = ["_reg", "_rm", "or_mem"].iter().any(|w| any(w));
    let memory = kinds.iter().any(|k| k.starts_with("mem"));
    Shape {
        low: any("_opcode"),
        modrm: op.op_code_len() == 1 && (fields || memory && !moffs || op.is_group()),
        moffs,
        vvvv: any("_vvvv"),
        vsib: any("vsib"),
    }
}

/// ModRM and what belongs to it, as far as the encoding has it.
fn push_operand(bytes: &mut Vec<u8>, shape: &Shape, f: &Fields, r: &mut Random) {
    if shape.modrm {
        bytes.push(f.modrm);
        bytes.extend(f.sib);
        bytes.extend_from_slice(&f.disp);
    }
    if shape.moffs {
        let to = match f.prefixes.first() {
            Some(0x64) => r.below(0x800) as u64,
            _ => u64::from(DATA) + r.below(DATA_LEN as usize - 8) as u64,
        };
        bytes.extend_from_slice(&to.to_le_bytes()[..if f.prefixes.contains(&0x67) { 4 } else { 8 }]);
    }
}

/// Random bytes behind the opcode: immediates and what else the encoding reads.
fn tail(r: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    let size = r.pick(&[1, 4, 8]);
    while out.len() < 8 {
        let n = number(r).to_le_bytes();
        out.extend_from_slice(&n[..size]);
    }
    out
}

fn legacy(r: &mut Random, op: &OpCodeInfo, shape: &Shape, f: &Fields) -> Vec<u8> {
    let mut bytes = f.prefixes.clone();
    if op.mandatory_prefix() == MandatoryPrefix::P66 || op.operand_size() == 16 {
        bytes.push(0x66);
    }
    match op.mandatory_prefix() {
        MandatoryPrefix::PF3 => bytes.push(0xf3),
        MandatoryPrefix::PF2 => bytes.push(0xf2),
        _ if op.can_use_rep_prefix() && r.one_in(2) => bytes.push(r.pick(&[0xf2, 0xf3])),
        _ => {}
    }
    if op.can_use_lock_prefix() && f.modrm < 0xc0 && r.one_in(3) {
        bytes.push(0xf0);
    }
    if r.one_in(24) {
        let idle = r.pick(&[0x26, 0x2e, 0x36, 0x3e]);
        bytes.insert(0, idle);
    }
    let wide = op.operand_size() == 64 && !op.default_op_size64() || op.w() == 1 || r.one_in(32);
    let rex = 0x40 | u8::from(wide) << 3 | f.rxb;
    if rex != 0x40 || r.one_in(8) {
        bytes.push(rex);
    }
    match op.table() {
        OpCodeTableKind::T0F => bytes.push(0x0f),
        OpCodeTableKind::T0F38 => bytes.extend_from_slice(&[0x0f, 0x38]),
        OpCodeTableKind::T0F3A => bytes.extend_from_slice(&[0x0f, 0x3a]),
        _ => {}
    }
    let low = if shape.low { r.below(8) as u8 } else { 0 };
    if op.op_code_len() == 2 {
        bytes.push((op.op_code() >> 8) as u8);
    }
    bytes.push(op.op_code() as u8 + low);
    bytes
}

fn vex(r: &mut Random, op: &OpCodeInfo, shape: &Shape, f: &Fields) -> Vec<u8> {
    let mut bytes = f.prefixes.clone();
    let pp = match op.mandatory_prefix() {
        MandatoryPrefix::P66 => 1,
        MandatoryPrefix::PF3 => 2,
        MandatoryPrefix::PF2 => 3,
        _ => 0,
    };
    let map = match op.table() {
        OpCodeTableKind::T0F => 1,
        OpCodeTableKind::T0F38 => 2,
        _ => 3,
    };
    let w = (if op.is_wig() { r.below(2) as u32 } else { op.w() }) as u8;
    let l = (if op.is_lig() { r.below(2) as u32 } else { op.l() }) as u8;
    let vvvv = if shape.vvvv { r.below(16) as u8 } else { 0 };
    let third = (!vvvv & 15) << 3 | l << 2 | pp;
    if map == 1 && w == 0 && f.rxb & 3 == 0 && r.one_in(2) {
        bytes.extend_from_slice(&[0xc5, (!f.rxb & 4) << 5 | third]);
    } else {
        bytes.extend_from_slice(&[0xc4, (!f.rxb & 7) << 5 | map, w << 7 | third]);
    }
    bytes.push(op.op_code() as u8);
    bytes
}

/// An encoding of a template in a form, for address `at`; `None` if it did not come out.
fn encode(
    r: &mut Random,
    code: Code,
    wanted: Form,
    at: u32,
    known: &Known,
) -> Option<(Vec<u8>, Instruction)> {
    let op = code.op_code();
    let shape = shape(op);
    let reg = if op.is_group() { op.group_index() as u8 } else { any_register(r, known) as u8 };
    let mut f = operand(r, wanted, reg, shape.vsib, at, known);
    if op.is_rm_group() {
        f.modrm = f.modrm & 0xf8 | op.rm_group_index() as u8;
    }
    let mut bytes = match op.encoding() {
        EncodingKind::VEX => vex(r, op, &shape, &f),
        _ => legacy(r, op, &shape, &f),
    };
    push_operand(&mut bytes, &shape, &f, r);
    if wanted == Form::Rsp && r.one_in(2) {
        bytes.extend(u64::from(MIDDLE_OF_STACK).to_le_bytes());
    }
    bytes.extend(tail(r));
    bytes.truncate(15);
    let i = decode(&bytes, at);
    if i.is_invalid() || i.code() != code {
        return None;
    }
    bytes.truncate(i.len());
    Some((bytes, i))
}

/// The forms of `code` that exist, and an instruction; `None` if no row of the allow-list has it.
fn template(r: &mut Random, code: Code) -> Option<Template> {
    let op = code.op_code();
    let known = Known::new();
    if !op.mode64()
        || !op.is_instruction()
        || !matches!(op.encoding(), EncodingKind::Legacy | EncodingKind::VEX)
    {
        return None;
    }
    let (mut forms, mut example) = (Vec::new(), None);
    for wanted in FORMS {
        for _ in 0..12 {
            let Some((bytes, i)) = encode(r, code, wanted, CODE, &known) else { continue };
            if i.flow_control() != FlowControl::Next || is_random(&i) || is_emulated(&bytes) {
                continue;
            }
            let found = form(&i, &bytes);
            if !forms.contains(&found) {
                forms.push(found);
            }
            example = Some(i);
        }
    }
    forms.sort_unstable();
    Some(Template { code, forms, example: example? })
}

/// Code and what of it counts.
pub struct Sequence {
    pub bytes: Vec<u8>,
    /// Template, form and offset of the instructions before the first branch: reached for sure.
    pub counted: Vec<(usize, Form, u32)>,
}

/// Where a branch's target goes once it is known.
enum Fixup {
    Rel8,
    Rel32,
    Absolute,
}

/// A sequence while it is made.
struct Writer<'a> {
    r: &'a mut Random,
    grammar: &'a Grammar,
    known: Known,
    bytes: Vec<u8>,
    counted: Vec<(usize, Form, u32)>,
    /// No branch yet.
    straight: bool,
    starts: Vec<usize>,
    fixups: Vec<(usize, Fixup, usize)>,
    length: usize,
}

/// Instructions that end a run: the LibOS does them.
const LEAVING: &[&[u8]] = &[
    &[0x0f, 0x05],
    &[0x0f, 0xa2],
    &[0x0f, 0x31],
    &[0xcc],
    &[0xf4],
    &[0x0f, 0x0b],
    &[0xcd, 0x80],
    &[0x9d],
    &[0x0f, 0xae, 0x03],
    &[0x0f, 0xa3, 0x03],
    &[0xd9, 0x33],
    &[0x8e, 0xd8],
    &[0xfa],
    &[0xec],
    &[0x0f, 0x34],
];

impl Writer<'_> {
    fn at(&self) -> u32 {
        CODE + self.bytes.len() as u32
    }

    /// The instruction that a sequence begins with: each template and form in turn, so that all get their share.
    fn first(&mut self, combination: u64) {
        let (n, wanted) =
            self.grammar.combinations[(combination % self.grammar.combinations.len() as u64) as usize];
        let code = self.grammar.templates[n].code;
        let guided = wanted == Form::Rsp && self.r.one_in(2);
        if guided {
            self.guide(code);
        }
        for _ in 0..TRIES {
            let Some((bytes, i)) = encode(self.r, code, wanted, self.at(), &self.known) else { continue };
            if form(&i, &bytes) == wanted {
                self.place(n, &bytes, &i);
                if guided {
                    self.put(&[0xbc]);
                    self.put(&MIDDLE_OF_STACK.to_le_bytes());
                }
                return;
            }
        }
        self.plain(None);
    }

    /// Prepares that an instruction leaves an address in rsp that stack words may be at; what goes beyond 4 GiB compares
    /// only once rsp is right again.
    fn guide(&mut self, code: Code) {
        match code.mnemonic() {
            Mnemonic::Neg | Mnemonic::Not => {
                self.put(&[0xbc]);
                self.put(&MIDDLE.to_le_bytes());
            }
            Mnemonic::Shl | Mnemonic::Sal => self.put(&[0xb9, 0x40, 0, 0, 0]),
            Mnemonic::Movq | Mnemonic::Movd => {
                self.put(&[0xb8]);
                self.put(&MIDDLE_OF_STACK.to_le_bytes());
                (0..8).for_each(|mm| self.put(&[0x48, 0x0f, 0x6e, 0xc0 | mm << 3]));
                (0..8).for_each(|xmm| self.put(&[0x66, 0x48, 0x0f, 0x6e, 0xc0 | xmm << 3]));
            }
            _ => {}
        }
    }

    fn place(&mut self, n: usize, bytes: &[u8], i: &Instruction) {
        if self.straight {
            self.counted.push((n, form(i, bytes), self.at()));
        }
        self.known.note(i);
        self.bytes.extend_from_slice(bytes);
    }

    /// An instruction of some template.
    fn plain(&mut self, keep: Option<Register>) {
        for _ in 0..20 {
            let n = self.r.below(self.grammar.templates.len());
            let t = &self.grammar.templates[n];
            let wanted = self.r.pick(&t.forms);
            let Some((bytes, i)) = encode(self.r, t.code, wanted, self.at(), &self.known) else { continue };
            if keep.is_some_and(|k| self.known.writes(&i, k)) {
                continue;
            }
            self.place(n, &bytes, &i);
            return;
        }
        self.bytes.push(0x90);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Room for a branch target: an item behind the current one.
    fn target(&mut self, kind: Fixup) {
        let current = self.starts.len();
        let near = matches!(kind, Fixup::Rel8);
        let to = current + self.r.below((self.length + 1 - current).min(if near { 2 } else { 99 }).max(1));
        self.fixups.push((self.bytes.len(), kind, to));
        let room = if near { 1 } else { 4 };
        self.bytes.resize(self.bytes.len() + room, 0);
    }

    fn branch(&mut self) {
        self.straight = false;
        match self.r.below(13) {
            0 | 1 => {
                let cc = self.r.below(16) as u8;
                self.put(&[0x0f, 0x80 + cc]);
                self.target(Fixup::Rel32);
            }
            2 => {
                let cc = self.r.below(16) as u8;
                self.put(&[0x70 + cc]);
                self.target(Fixup::Rel8);
            }
            3 => {
                self.put(&[0xe9]);
                self.target(Fixup::Rel32);
            }
            4 => {
                if self.r.one_in(4) {
                    self.put(&[0x67]);
                }
                self.put(&[0xe3]);
                self.target(Fixup::Rel8);
            }
            5 => {
                self.put(&[0x68]);
                self.target(Fixup::Absolute);
                if self.r.one_in(3) {
                    let n = self.r.pick(&[0u8, 8, 16, 3, 0xf8]);
                    self.put(&[0xc2, n, 0]);
                } else {
                    self.put(&[0xc3]);
                }
            }
            6 | 7 => self.indirect(),
            8 => {
                self.put(&[0xe8]);
                self.target(Fixup::Rel32);
            }
            9 => {
                let n = self.r.pick(&FREE[..2]) as u8;
                self.put(&[0xe8, 0, 0, 0, 0, 0x58 + n]);
            }
            10 => self.called(),
            _ => self.counted_loop(),
        }
    }

    /// Jump or call through a register or memory.
    fn indirect(&mut self) {
        let digit = self.r.pick(&[0x10u8, 0x20]);
        match self.r.below(3) {
            0 => {
                let n = self.r.pick(&[0u8, 2]);
                self.put(&[0xb8 + n]);
                self.target(Fixup::Absolute);
                self.put(&[0xff, 0xc0 | digit | n]);
            }
            1 => {
                let disp = self.r.next() as u8 & 0x78;
                self.put(&[0x48, 0xc7, 0x44, 0x24, disp]);
                self.target(Fixup::Absolute);
                self.put(&[0xff, 0x44 | digit, 0x24, disp]);
            }
            _ => {
                let at = (DATA + self.r.below(0x1000) as u32).to_le_bytes();
                self.put(&[0x48, 0xc7, 0x04, 0x25]);
                self.put(&at);
                self.target(Fixup::Absolute);
                self.put(&[0xff, 0x04 | digit, 0x25]);
                self.put(&at);
            }
        }
    }

    /// A function, its call before it and a jump around it.
    fn called(&mut self) {
        self.put(&[0xe8, 2, 0, 0, 0, 0xeb, 0]);
        let from = self.bytes.len();
        self.plain(Some(Register::RSP));
        self.put(&[0xc3]);
        self.bytes[from - 1] = (self.bytes.len() - from) as u8;
    }

    /// An instruction that runs some times.
    fn counted_loop(&mut self) {
        let count = 1 + self.r.below(5) as u8;
        self.put(&[0xb9, count, 0, 0, 0]);
        let from = self.bytes.len();
        self.plain(Some(Register::RCX));
        if self.r.one_in(4) {
            self.put(&[0x67]);
        }
        let op = self.r.pick(&[0xe0, 0xe1, 0xe2, 0xe2]);
        let back = from.wrapping_sub(self.bytes.len() + 2) as u8;
        self.put(&[op, back]);
    }

    fn finish(mut self) -> Sequence {
        self.starts.push(self.bytes.len());
        let rel = END.wrapping_sub(self.at() + 5);
        self.put(&[0xe9]);
        self.put(&rel.to_le_bytes());
        for (at, kind, item) in &self.fixups {
            let to = self.starts[*item.min(&(self.starts.len() - 1))];
            match kind {
                Fixup::Rel8 => {
                    let rel = to - (at + 1);
                    self.bytes[*at] = if rel < 0x80 { rel as u8 } else { 0 };
                }
                Fixup::Rel32 => {
                    self.bytes[*at..at + 4].copy_from_slice(&((to - (at + 4)) as u32).to_le_bytes())
                }
                Fixup::Absolute => {
                    self.bytes[*at..at + 4].copy_from_slice(&(CODE + to as u32).to_le_bytes());
                }
            }
        }
        Sequence { bytes: self.bytes, counted: self.counted }
    }
}

impl Grammar {
    pub fn new() -> Grammar {
        let mut r = Random(1);
        let templates: Vec<Template> = Code::values().filter_map(|c| template(&mut r, c)).collect();
        let combinations =
            templates.iter().enumerate().flat_map(|(n, t)| t.forms.iter().map(move |&f| (n, f))).collect();
        Grammar { templates, combinations }
    }

    /// Sequences that begin with the kinds and forms that come seldom otherwise, or seldom to an end.
    pub fn seldom() -> Grammar {
        let mut grammar = Grammar::new();
        let templates = &grammar.templates;
        let is_hint = |n: usize| {
            let name = format!("{:?}", templates[n].code);
            ["_0F18", "_0F1C", "_0F1F"].iter().any(|end| name.ends_with(end))
        };
        grammar.combinations.retain(|&(n, form)| form == Form::Rsp || is_hint(n));
        grammar
    }

    /// Forms of a template that sequences are made to begin with.
    pub fn wanted(&self, template: usize) -> impl Iterator<Item = Form> {
        self.combinations.iter().filter(move |(n, _)| *n == template).map(|(_, form)| *form)
    }

    pub fn templates(&self) -> &[Template] {
        &self.templates
    }

    /// By the rules, or with some bytes changed, or bytes at random. `turn`: the sequence's number, which decides how most
    /// of them begin.
    pub fn sequence(&self, r: &mut Random, turn: u64) -> Sequence {
        let kind = r.below(20);
        let mut s = if kind == 0 { soup(r) } else { self.orderly(r, turn) };
        if kind == 1 {
            for _ in 0..1 + r.below(3) {
                let at = r.below(s.bytes.len());
                s.bytes[at] = if r.one_in(2) { r.next() as u8 } else { s.bytes[at] ^ 1 << r.below(8) };
            }
            s.counted.clear();
        }
        let random = (0..s.bytes.len()).any(|n| is_random(&decode(&s.bytes[n..], CODE)));
        if random { self.sequence(r, turn) } else { s }
    }

    fn orderly(&self, r: &mut Random, turn: u64) -> Sequence {
        let length = 1 + r.below(12);
        let mut w = Writer {
            r,
            grammar: self,
            known: Known::new(),
            bytes: Vec::new(),
            counted: Vec::new(),
            straight: true,
            starts: Vec::new(),
            fixups: Vec::new(),
            length,
        };
        for n in 0..length {
            w.starts.push(w.bytes.len());
            match w.r.below(64) {
                _ if n == 0 => w.first(turn),
                0 => {
                    let leaving = w.r.pick(LEAVING);
                    w.straight = false;
                    w.put(leaving);
                }
                1..=12 => w.branch(),
                _ => w.plain(None),
            }
        }
        w.finish()
    }
}

/// Prefixes, opcodes and ModRM bytes that random bytes rarely combine.
const SPICE: &[&[u8]] = &[
    &[0x66],
    &[0x67],
    &[0x64],
    &[0xf2],
    &[0xf3],
    &[0xf0],
    &[0x48],
    &[0x4c],
    &[0x41],
    &[0x0f],
    &[0xc4, 0xe2, 0x7d],
    &[0xc5, 0xf8],
    &[0x48, 0x83, 0xec],
    &[0x48, 0x8d, 0x64, 0x24],
    &[0x04, 0x24],
    &[0x54],
    &[0x5c],
    &[0xc9],
    &[0x48, 0x89, 0xe0],
    &[0x48, 0x94],
    &[0xa4],
    &[0x74, 0x03],
    &[0xeb, 0x02],
    &[0x03],
    &[0x46],
];

fn soup(r: &mut Random) -> Sequence {
    let mut bytes = Vec::new();
    let length = 4 + r.below(40);
    while bytes.len() < length {
        if r.one_in(2) {
            bytes.extend_from_slice(r.pick(SPICE));
        } else {
            bytes.push(r.next() as u8);
        }
    }
    Sequence { bytes, counted: Vec::new() }
}

/// Qwords of a data page: addresses of data, small numbers, anything.
pub fn content(r: &mut Random, len: u32) -> Vec<u8> {
    let word = |r: &mut Random| match r.below(3) {
        0 => u64::from(DATA) + r.below(DATA_LEN as usize) as u64,
        1 => r.below(64) as u64,
        _ => number(r),
    };
    (0..len / 8).flat_map(|_| word(r).to_le_bytes()).collect()
}

/// Segment bases lie in the middle of their two pages.
const _: () = assert!(TLS % PAGE == 0 && GUEST_GS % PAGE == 0);
