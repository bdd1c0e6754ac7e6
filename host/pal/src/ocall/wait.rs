//! Waiting: idle vCPUs, wake-ups, polled descriptors, host signals, clocks and the preemption tick.
//!
//! No wake-up is lost (S6): each vCPU has a descriptor that stays readable from `wake` until a `wait` of that vCPU, so a
//! wake that comes between "I found nothing to do" and the sleep ends the sleep at once. It is the event count: its
//! sequence number would say no more than the descriptor does. `wait` empties it only when it is about to return, and
//! whoever returns looks for work again.
use super::errno;
use super::work::Work;
use occlum_enclave_abi::{HostEvents, MAX_EVENTS, POLL_EDGES as EDGES};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Marks the data of a socket's events, or of work's; below it stands the enclave's token. Other data is a descriptor.
const SOCKET: u64 = 1 << 63;

/// Data of the event that work has ended.
const WORK: u64 = SOCKET | (1 << 32);

/// How long the sockets go unwatched at most while the vCPU that watches them is busy.
const RELIEF_NS: i64 = 500_000;
const NO_EVENT: libc::epoll_event = libc::epoll_event { events: 0, u64: 0 };

/// Event descriptors of an enclave.
pub struct Waiter {
    wake: Vec<i32>,
    signal_event: i32,
    epoll: i32,
    /// Polled descriptors, and the events that `epoll` is to tell of.
    polled: Mutex<BTreeMap<i32, u32>>,
    signals: AtomicU64,
    /// Bit n: vCPU n will look for signals and orders before it goes back to work.
    sleeping: AtomicU64,
    /// Was a socket ever registered?
    sockets: AtomicBool,
    /// Does a sleeping vCPU watch the sockets?
    watched: AtomicBool,
    /// Timer that lets another one watch them, and whether it runs.
    relief: i32,
    relief_called: AtomicBool,
    work: Work,
    /// When a vCPU last looked at the sockets, CLOCK_MONOTONIC ns.
    looked: AtomicU64,
}

/// An event descriptor that somebody else owns.
pub(crate) fn event_fd() -> std::io::Result<OwnedFd> {
    // SAFETY: 1. the descriptor is new and nobody else's.
    eventfd().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}
fn eventfd() -> std::io::Result<i32> {
    // SAFETY: 1. eventfd has no memory arguments.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 { Err(std::io::Error::last_os_error()) } else { Ok(fd) }
}
pub(crate) fn ring(fd: i32) {
    let one = 1u64;
    // SAFETY: 1. `one` is 8 readable bytes; 2. write is async-signal-safe.
    unsafe { libc::write(fd, (&raw const one).cast(), 8) };
}
pub(crate) fn drain(fd: i32) {
    let mut v = 0u64;
    // SAFETY: 1. `v` is 8 writable bytes.
    unsafe { libc::read(fd, (&raw mut v).cast(), 8) };
}

