//! What a task's policy, nice value and affinity mean to the run queue.
//!
//! Neighbours: `queue` orders tasks by it, `syscall::sched` sets it, `syscall::futex` lends priorities (inheritance).
//! Priorities are numbered as in Linux: 0 to 98 are real-time (99 minus `sched_priority`), 100 to 139 are nice values
//! (120 plus nice); the smaller goes first.
use occlum_rt::bkl::BklCell;

/// The default policy.
pub const SCHED_OTHER: u32 = 0;
/// First in, first out: runs until it blocks or yields.
pub const SCHED_FIFO: u32 = 1;
/// Round robin among equals.
pub const SCHED_RR: u32 = 2;
/// As `SCHED_OTHER`, without the bonus for sleepers.
pub const SCHED_BATCH: u32 = 3;
/// What the others leave.
pub const SCHED_IDLE: u32 = 5;

/// Not lent any priority.
const NO_LOAN: u8 = u8::MAX;
/// Weight of nice 0.
pub const WEIGHT_0: u64 = 1024;
/// Weight of `SCHED_IDLE`.
const WEIGHT_IDLE: u64 = 3;

/// Weights by nice value from -20 on: each step is a quarter more or a fifth less.
static WEIGHTS: [u64; 40] = {
    let mut w = [WEIGHT_0; 40];
    let mut i = 20;
    while i > 0 {
        w[i - 1] = w[i] * 5 / 4;
        i -= 1;
    }
    i = 20;
    while i < 39 {
        w[i + 1] = w[i] * 4 / 5;
        i += 1;
    }
    w
};

/// Policy and priority.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SchedAttr {
    /// `SCHED_*`.
    pub policy: u32,
    /// -20 to 19.
    pub nice: i32,
    /// 1 to 99 with `SCHED_FIFO` and `SCHED_RR`, else 0.
    pub rt: u32,
    /// Children get the default policy.
    pub reset_on_fork: bool,
}

impl SchedAttr {
    /// Is it a real-time policy?
    pub fn is_rt(self) -> bool {
        matches!(self.policy, SCHED_FIFO | SCHED_RR)
    }
    fn priority(self) -> u8 {
        if self.is_rt() { 99 - self.rt.clamp(1, 99) as u8 } else { (120 + self.nice.clamp(-20, 19)) as u8 }
    }
    /// What a child starts with.
    pub fn for_child(self) -> Self {
        match self {
            Self { reset_on_fork: false, .. } => self,
            Self { nice, .. } if self.is_rt() || nice < 0 => Self::default(),
            Self { nice, .. } => Self { nice, ..Self::default() },
        }
    }
}

/// The scheduler's part of a task.
pub struct Entity {
    /// As set.
    pub attr: BklCell<SchedAttr>,
    /// vCPUs that it may run on.
    pub affinity: BklCell<u64>,
    /// As `ioprio_set` left it.
    pub ioprio: BklCell<u16>,
    /// Priority of the first waiter for a lock that it holds.
    loan: BklCell<u8>,
    /// Weighted ns that it ran.
    pub(super) vruntime: BklCell<u64>,
    /// Its valid entry of the run queue.
    pub(super) ticket: BklCell<u64>,
    /// Ticks of its round.
    pub(super) round: BklCell<u32>,
}

impl Default for Entity {
    /// One of the default policy, on any vCPU.
    fn default() -> Self {
        Self {
            attr: BklCell::default(),
            affinity: BklCell::new(u64::MAX),
            ioprio: BklCell::new(0),
            loan: BklCell::new(NO_LOAN),
            vruntime: BklCell::new(0),
            ticket: BklCell::new(0),
            round: BklCell::new(0),
        }
    }
}

impl Entity {
    /// A child's: what it inherits of `parent`.
    pub fn inherit(&self, parent: &Self) {
        self.attr.set(parent.attr.get().for_child());
        self.affinity.set(parent.affinity.get());
        self.ioprio.set(parent.ioprio.get());
        self.vruntime.set(parent.vruntime.get());
    }
    /// The priority in force, loans included.
    pub fn priority(&self) -> u8 {
        self.attr.get().priority().min(self.loan.get())
    }
    /// Lends the priority of the first waiter; `None` ends the loan. True if that changes the priority in force.
    pub(super) fn lend(&self, priority: Option<u8>) -> bool {
        let old = self.priority();
        self.loan.set(priority.unwrap_or(NO_LOAN));
        old != self.priority()
    }
    /// Does a real-time priority hold?
    pub fn is_rt(&self) -> bool {
        self.priority() < 100
    }
    /// Does it share its turn with equals (`SCHED_RR`)?
    pub(super) fn takes_turns(&self) -> bool {
        self.attr.get().policy == SCHED_RR
    }
    /// Does it only get what others leave?
    pub(super) fn is_idle(&self) -> bool {
        self.attr.get().policy == SCHED_IDLE && self.loan.get() == NO_LOAN
    }
    /// Is it interactive: does waking give it a bonus?
    pub(super) fn has_bonus(&self) -> bool {
        self.attr.get().policy == SCHED_OTHER
    }
    /// Its share.
    pub(super) fn weight(&self) -> u64 {
        match self.priority() {
            _ if self.is_idle() => WEIGHT_IDLE,
            p @ 100..=139 => WEIGHTS[usize::from(p - 100)],
            _ => WEIGHT_0,
        }
    }
    /// May it run on `vcpu`?
    pub fn allows(&self, vcpu: u32) -> bool {
        self.affinity.get() >> vcpu & 1 != 0
    }
    /// Counts `ns` on a vCPU.
    pub(super) fn ran(&self, ns: u64) {
        let weighted = ns.saturating_mul(WEIGHT_0) / self.weight();
        self.vruntime.with_mut(|v| *v = v.saturating_add(weighted));
    }
}
