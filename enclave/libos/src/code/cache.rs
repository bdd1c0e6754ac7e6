//! The code cache's fragments: where they lie, what they are linked to, when their memory is used again (R21, R28).
//!
//! Neighbours: `code` makes fragments and keeps the regions that they belong to, `rt::code` writes the memory, `stale`
//! brings tasks out of dropped ones. Shared fragments (of regions that processes share) stay while a mapping has their
//! region, and then until their room is wanted. A private one, of one domain, is *dropped* when the bytes it was made of
//! change, vanish or stop being executable. No table entry that a program could use and no link leads to a dropped one,
//! but tasks may still be interrupted there. Its memory is *reclaimed* when no task can be.
//! Invariants: fragments lie in pieces that one slot, or one shared region, has to itself; what a process has of either
//! kind is no more than it leaves to others, but for a little; an exit's number says its fragment and its place there;
//! only exits of live fragments of one region are linked, and each that leads to a private fragment is in that fragment's
//! `linked_from`.
use super::pieces::{self, Pieces};
use crate::process::{TaskState, with_tasks};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::ops::Range;
use occlum_rt::bkl::BklCell;
use occlum_rt::code as rtcode;
use occlum_rt::mem::TryGrow;
use occlum_rt::slot::Slot;
use occlum_rt::vcpu::stop_others;
use occlum_sfi_translator as tr;

/// Most bytes a fragment can take (checked before it is placed).
pub(super) const FRAGMENT_BYTES_MAX: usize = 128 << 10;
/// Where less is left, a fragment is not tried.
pub(super) const FRAGMENT_BYTES_MIN: usize = 64;
/// With more bytes than this, all private code of a process is dropped to begin anew.
const OWN_SOFT: usize = 64 << 20;
/// More a process does not get: between the two lies what is dropped but not yet reclaimed.
const OWN_HARD: usize = 80 << 20;
/// More private code does not get at all: shared code finds room.
const PRIVATE_HARD: usize = 512 << 20;
/// With more than this, shared code of regions that are not mapped goes.
const SHARED_SOFT: usize = 384 << 20;
/// More shared code does not get: private code finds room.
const SHARED_HARD: usize = 508 << 20;
/// As much of either kind a process may have in any case; more only while as much is left for others.
const FAIR: usize = 8 << 20;
/// Dropped fragments are reclaimed when they take more than this.
const LIMBO_BYTES: usize = 128 << 10;
/// Bits of an exit's number that say its place in the fragment.
const EXIT_BITS: u32 = 10;

/// A direct branch out of a fragment.
pub(super) struct Exit {
    /// Original offset it wants to go to.
    pub target: u32,
    patch_at: u32,
    /// Once linked: its stub, where it led before.
    stub: Option<u32>,
}

/// What a fragment was made of.
#[derive(Clone)]
pub(super) struct Origin {
    /// The region's number, and the offset where its mapping starts.
    pub region: u64,
    pub start: u64,
    /// The slot, if the code is private.
    pub slot: Option<u32>,
    /// Original offsets that it was made of.
    pub source: Range<u32>,
}

impl Origin {
    /// Whose piece it lies in.
    pub(super) fn owner(&self) -> Owner {
        self.slot.map_or(Owner::Region(self.region), Owner::Slot)
    }
}

/// A published fragment.
pub(super) struct Placed {
    len: u32,
    id: u32,
    pub origin: Origin,
    rows: Vec<tr::Row>,
    exits: Vec<Exit>,
    /// Of private ones: entries by original offset, and exits that were linked to here.
    entries: Vec<(u32, u32)>,
    linked_from: Vec<u32>,
    pub dropped: bool,
}

/// The piece where the next fragment goes, and where in it.
#[derive(Clone, Copy, Default)]
struct Bump {
    base: u32,
    next: u32,
    end: u32,
}

/// Who has a piece: a slot, or a shared region.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Slot(u32),
    Region(u64),
}

impl Owner {
    fn is_shared(self) -> bool {
        matches!(self, Owner::Region(_))
    }
}

/// An owner's code: where it goes on, its pieces and their size.
#[derive(Default)]
struct Owned {
    bump: Bump,
    pieces: BTreeSet<u32>,
    bytes: usize,
}

/// Shared code that a process has brought in counts for it, as long as it runs, whoever else uses it.
static ACCOUNTS: BklCell<(u64, BTreeMap<u64, usize>)> = BklCell::new((0, BTreeMap::new()));