impl Waiter {
    pub(super) fn new(vcpus: u32) -> std::io::Result<Waiter> {
        let wake: std::io::Result<Vec<i32>> = (0..vcpus).map(|_| eventfd()).collect();
        // SAFETY: 1. epoll_create1 has no memory arguments.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: 1. timerfd_create has no memory arguments.
        let relief =
            unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if relief < 0 {
            return Err(std::io::Error::last_os_error());
        }
        let work = Work::new()?;
        let mut ev = libc::epoll_event { events: libc::EPOLLIN as u32, u64: WORK };
        // SAFETY: 1. `ev` is one event.
        if unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, work.event(), &mut ev) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(Waiter {
            wake: wake?,
            signal_event: eventfd()?,
            epoll,
            polled: Mutex::default(),
            signals: AtomicU64::new(0),
            sleeping: AtomicU64::new(0),
            sockets: AtomicBool::new(false),
            watched: AtomicBool::new(false),
            relief,
            relief_called: AtomicBool::new(false),
            work,
            looked: AtomicU64::new(0),
        })
    }

    pub(super) fn wake(&self, vcpu: u32) {
        if let Some(fd) = self.wake.get(vcpu as usize) {
            ring(*fd);
        }
    }
    pub(super) fn wake_everyone(&self) {
        (0..self.wake.len() as u32).for_each(|v| self.wake(v));
    }
    pub(super) fn signal(&self, n: i32) {
        if (1..=64).contains(&n) {
            self.signals.fetch_or(1 << (n - 1), Ordering::SeqCst);
            ring(self.signal_event);
        }
    }

    /// Makes one sleeping vCPU look for orders; false if none sleeps: then it takes a kick.
    pub(super) fn notify(&self) -> bool {
        match self.sleeping.load(Ordering::SeqCst) {
            0 => false,
            sleeping => {
                self.wake(sleeping.trailing_zeros());
                true
            }
        }
    }

    pub(super) fn wait(
        &self,
        vcpu: u32,
        at_most: u64,
        out: &mut [u8],
        ended: impl Fn() -> bool,
        has_orders: impl Fn() -> bool,
    ) -> i64 {
        // A wait without room for events is a nap of `at_most` ns and takes none.
        if out.len() < HostEvents::FULL {
            match at_most {
                0 => std::thread::yield_now(),
                ns => std::thread::sleep(std::time::Duration::from_nanos(ns.min(1_000_000))),
            }
            return 0;
        }
        let Some(own) = self.wake.get(vcpu as usize).copied() else {
            return -i64::from(libc::EINVAL);
        };
        // Under load there is news already, and one call takes it.
        let deadline =
            if at_most == u64::MAX { at_most } else { now(libc::CLOCK_MONOTONIC).saturating_add(at_most) };
        let look = at_most == 0 || self.sockets.load(Ordering::Relaxed);
        let none = (0, [NO_EVENT; MAX_EVENTS]);
        let mut found = if look { self.take_ready() } else { none };
        let skip = found.0 > 0 || at_most == 0 && self.quiet();
        // Marked before the look at `ended` and for orders, and not marked any more before the look at the orders below.
        let mark = 1 << (vcpu & 63);
        self.sleeping.fetch_or(mark, Ordering::SeqCst);
        if !skip && !ended() && !has_orders() && self.sleep(own, deadline) {
            found = self.take_ready();
        }
        self.sleeping.fetch_and(!mark, Ordering::SeqCst);
        let (n, events) = found;
        let signals = self.signals.swap(0, Ordering::SeqCst);
        report(out, signals, has_orders(), &events[..n]);
        0
    }
    /// Sleeps until a wake of `own`, a signal, news of descriptors or the deadline. Is there news of descriptors?
    ///
    /// Once there are sockets, only one vCPU sleeps on them: waking all of them for each event would have them contend for
    /// it. When that one is away and does not look in passing, a timer lets the others look after a moment.
    fn sleep(&self, own: i32, deadline: u64) -> bool {
        loop {
            let shared = self.sockets.load(Ordering::Relaxed);
            let wanted = !shared || !self.is_looked_after();
            let watches = wanted && !(shared && self.watched.swap(true, Ordering::SeqCst));
            if !wanted {
                self.call_relief();
            }
            let third = if watches { self.epoll } else { self.relief };
            let mut fds = [own, self.signal_event, third].map(|fd| libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            });
            let timeout = remaining(deadline);
            let none = std::ptr::null();
            let timeout_ptr = timeout.as_ref().map_or(none, |t| t as *const libc::timespec);
            // SAFETY: 1. `fds` holds 3 pollfds; 2. the timeout is null or points to `timeout`; 3. no signal mask.
            let n = unsafe { libc::ppoll(fds.as_mut_ptr(), 3, timeout_ptr, std::ptr::null()) };
            if shared && watches {
                self.watched.store(false, Ordering::SeqCst);
                self.call_relief();
            }
            let [mine, signal, rest] = fds.map(|f| n > 0 && f.revents != 0);
            if mine {
                drain(own);
            }
            if signal {
                drain(self.signal_event);
            }
            if watches || mine || signal || !rest {
                return rest && watches;
            }
            self.relief_called.store(false, Ordering::SeqCst);
            drain(self.relief);
        }
    }
    /// Does a vCPU that is awake look at the sockets every now and then?
    fn is_looked_after(&self) -> bool {
        let asleep = self.sleeping.load(Ordering::SeqCst).count_ones() as usize;
        let since = now(libc::CLOCK_MONOTONIC).saturating_sub(self.looked.load(Ordering::Relaxed));
        asleep < self.wake.len() && since < RELIEF_NS as u64
    }
    /// Lets another vCPU look at the sockets if this one does not come back soon.
    fn call_relief(&self) {
        if !self.relief_called.swap(true, Ordering::SeqCst) {
            let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            let soon = libc::timespec { tv_sec: 0, tv_nsec: RELIEF_NS };
            let spec = libc::itimerspec { it_interval: none, it_value: soon };
            // SAFETY: 1. `spec` is one itimerspec.
            unsafe { libc::timerfd_settime(self.relief, 0, &spec, std::ptr::null_mut()) };
        }
    }
    /// Is there surely no signal?
    fn quiet(&self) -> bool {
        self.signals.load(Ordering::SeqCst) == 0
    }

    /// What became ready, and how much.
    fn take_ready(&self) -> (usize, [libc::epoll_event; MAX_EVENTS]) {
        let mut ev = [NO_EVENT; MAX_EVENTS];
        if self.sockets.load(Ordering::Relaxed) {
            self.looked.store(now(libc::CLOCK_MONOTONIC), Ordering::Relaxed);
        }
        // SAFETY: 1. `ev` holds MAX_EVENTS events.
        let n = unsafe { libc::epoll_wait(self.epoll, ev.as_mut_ptr(), MAX_EVENTS as i32, 0) };
        let mut n = usize::try_from(n).unwrap_or(0);
        self.told(&ev[..n]);
        if let Some(at) = ev[..n].iter().position(|e| e.u64 == WORK) {
            n -= 1;
            ev.swap(at, n);
            for (token, events) in self.work.take_ends(MAX_EVENTS - n) {
                ev[n] = libc::epoll_event { events, u64: SOCKET | u64::from(token) };
                n += 1;
            }
        }
        (n, ev)
    }
    /// Registers a socket for good, edge-triggered: its events come with this token.
    pub(super) fn register(&self, fd: i32, token: u64) -> i64 {
        self.sockets.store(true, Ordering::Relaxed);
        let events = libc::EPOLLIN | libc::EPOLLPRI | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        let mut ev = libc::epoll_event { events: events as u32, u64: SOCKET | token & 0xffff_ffff };
        // SAFETY: 1. `ev` is one event.
        super::check(i64::from(unsafe { libc::epoll_ctl(self.epoll, libc::EPOLL_CTL_ADD, fd, &mut ev) }))
    }
    /// `Ocall::Begin`.
    pub(super) fn begin(&self, a: &[u64; 6]) -> i64 {
        self.work.begin(a)
    }
    /// Ends that.
    pub(super) fn forget(&self, fd: i32) {
        if let Ok(mut polled) = self.polled.lock() {
            polled.remove(&fd);
        }
        // SAFETY: 1. DEL ignores the event.
        unsafe { libc::epoll_ctl(self.epoll, libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }

    /// The events ready now; if none is, `wait` tells once when one is. With `EDGES`, `wait` tells from now on whenever there
    /// is something new.
    pub(super) fn poll(&self, fd: i32, events: u32) -> i64 {
        if events & EDGES != 0 {
            return self.tell_of(fd, events);
        }
        let mut p = libc::pollfd { fd, events: events as i16, revents: 0 };
        // SAFETY: 1. `p` is one pollfd.
        match unsafe { libc::poll(&mut p, 1, 0) } {
            0 => self.tell_of(fd, events),
            n if n < 0 => errno(),
            _ => i64::from(p.revents as u16),
        }
    }
    /// Interest in these events, besides what is awaited already. Regular files are always ready.
    fn tell_of(&self, fd: i32, events: u32) -> i64 {
        let Ok(mut polled) = self.polled.lock() else { return -i64::from(libc::EIO) };
        let old = polled.get(&fd).copied().unwrap_or(0);
        let all = old | events;
        if old & EDGES != 0 && all == old {
            return 0;
        }
        let how = if all & EDGES != 0 { libc::EPOLLET } else { libc::EPOLLONESHOT };
        let mut ev = libc::epoll_event { events: all & !EDGES | how as u32, u64: fd as u64 };
        // SAFETY: 1. `ev` is one event.
        unsafe {
            if libc::epoll_ctl(self.epoll, libc::EPOLL_CTL_MOD, fd, &mut ev) < 0
                && libc::epoll_ctl(self.epoll, libc::EPOLL_CTL_ADD, fd, &mut ev) < 0
            {
                let e = errno();
                return if e == -i64::from(libc::EPERM) { i64::from(events & !EDGES) } else { e };
            }
        }
        polled.insert(fd, all);
        0
    }
    /// One-shot interest in these descriptors is used up.
    fn told(&self, events: &[libc::epoll_event]) {
        let mut fds = events.iter().filter(|e| e.u64 & SOCKET == 0).map(|e| e.u64 as i32).peekable();
        if fds.peek().is_none() {
            return;
        }
        let Ok(mut polled) = self.polled.lock() else { return };
        for fd in fds {
            if polled.get(&fd).is_some_and(|all| all & EDGES == 0) {
                polled.remove(&fd);
            }
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        for fd in self.wake.iter().chain([&self.signal_event, &self.epoll, &self.relief]) {
            // SAFETY: 1. the descriptor is ours and is not used after this.
            unsafe { libc::close(*fd) };
        }
    }
}

/// Writes `HostEvents` and the events of sockets.
fn report(out: &mut [u8], signals: u64, orders: bool, events: &[libc::epoll_event]) {
    let sockets = events.iter().filter(|e| e.u64 & SOCKET != 0);
    let ready = u64::from(events.iter().any(|e| e.u64 & SOCKET == 0));
    let words = [signals, ready, sockets.clone().count() as u64, u64::from(orders)];
    let packed = sockets.map(|e| (e.u64 & 0xffff_ffff) | u64::from(e.events) << 32);
    for (chunk, w) in out.chunks_exact_mut(8).zip(words.into_iter().chain(packed)) {
        chunk.copy_from_slice(&w.to_le_bytes());
    }
}

fn now(clock: i32) -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: 1. `t` is one timespec.
    unsafe { libc::clock_gettime(clock, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Time left to an absolute CLOCK_MONOTONIC deadline; `None`: wait for ever.
fn remaining(deadline: u64) -> Option<libc::timespec> {
    if deadline == u64::MAX {
        return None;
    }
    let left = deadline.saturating_sub(now(libc::CLOCK_MONOTONIC)).min(3_600_000_000_000);
    Some(libc::timespec { tv_sec: (left / 1_000_000_000) as i64, tv_nsec: (left % 1_000_000_000) as i64 })
}

/// Ticks within which the clocks are read together (about a microsecond), and how often that is tried.
const MOMENT: u64 = 4000;
const ATTEMPTS: u32 = 50;

/// CLOCK_REALTIME, CLOCK_MONOTONIC and the counter, of one moment: a thread that is preempted between them reads again,
/// because the enclave takes its clock's rate from two such readings that are a millisecond apart.
fn moment() -> [u64; 3] {
    // SAFETY: 1. rdtsc reads a counter.
    let tsc = || unsafe { core::arch::x86_64::_rdtsc() };
    let (mut best, mut spread) = ([0; 3], u64::MAX);
    for _ in 0..ATTEMPTS {
        let before = tsc();
        let (real, monotonic) = (now(libc::CLOCK_REALTIME), now(libc::CLOCK_MONOTONIC));
        let took = tsc().saturating_sub(before);
        if took < spread {
            (best, spread) = ([real, monotonic, before + took / 2], took);
        }
        if spread <= MOMENT {
            break;
        }
    }
    best
}

pub(super) fn clock(out: &mut [u8]) -> i64 {
    let words = moment();
    for (chunk, w) in out.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&w.to_le_bytes());
    }
    0
}

/// Signal that kicks a vCPU thread out of the guest.
pub fn kick_signal() -> i32 {
    libc::SIGRTMIN() + 3
}

thread_local! {
    static TIMER: Cell<Option<libc::timer_t>> = const { Cell::new(None) };
}

/// Starts or stops this thread's preemption timer.
pub(super) fn tick(on: bool, period_ns: u64) -> i64 {
    let timer = match TIMER.get() {
        Some(t) => t,
        None => match new_timer() {
            Ok(t) => {
                TIMER.set(Some(t));
                t
            }
            Err(e) => return e,
        },
    };
    set_timer(timer, if on { period_ns.clamp(100_000, 1_000_000_000) } else { 0 })
}

fn set_timer(timer: libc::timer_t, period: u64) -> i64 {
    let t =
        libc::timespec { tv_sec: (period / 1_000_000_000) as i64, tv_nsec: (period % 1_000_000_000) as i64 };
    let spec = libc::itimerspec { it_interval: t, it_value: t };
    // SAFETY: 1. `timer` is this thread's timer; 2. `spec` is one itimerspec.
    super::check(i64::from(unsafe { libc::timer_settime(timer, 0, &spec, std::ptr::null_mut()) }))
}

fn new_timer() -> Result<libc::timer_t, i64> {
    // SAFETY: 1. an all-zero sigevent is valid; 2. gettid and timer_create take what they are given here.
    unsafe {
        let mut ev: libc::sigevent = std::mem::zeroed();
        ev.sigev_notify = libc::SIGEV_THREAD_ID;
        ev.sigev_signo = kick_signal();
        ev.sigev_notify_thread_id = libc::gettid();
        let mut t: libc::timer_t = std::mem::zeroed();
        if libc::timer_create(libc::CLOCK_MONOTONIC, &mut ev, &mut t) < 0 {
            return Err(errno());
        }
        Ok(t)
    }
}

/// Kicks of this thread's vCPU at a frequency, for samples, until it is dropped.
pub struct Sampler(libc::timer_t);

impl Sampler {
    /// Starts them.
    pub fn start(period_ns: u64) -> Option<Sampler> {
        let timer = new_timer().ok()?;
        set_timer(timer, period_ns.clamp(100_000, 10_000_000_000));
        Some(Sampler(timer))
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        // SAFETY: 1. the timer is this one's alone and is not used after this.
        unsafe { libc::timer_delete(self.0) };
    }
}

/// Frees this thread's timer (when the vCPU thread ends).
pub fn drop_timer() {
    if let Some(t) = TIMER.take() {
        // SAFETY: 1. the timer is this thread's and is not used after this.
        unsafe { libc::timer_delete(t) };
    }
}

#[cfg(test)]
mod tests {
    use super::{HostEvents, Waiter, now};
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// What the LibOS keeps under its lock.
    #[derive(Default)]
    struct Shared {
        jobs: u32,
        idle: bool,
    }

    /// One vCPU's idle loop: takes jobs until it has `all`. A sleep without a wake-up while there is work ends the test.
    fn consume(waiter: &Waiter, shared: &Mutex<Shared>, all: u32, pause: impl Fn(u32)) {
        let (mut taken, mut out) = (0, [0u8; HostEvents::FULL]);
        while taken < all {
            {
                let mut s = shared.lock().unwrap();
                taken += std::mem::take(&mut s.jobs);
                s.idle = true;
            }
            pause(taken);
            if taken < all {
                let start = now(libc::CLOCK_MONOTONIC);
                waiter.wait(0, 20_000_000_000, &mut out, || false, || false);
                assert!(now(libc::CLOCK_MONOTONIC) - start < 10_000_000_000, "a wake-up was lost");
            }
            shared.lock().unwrap().idle = false;
        }
    }

    /// The waker's side: a job, and a wake only if the vCPU said that it is idle.
    fn produce(waiter: &Waiter, shared: &Mutex<Shared>, pause: impl Fn()) {
        let wake = {
            let mut s = shared.lock().unwrap();
            s.jobs += 1;
            std::mem::take(&mut s.idle)
        };
        pause();
        if wake {
            waiter.wake(0);
        }
    }

    #[test]
    fn clocks_are_read_at_one_moment() {
        let (stop, busy) = (AtomicBool::new(false), 2 * std::thread::available_parallelism().unwrap().get());
        std::thread::scope(|scope| {
            for _ in 0..busy {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        spin(1000);
                    }
                });
            }
            let end = now(libc::CLOCK_MONOTONIC) + 1_000_000_000;
            let readings: Vec<_> = std::iter::repeat_with(super::moment)
                .take_while(|[_, monotonic, _]| *monotonic < end)
                .collect();
            stop.store(true, Ordering::Relaxed);
            let ([_, ns0, tsc0], [_, ns1, tsc1]) = (readings[0], readings[readings.len() - 1]);
            let rate = (ns1 - ns0) as f64 / (tsc1 - tsc0) as f64;
            for [_, ns, tsc] in &readings {
                let off = (ns - ns0) as f64 - (tsc - tsc0) as f64 * rate;
                assert!(off.abs() < 100_000.0, "a reading is {off} ns off");
            }
        });
    }

    fn spin(n: u32) {
        (0..n).for_each(|_| std::hint::spin_loop());
    }

    #[test]
    fn no_wake_up_is_lost() {
        const JOBS: u32 = 100_000;
        let (waiter, shared) = (Waiter::new(1).unwrap(), Mutex::new(Shared::default()));
        std::thread::scope(|scope| {
            // Pauses of changing length move the wake across every point between the look and the sleep.
            scope.spawn(|| consume(&waiter, &shared, JOBS, |n| spin(n % 97)));
            for n in 0..JOBS {
                produce(&waiter, &shared, || spin(n % 89));
                spin(n % 1009);
            }
        });
    }

    #[test]
    fn a_wait_lasts_as_long_as_it_may() {
        let waiter = Waiter::new(1).unwrap();
        let mut out = [0u8; HostEvents::FULL];
        let start = now(libc::CLOCK_MONOTONIC);
        waiter.wait(0, 3_000_000, &mut out, || false, || false);
        assert!(now(libc::CLOCK_MONOTONIC) - start >= 3_000_000);
    }

    #[test]
    fn a_wake_before_the_wait_ends_it() {
        let waiter = Waiter::new(2).unwrap();
        let mut out = [0u8; HostEvents::FULL];
        waiter.wake(1);
        let start = now(libc::CLOCK_MONOTONIC);
        waiter.wait(1, 20_000_000_000, &mut out, || false, || false);
        assert!(now(libc::CLOCK_MONOTONIC) - start < 10_000_000_000);
    }
}
