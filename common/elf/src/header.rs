//! The two fixed records: file header and program header. Neighbours: `lib` reads them from the file.
use crate::ElfError;

/// Bytes of the file header.
pub(crate) const HEADER_SIZE: usize = 64;
/// Bytes of a program header.
pub const PROGRAM_HEADER_SIZE: usize = 56;

pub(crate) const PT_LOAD: u32 = 1;
pub(crate) const PT_INTERP: u32 = 3;
pub(crate) const PT_NOTE: u32 = 4;
pub(crate) const PT_GNU_STACK: u32 = 0x6474_e551;
pub(crate) const PF_X: u32 = 1;
pub(crate) const PF_W: u32 = 2;
pub(crate) const PF_R: u32 = 4;

const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
/// Linux takes tables up to 64 KiB.
const TABLE_MAX: usize = 65536;

/// What the file header says, checked.
pub(crate) struct FileHeader {
    pub(crate) is_pie: bool,
    pub(crate) entry: u64,
    pub(crate) phoff: u64,
    pub(crate) phnum: u16,
}
impl FileHeader {
    pub(crate) fn parse(bytes: &[u8; HEADER_SIZE]) -> Result<Self, ElfError> {
        let [b'\x7f', b'E', b'L', b'F', class, data, ..] = *bytes else {
            return Err(ElfError::NotElf);
        };
        if class != CLASS_64 || data != LITTLE_ENDIAN {
            return Err(ElfError::WrongClass);
        }
        let is_pie = match u16_at(bytes, 16) {
            ET_EXEC => false,
            ET_DYN => true,
            _ => return Err(ElfError::NotExecutable),
        };
        if u16_at(bytes, 18) != EM_X86_64 {
            return Err(ElfError::WrongMachine);
        }
        let (entry_size, phnum) = (u16_at(bytes, 54), u16_at(bytes, 56));
        let table = usize::from(phnum).saturating_mul(PROGRAM_HEADER_SIZE);
        if usize::from(entry_size) != PROGRAM_HEADER_SIZE || phnum == 0 || table > TABLE_MAX {
            return Err(ElfError::BadTable);
        }
        Ok(Self { is_pie, entry: u64_at(bytes, 24), phoff: u64_at(bytes, 32), phnum })
    }
}

/// A program header as it stands in the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProgramHeader {
    pub(crate) kind: u32,
    pub(crate) flags: u32,
    pub(crate) offset: u64,
    pub(crate) vaddr: u64,
    pub(crate) filesz: u64,
    pub(crate) memsz: u64,
    pub(crate) align: u64,
}
impl ProgramHeader {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        Self {
            kind: u32_at(bytes, 0),
            flags: u32_at(bytes, 4),
            offset: u64_at(bytes, 8),
            vaddr: u64_at(bytes, 16),
            filesz: u64_at(bytes, 32),
            memsz: u64_at(bytes, 40),
            align: u64_at(bytes, 48),
        }
    }
}

/// `N` bytes at `at`; zeros outside, which no caller asks for.
fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|b| b.first_chunk()).copied().unwrap_or([0; N])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, at))
}
