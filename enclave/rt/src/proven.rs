//! What the verifier has proven of the code cache: two bits for each byte, set when a unit is published, and one for each
//! 16-byte line, which says whether a unit lies there.
//!
//! Neighbours: `code` asks here before it links or fills in a table entry (R20, V11 to V14 of `sfi-verifier`).
//! Invariants (BKL): a bit is set only from the maps of an accepted unit, for the addresses that unit was proven for; all
//! bits of a line are clear while no unit lies there.
use crate::bkl::BklCell;
use crate::mem::TryGrow;
use alloc::boxed::Box;
use alloc::vec::Vec;
use occlum_sfi_spec::elrange;
use occlum_sfi_verifier::{Maps, Proven, is_set, map_len};

/// Units begin at multiples of this and have its lines for themselves.
pub(crate) const LINE: usize = 16;
/// Bytes of the cache whose bits are allocated together.
const PIECE: usize = 128 << 10;
const PIECES: usize = ((elrange::CODE_END - elrange::CODE_BASE) as usize).div_ceil(PIECE);

struct Piece {
    boundaries: Box<[u8]>,
    entries: Box<[u8]>,
    taken: Box<[u8]>,
}

static PIECES_PROVEN: BklCell<Vec<Option<Piece>>> = BklCell::new(Vec::new());

impl Piece {
    fn new() -> Option<Piece> {
        let map = |len| zeroed(len).map(Vec::into_boxed_slice);
        let (boundaries, entries) = (map(map_len(PIECE))?, map(map_len(PIECE))?);
        Some(Piece { boundaries, entries, taken: map(PIECE / LINE / 8)? })
    }
}

/// The verifier's view of what is published.
pub(crate) struct Published;

impl Proven for Published {
    fn is_entry(&self, addr: u32) -> bool {
        look_up(addr, |p| &p.entries)
    }

    fn is_boundary(&self, addr: u32) -> bool {
        look_up(addr, |p| &p.boundaries)
    }
}

fn look_up(addr: u32, map: impl Fn(&Piece) -> &[u8]) -> bool {
    let Some(at) = addr.checked_sub(elrange::CODE_BASE as u32) else { return false };
    let (piece, bit) = (at as usize / PIECE, at as usize % PIECE);
    PIECES_PROVEN.with(|all| all.get(piece).and_then(Option::as_ref).is_some_and(|p| is_set(map(p), bit)))
}

/// Zeroed bytes; `None` if the heap has none left.
fn zeroed(len: usize) -> Option<Vec<u8>> {
    let mut v = Vec::new();
    v.try_room_exact(len).ok()?;
    v.resize(len, 0);
    Some(v)
}

/// The three maps for a unit.
pub(crate) struct Buffers(Vec<u8>, usize);

impl Buffers {
    /// For `code_len` bytes of code. `None`: no memory.
    pub(crate) fn new(code_len: usize) -> Option<Buffers> {
        let len = map_len(code_len);
        Some(Buffers(zeroed(3 * len)?, len))
    }

    pub(crate) fn maps(&mut self) -> Maps<'_> {
        let (boundaries, rest) = self.0.split_at_mut(self.1);
        let (entries, targets) = rest.split_at_mut(self.1);
        Maps { boundaries, entries, targets }
    }

    /// Makes room for the bits of the unit at `addr`. False: no memory.
    pub(crate) fn reserve(&self, addr: u32) -> bool {
        let first = (addr - elrange::CODE_BASE as u32) as usize;
        let last = first + self.1 * 8;
        PIECES_PROVEN.with_mut(|all| {
            if all.is_empty() {
                if all.try_room_exact(PIECES).is_err() {
                    return false;
                }
                all.resize_with(PIECES, || None);
            }
            (first / PIECE..=last / PIECE).all(|n| match all.get_mut(n) {
                Some(Some(_)) | None => true,
                Some(none) => {
                    *none = Piece::new();
                    none.is_some()
                }
            })
        })
    }

    /// Sets the bits of the accepted unit at `addr`, a multiple of `LINE`, behind `reserve`.
    pub(crate) fn record(&mut self, addr: u32) {
        let first = (addr - elrange::CODE_BASE as u32) as usize / 8;
        let maps = self.maps();
        PIECES_PROVEN.with_mut(|all| {
            for (n, (b, e)) in maps.boundaries.iter().zip(maps.entries.iter()).enumerate() {
                let (piece, at) = ((first + n) / (PIECE / 8), (first + n) % (PIECE / 8));
                if let Some(Some(p)) = all.get_mut(piece) {
                    p.boundaries[at] |= b;
                    p.entries[at] |= e;
                }
            }
        });
    }
}

/// The lines of [addr, addr + len): number of the piece and line in it.
fn lines(addr: u32, len: usize) -> impl Iterator<Item = (usize, usize)> {
    let first = (addr - elrange::CODE_BASE as u32) as usize / LINE;
    (first..first + len.div_ceil(LINE)).map(|n| (n / (PIECE / LINE), n % (PIECE / LINE)))
}

/// Does a unit lie on any line of the range?
pub(crate) fn is_taken(addr: u32, len: usize) -> bool {
    let taken = |p: &Option<Piece>, line| p.as_ref().is_some_and(|p| is_set(&p.taken, line));
    PIECES_PROVEN.with(|all| lines(addr, len).any(|(n, line)| all.get(n).is_some_and(|p| taken(p, line))))
}

/// A unit lies on the range's lines from now on.
pub(crate) fn take(addr: u32, len: usize) {
    PIECES_PROVEN.with_mut(|all| {
        for (n, line) in lines(addr, len) {
            if let Some(Some(p)) = all.get_mut(n) {
                p.taken[line / 8] |= 1 << (line % 8);
            }
        }
    });
}

/// Nothing lies on the range's lines any more, and nothing is proven of them.
pub(crate) fn clear(addr: u32, len: usize) {
    PIECES_PROVEN.with_mut(|all| {
        for (n, line) in lines(addr, len) {
            if let Some(Some(p)) = all.get_mut(n) {
                let bytes = line * LINE / 8..(line + 1) * LINE / 8;
                p.boundaries[bytes.clone()].fill(0);
                p.entries[bytes].fill(0);
                p.taken[line / 8] &= !(1 << (line % 8));
            }
        }
    });
}