/// An account for a process.
pub fn new_account() -> u64 {
    ACCOUNTS.with_mut(|(last, all)| {
        *last += 1;
        all.insert(*last, 0);
        *last
    })
}
/// The process ends. What it has brought in, and others still use, counts for nobody.
pub fn end_account(account: u64) {
    ACCOUNTS.with_mut(|(_, all)| all.remove(&account));
}
fn balance(account: u64) -> usize {
    ACCOUNTS.with(|(_, all)| all.get(&account).copied().unwrap_or(0))
}
fn book(account: u64, change: impl Fn(usize) -> usize) {
    ACCOUNTS.with_mut(|(_, all)| all.get_mut(&account).into_iter().for_each(|n| *n = change(*n)));
}

/// A piece: its owner, its size, and the fragments that are not reclaimed.
struct Piece {
    owner: Owner,
    order: usize,
    fragments: u32,
    /// Of a shared one: whose process wanted it.
    account: u64,
}

/// A dropped fragment, the epoch that began with it, and the slot of the tasks that may be there; `None`: of any slot.
struct Dropped {
    epoch: u64,
    base: u32,
    slot: Option<u32>,
}

struct Cache {
    fragments: BTreeMap<u32, Placed>,
    /// Address by number; 0: free.
    numbers: Vec<u32>,
    free_numbers: Vec<u32>,
    owned: BTreeMap<Owner, Owned>,
    pieces: BTreeMap<u32, Piece>,
    free_pieces: Pieces,
    private_bytes: usize,
    shared_bytes: usize,
    limbo: VecDeque<Dropped>,
    limbo_bytes: usize,
    epoch: u64,
}

static CACHE: BklCell<Cache> = BklCell::new(Cache {
    fragments: BTreeMap::new(),
    numbers: Vec::new(),
    free_numbers: Vec::new(),
    owned: BTreeMap::new(),
    pieces: BTreeMap::new(),
    free_pieces: Pieces::new(),
    private_bytes: 0,
    shared_bytes: 0,
    limbo: VecDeque::new(),
    limbo_bytes: 0,
    epoch: 1,
});

/// Begins anew with each drop. A task that last entered its program in an older one may be where nobody must go on.
pub fn epoch() -> u64 {
    CACHE.with(|c| c.epoch)
}

/// Tasks inside have to look, before they go on, whether they are where they may be.
pub(super) fn new_epoch() {
    CACHE.with_mut(|c| c.epoch += 1);
}

/// Room for a fragment that is not yet made: its address, how long it may be, the number of its first exit.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub base: u32,
    pub len: usize,
    id: u32,
}

impl Room {
    pub(super) fn first_exit(&self) -> u32 {
        self.id << EXIT_BITS
    }
}

/// Most exits of a fragment.
pub(super) const EXITS_MAX: usize = 1 << EXIT_BITS;

/// Room for a fragment of the owner's code, at least `need` bytes. `None`: the cache is full, or the account.
pub(super) fn room(owner: Owner, account: u64, need: usize) -> Option<Room> {
    let bump = bump(owner, account, need)?;
    let id = CACHE.with_mut(|c| match c.free_numbers.last() {
        Some(id) => Some(*id),
        None if c.numbers.len() >> (32 - EXIT_BITS) == 0 && c.numbers.try_room(1).is_ok() => {
            c.numbers.push(0);
            c.free_numbers.push(c.numbers.len() as u32 - 1);
            c.free_numbers.last().copied()
        }
        None => None,
    })?;
    Some(Room { base: bump.next, len: (bump.end - bump.next) as usize, id })
}

fn bump(owner: Owner, account: u64, need: usize) -> Option<Bump> {
    if CACHE.with(|c| c.limbo_bytes > LIMBO_BYTES) {
        reclaim();
    }
    let now = CACHE.with_mut(|c| c.owned.entry(owner).or_default().bump);
    if (now.end - now.next) as usize >= need {
        return Some(now);
    }
    let (base, order) = piece(owner, account, need)?;
    let bump = Bump { base, next: base, end: base + pieces::size(order) as u32 };
    CACHE.with_mut(|c| {
        c.pieces.insert(base, Piece { owner, order, fragments: 0, account });
        c.count(owner, account, |bytes| bytes + pieces::size(order));
        let own = c.owned.entry(owner).or_default();
        own.bump = bump;
        own.pieces.insert(base);
        // All that was in the piece before may be reclaimed already.
        c.release_if_empty(now.base);
    });
    Some(bump)
}

fn bytes(owner: Owner) -> usize {
    CACHE.with(|c| c.owned.get(&owner).map_or(0, |p| p.bytes))
}

