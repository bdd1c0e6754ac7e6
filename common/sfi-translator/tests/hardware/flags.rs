//! Status flags that an instruction leaves undefined, from its page in the Intel SDM, volume 2 ("Flags affected"; the
//! summary is volume 1, appendix A). Shifts and rotates are listed for counts other than 1.
//!
//! Neighbours: `side` asks only when flags differ; the test at the end compares the table with iced-x86's.

use iced_x86::{Instruction, Mnemonic};

pub const CF: u32 = 0x001;
pub const PF: u32 = 0x004;
pub const AF: u32 = 0x010;
pub const ZF: u32 = 0x040;
pub const SF: u32 = 0x080;
pub const OF: u32 = 0x800;

const TABLE: &[(&[Mnemonic], u32)] = {
    use Mnemonic as M;
    &[
        (&[M::And, M::Or, M::Xor, M::Test], AF),
        (&[M::Shl, M::Sal, M::Shr, M::Sar], OF | AF | CF),
        (&[M::Rol, M::Ror, M::Rcl, M::Rcr], OF | CF),
        (&[M::Shld, M::Shrd], OF | SF | ZF | AF | PF | CF),
        (&[M::Mul, M::Imul], SF | ZF | AF | PF),
        (&[M::Div, M::Idiv], OF | SF | ZF | AF | PF | CF),
        (&[M::Bsf, M::Bsr], OF | SF | AF | PF | CF),
        (&[M::Bt, M::Bts, M::Btr, M::Btc], OF | SF | AF | PF),
        (&[M::Lzcnt, M::Tzcnt], OF | SF | AF | PF),
        (&[M::Andn, M::Blsi, M::Blsmsk, M::Blsr, M::Bzhi], AF | PF),
        (&[M::Bextr], AF | SF | PF),
    ]
};

/// Status flags, as bits of RFLAGS.
pub fn undefined(i: &Instruction) -> u32 {
    TABLE.iter().find(|(names, _)| names.contains(&i.mnemonic())).map_or(0, |(_, flags)| *flags)
}

/// What iced-x86 says of `i`.
fn of_iced(i: &Instruction) -> u32 {
    use iced_x86::RflagsBits as B;
    let bits = i.rflags_undefined();
    let pairs = [(B::CF, CF), (B::PF, PF), (B::AF, AF), (B::ZF, ZF), (B::SF, SF), (B::OF, OF)];
    pairs.iter().filter(|(b, _)| bits & b != 0).map(|(_, f)| f).sum()
}

/// The table lists nothing that iced-x86 calls defined, but for counts that iced-x86 knows.
#[test]
fn table_agrees_with_iced() {
    let mut wrong = Vec::new();
    for template in crate::grammar::Grammar::new().templates() {
        let i = &template.example;
        let (own, other) = (undefined(i), of_iced(i));
        let counted = TABLE[1..4].iter().any(|(names, _)| names.contains(&i.mnemonic()));
        if own != other && !(counted && own & other == other) {
            wrong.push(format!("{i}: {own:#x}, iced-x86 {other:#x}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