/// What a slot has of private code.
pub(super) fn private_bytes(slot: u32) -> usize {
    bytes(Owner::Slot(slot))
}

/// Has the owner, or the account, as much as it may have, or all of its kind?
fn is_full(owner: Owner, account: u64) -> bool {
    let (private, shared) = CACHE.with(|c| (c.private_bytes, c.shared_bytes));
    match owner {
        Owner::Slot(_) => bytes(owner) >= OWN_HARD || private >= PRIVATE_HARD,
        Owner::Region(_) => shared >= SHARED_HARD || is_unfair(balance(account), SHARED_HARD - shared),
    }
}

/// More than the fair share, and than is left for others?
fn is_unfair(own: usize, left: usize) -> bool {
    own > FAIR && own > left
}

/// Is the last look for code that nobody maps long enough ago? It costs more the more of it is mapped.
pub(super) fn may_look() -> bool {
    const EVERY_NS: u64 = 20_000_000;
    static LAST: BklCell<u64> = BklCell::new(0);
    let now = crate::time::monotonic_ns();
    let may = now.saturating_sub(LAST.get()) >= EVERY_NS;
    if may {
        LAST.set(now);
    }
    may
}

/// A new piece, and its order. Regions begin with small ones: a process can map very many.
fn piece(owner: Owner, account: u64, need: usize) -> Option<(u32, usize)> {
    if owner.is_shared() && CACHE.with(|c| c.shared_bytes >= SHARED_SOFT) && may_look() {
        super::drop_unmapped();
    }
    if is_full(owner, account) {
        if !owner.is_shared() {
            reclaim();
        }
        if is_full(owner, account) {
            return None;
        }
    }
    let order = match owner {
        Owner::Slot(_) => pieces::ORDERS - 1,
        Owner::Region(_) => pieces::order_for(bytes(owner).max(need)),
    };
    CACHE.with_mut(|c| c.free_pieces.take(order)).map(|base| (base, order))
}

/// Has the slot so much private code that it is better dropped?
pub(super) fn is_over_quota(slot: u32) -> bool {
    let own = bytes(Owner::Slot(slot));
    let left = CACHE.with(|c| PRIVATE_HARD.saturating_sub(c.private_bytes));
    own >= OWN_SOFT || is_unfair(own, left)
}

/// Notes a fragment that was published in `room`.
pub(super) fn place(room: Room, frag: tr::Fragment, origin: Origin) {
    let len = frag.code.len() as u32;
    let exits =
        frag.exits.iter().map(|x| Exit { target: x.target, patch_at: x.patch_at, stub: None }).collect();
    let private = origin.slot.is_some();
    let entries = if private { frag.entries.iter().map(|e| (e.off, e.at)).collect() } else { Vec::new() };
    CACHE.with_mut(|c| {
        let next = (room.base + len + 15) & !15;
        let Some(p) = c.owned.get_mut(&origin.owner()) else { return };
        p.bump.next = next;
        let piece = p.bump.base;
        if let Some(p) = c.pieces.get_mut(&piece) {
            p.fragments += 1;
        }
        c.numbers[room.id as usize] = room.base;
        debug_assert_eq!(c.free_numbers.last(), Some(&room.id));
        c.free_numbers.pop();
        let placed = Placed {
            len,
            id: room.id,
            origin,
            rows: frag.rows,
            exits,
            entries,
            linked_from: Vec::new(),
            dropped: false,
        };
        c.fragments.insert(room.base, placed);
    });
}

impl Cache {
    fn fragment_of(&self, exit: u32) -> Option<u32> {
        self.numbers.get((exit >> EXIT_BITS) as usize).copied().filter(|base| *base != 0)
    }

    fn exit(&mut self, exit: u32) -> Option<&mut Exit> {
        let base = self.fragment_of(exit)?;
        self.fragments.get_mut(&base)?.exits.get_mut(exit as usize & (EXITS_MAX - 1))
    }

    /// The fragment that has this translated address.
    fn at(&self, pc: u32) -> Option<(u32, &Placed)> {
        let (base, p) = self.fragments.range(..=pc).next_back()?;
        (pc - base < p.len).then_some((*base, p))
    }

    /// Changes how much the owner has, the account, and all of its kind.
    fn count(&mut self, owner: Owner, account: u64, change: impl Fn(usize) -> usize) {
        if owner.is_shared() {
            book(account, &change);
        }
        let all = if owner.is_shared() { &mut self.shared_bytes } else { &mut self.private_bytes };
        *all = change(*all);
        // A region that is gone has nothing.
        if let Some(p) = self.owned.get_mut(&owner) {
            p.bytes = change(p.bytes);
        }
    }

    fn release_if_empty(&mut self, base: u32) {
        let Some(piece) = self.pieces.get(&base).filter(|p| p.fragments == 0) else { return };
        let (owner, order, account) = (piece.owner, piece.order, piece.account);
        if let Some(p) = self.owned.get_mut(&owner).filter(|p| p.bump.base == base) {
            p.bump.next = base;
            return;
        }
        self.count(owner, account, |bytes| bytes - pieces::size(order));
        self.owned.get_mut(&owner).map(|p| p.pieces.remove(&base));
        self.pieces.remove(&base);
        self.free_pieces.give(base, order);
    }
}

/// Region and target of an exit of a live fragment.
pub(super) fn exit_of(exit: u32) -> Option<(u64, u32)> {
    CACHE.with_mut(|c| {
        let target = c.exit(exit)?.target;
        let base = c.fragment_of(exit)?;
        Some((c.fragments.get(&base)?.origin.region, target))
    })
}

/// Exits of a fragment with their targets.
pub(super) fn exits_of(base: u32) -> Vec<(u32, u32)> {
    CACHE.with(|c| {
        let Some(p) = c.fragments.get(&base) else { return Vec::new() };
        p.exits.iter().enumerate().map(|(n, x)| (p.id << EXIT_BITS | n as u32, x.target)).collect()
    })
}

/// Links an exit to an entry of the same region, unless its fragment is dropped.
pub(super) fn link(exit: u32, at: u32) {
    CACHE.with_mut(|c| {
        let Some(base) = c.fragment_of(exit) else { return };
        if c.fragments.get(&base).is_none_or(|p| p.dropped) {
            return;
        }
        let Some(x) = c.exit(exit) else { return };
        let was = rtcode::link_target(x.patch_at);
        if !rtcode::patch_rel32(x.patch_at, at) {
            return;
        }
        x.stub.get_or_insert(was);
        let Some((to, p)) = c.at(at) else { return };
        if p.origin.slot.is_some()
            && let Some(p) = c.fragments.get_mut(&to)
            && !p.linked_from.contains(&exit)
        {
            p.linked_from.push(exit);
        }
    });
}

/// The link of `exit` to [base, base + len) goes back to its stub. False: it can't.
fn unlink(c: &mut Cache, exit: u32, to: Range<u32>) -> bool {
    let Some(x) = c.exit(exit) else { return true };
    let Some(stub) = x.stub.filter(|_| to.contains(&rtcode::link_target(x.patch_at))) else { return true };
    rtcode::patch_rel32(x.patch_at, stub)
}

/// What is left to forget of a dropped fragment: its address, the original offsets that it was made of, its entries.
pub(super) type Remains = (u32, Range<u32>, Vec<(u32, u32)>);

/// Drops private fragments of a slot: no link leads to them any more, and the other vCPUs are out of them. The caller
/// clears the table entries.
pub(super) fn drop_fragments(slot: Slot, bases: Vec<u32>) -> Vec<Remains> {
    let mut todo = bases;
    let mut gone = Vec::new();
    if todo.is_empty() {
        return gone;
    }
    CACHE.with_mut(|c| {
        c.epoch += 1;
        while let Some(base) = todo.pop() {
            let Some(p) = c.fragments.get_mut(&base).filter(|p| !p.dropped) else { continue };
            let range = base..base + p.len;
            gone.push((base, p.origin.source.clone(), core::mem::take(&mut p.entries)));
            c.put_away(base);
            let Some(p) = c.fragments.get_mut(&base) else { continue };
            for exit in core::mem::take(&mut p.linked_from) {
                if !unlink(c, exit, range.clone()) {
                    todo.extend(c.fragment_of(exit));
                }
            }
        }
    });
    stop_others(slot);
    gone
}

/// The tasks that run in their programs enter them anew, and so come to know of what was dropped.
pub(super) fn bring_in_all() {
    let mut slots = BTreeSet::new();
    with_tasks(|t| _ = (t.state.get() == TaskState::Running).then(|| slots.insert(t.rt.slot().index())));
    slots.into_iter().for_each(|index| stop_others(Slot::new(index)));
}

/// Drops a private fragment that one task alone knew, and has left.
pub(super) fn drop_lone(base: u32) {
    CACHE.with_mut(|c| c.put_away(base));
}

/// Drops all code of shared regions that no mapping has: their table entries are those that slots without a program still
/// hold, which are cleared before one runs there (`mm::tables`), and links stay inside a region.
pub(super) fn drop_shared(regions: &[u64]) {
    CACHE.with_mut(|c| {
        c.epoch += 1;
        for owner in regions.iter().map(|id| Owner::Region(*id)) {
            let Some(own) = c.owned.remove(&owner) else { continue };
            for piece in own.pieces {
                let order = c.pieces.get(&piece).map_or(0, |p| p.order);
                let range = piece..piece + pieces::size(order) as u32;
                let inside: Vec<u32> = c.fragments.range(range).map(|(base, _)| *base).collect();
                inside.into_iter().for_each(|base| c.put_away(base));
                c.release_if_empty(piece);
            }
        }
    });
}

/// Reuses the memory of dropped fragments where no task can be any more: each has entered its program since, or is in
/// the LibOS and is brought out now.
pub(super) fn reclaim() {
    let (mut inside, mut waiting) = (BTreeMap::new(), Vec::new());
    with_tasks(|t| match t.state.get() {
        TaskState::Dead => {}
        TaskState::Running => {
            let oldest = inside.entry(t.rt.slot().index()).or_insert(u64::MAX);
            *oldest = t.code_epoch.get().min(*oldest);
        }
        _ => waiting.push(t.clone()),
    });
    waiting.iter().for_each(super::stale::settle);
    let mut kept = VecDeque::new();
    crate::stats::add("reclaims", 1);
    let oldest = inside.values().min().copied();
    while let Some(d) = CACHE.with_mut(|c| c.limbo.pop_front()) {
        let seen = d.slot.map_or(oldest, |slot| inside.get(&slot).copied());
        if seen.is_some_and(|seen| seen < d.epoch) {
            kept.push_back(d);
        } else {
            CACHE.with_mut(|c| c.free(d.base));
        }
    }
    CACHE.with_mut(|c| c.limbo = kept);
}

impl Cache {
    fn put_away(&mut self, base: u32) {
        let Some(p) = self.fragments.get_mut(&base).filter(|p| !p.dropped) else { return };
        p.dropped = true;
        self.limbo_bytes += p.len as usize;
        let slot = p.origin.slot;
        self.limbo.push_back(Dropped { epoch: self.epoch, base, slot });
    }

    fn free(&mut self, base: u32) {
        let Some(p) = self.fragments.remove(&base) else { return };
        // What it was linked to must not look for its exits for ever.
        for (n, x) in p.exits.iter().enumerate().filter(|(_, x)| x.stub.is_some()) {
            let (exit, to) = (p.id << EXIT_BITS | n as u32, rtcode::link_target(x.patch_at));
            if let Some((to, _)) = self.at(to)
                && let Some(to) = self.fragments.get_mut(&to)
            {
                to.linked_from.retain(|e| *e != exit);
            }
        }
        rtcode::retire(base, p.len as usize);
        self.limbo_bytes -= p.len as usize;
        crate::stats::add("reclaimed_bytes", u64::from(p.len));
        self.numbers[p.id as usize] = 0;
        self.free_numbers.push(p.id);
        let piece = self.pieces.range_mut(..=base).next_back();
        if let Some((piece, info)) = piece {
            info.fragments -= 1;
            let piece = *piece;
            self.release_if_empty(piece);
        }
    }
}

/// What is known of the fragment at a translated address: its start, origin, and whether it is dropped.
pub(super) fn look_up(pc: u32) -> Option<(u32, Origin, bool)> {
    CACHE.with(|c| c.at(pc).map(|(base, p)| (base, p.origin.clone(), p.dropped)))
}

/// Is a translated address of a live fragment inside the translation of one original instruction?
pub(super) fn is_in_pattern(pc: u32) -> bool {
    CACHE.with(|c| {
        let row = |(base, p): (u32, &Placed)| p.rows.binary_search_by_key(&(pc - base), |r| r.start);
        c.at(pc).is_some_and(|found| row(found).is_err())
    })
}

/// How to get from a translated address to the original state.
pub(super) fn undo(pc: u32) -> Option<tr::Undo> {
    CACHE.with(|c| {
        let (base, p) = c.at(pc)?;
        let mut code = alloc::vec![0u8; p.len as usize];
        rtcode::read(base, &mut code);
        tr::undo(&p.rows, &code, base, pc)
    })
}

/// Most bytes of the cache that were ever in use.
pub fn report() {
    crate::stats::add("code_cache_bytes", rtcode::used());
}
