//! Texts of /proc/<pid>.
use super::super::prelude::*;
use super::{memory, system};
use crate::mm::Layout;
use crate::process::{Ids, Process, Task, TaskState};
use crate::signal::{Place, RLIMIT_SIGPENDING};
use alloc::format;

type P<'a> = &'a Arc<Process>;
type T<'a> = &'a Arc<Task>;

/// Reads a range of another process's memory; empty if it is gone.
fn foreign(p: P, pick: fn(&crate::mm::Layout) -> core::ops::Range<u64>) -> Vec<u8> {
    let Some(mm) = p.mm() else { return Vec::new() };
    let r = pick(&mm.layout());
    let len = r.end.saturating_sub(r.start).min(8 << 20) as usize;
    let Ok(mut buf) = super::super::uio::try_vec(len) else { return Vec::new() };
    match mm.read_foreign(r.start, &mut buf) {
        Ok(()) => buf,
        Err(_) => Vec::new(),
    }
}
pub fn cmdline(p: P, _t: T) -> Vec<u8> {
    foreign(p, |l| l.args.clone())
}
pub fn environ(p: P, _t: T) -> Vec<u8> {
    foreign(p, |l| l.env.clone())
}
pub fn auxv(p: P, _t: T) -> Vec<u8> {
    p.mm().map_or(Vec::new(), |m| m.layout().auxv)
}
fn name(t: T) -> String {
    let c = t.comm.get();
    let len = c.iter().position(|b| *b == 0).unwrap_or(c.len());
    String::from_utf8_lossy(&c[..len]).into_owned()
}
pub fn comm(_p: P, t: T) -> Vec<u8> {
    format!("{}\n", name(t)).into_bytes()
}
pub fn cgroup(_p: P, _t: T) -> Vec<u8> {
    b"0::/\n".to_vec()
}
pub fn io(_p: P, _t: T) -> Vec<u8> {
    b"rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n"
        .to_vec()
}
/// CPU time, time waiting to run (not kept), number of slices (not kept).
pub fn schedstat(p: P, _t: T) -> Vec<u8> {
    format!("{} 0 0\n", p.cpu_now()).into_bytes()
}
/// Pids of the children.
pub fn children(p: P, _t: T) -> Vec<u8> {
    p.children.with(|all| all.iter().map(|c| format!("{} ", c.pid)).collect::<String>()).into_bytes()
}
/// The one user namespace that there is.
pub fn id_map(_p: P, _t: T) -> Vec<u8> {
    b"         0          0 4294967295\n".to_vec()
}
pub fn setgroups(_p: P, _t: T) -> Vec<u8> {
    b"allow\n".to_vec()
}
pub fn coredump_filter(_p: P, _t: T) -> Vec<u8> {
    b"00000033\n".to_vec()
}
pub fn timerslack(_p: P, _t: T) -> Vec<u8> {
    b"50000\n".to_vec()
}
pub fn wchan(_p: P, _t: T) -> Vec<u8> {
    b"0".to_vec()
}
pub fn personality(_p: P, _t: T) -> Vec<u8> {
    b"00000000\n".to_vec()
}
pub fn loginuid(_p: P, _t: T) -> Vec<u8> {
    b"4294967295".to_vec()
}
pub fn mounts(_p: P, _t: T) -> Vec<u8> {
    system::mounts(false)
}
pub fn mountinfo(_p: P, _t: T) -> Vec<u8> {
    system::mounts(true)
}

/// Names and units of the limits, by number.
const LIMITS: [(&str, &str); 16] = [
    ("Max cpu time", "seconds"),
    ("Max file size", "bytes"),
    ("Max data size", "bytes"),
    ("Max stack size", "bytes"),
    ("Max core file size", "bytes"),
    ("Max resident set", "bytes"),
    ("Max processes", "processes"),
    ("Max open files", "files"),
    ("Max locked memory", "bytes"),
    ("Max address space", "bytes"),
    ("Max file locks", "locks"),
    ("Max pending signals", "signals"),
    ("Max msgqueue size", "bytes"),
    ("Max nice priority", ""),
    ("Max realtime priority", ""),
    ("Max realtime timeout", "us"),
];
pub fn limits(p: P, _t: T) -> Vec<u8> {
    let show = |v: u64| if v == u64::MAX { String::from("unlimited") } else { format!("{v}") };
    let mut out = format!("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    let all = p.rlimits.get();
    for ((soft, hard), (name, unit)) in all.iter().zip(LIMITS) {
        out += &format!("{name:<25} {:<20} {:<20} {unit:<10}\n", show(*soft), show(*hard));
    }
    out.into_bytes()
}

/// Bytes mapped, pages resident.
fn memory(p: P) -> (u64, u64) {
    let u = memory::usage(p);
    (u.size * 1024, u.rss() / 4)
}
fn state(p: &Process, t: Option<&Arc<Task>>) -> (char, &'static str) {
    if t.is_none() || p.exit_status.with(|e| e.is_some()) {
        return ('Z', "zombie");
    }
    if p.stopped.with(|s| s.is_some()) {
        return ('T', "stopped");
    }
    match t.map(|t| t.state.get()) {
        Some(TaskState::Running | TaskState::Runnable) => ('R', "running"),
        _ => ('S', "sleeping"),
    }
}
fn tty_of(p: &Process) -> (u64, i32) {
    super::super::tty::of_session(p.sid.get()).unwrap_or((0, -1))
}
fn stat_line(p: P, t: Option<&Arc<Task>>, comm: &str) -> Vec<u8> {
    let (tty, fg) = tty_of(p);
    let (bytes, pages) = memory(p);
    // Where things are is not for everybody.
    let l = match p.mm().map(|m| m.layout()) {
        Some(l) if p.may_be_seen(Ids::Files) => l,
        Some(_) => Layout { code: 1..1, ..Layout::default() },
        None => Layout::default(),
    };
    let ticks = |ns: u64| ns / 10_000_000;
    let (mut own, mut children) = (p.usage(), p.times.get().children);
    let (times, theirs) = (own.split(), children.split());
    let threads = p.tasks.with(Vec::len) as u64;
    let tid = t.map_or(p.pid, |t| t.tid);
    let (pending, blocked) = t.map_or((0, 0), |t| (t.pending.with(|s| s.set()), t.mask.get()));
    let (letter, _) = state(p, t);
    let ids = [p.ppid(), p.pgid.get(), p.sid.get(), tty as i32, fg];
    // Fields 9 to 52 of proc(5): flags, faults, times, priority, threads, memory, signals, ranges.
    #[rustfmt::skip]
    let rest: [u64; 44] = [
        0x40_0000, own.faults, children.faults, 0, 0, ticks(times.0), ticks(times.1), ticks(theirs.0), ticks(theirs.1), 20, 0,
        threads, 0,
        ticks(p.start_ns), bytes, pages, u64::MAX, l.code.start, l.code.end, l.stack_top, 0, 0, pending,
        blocked, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0, l.brk_start, l.args.start, l.args.end,
        l.env.start, l.env.end, 0,
    ];
    let mut out = format!("{tid} ({comm}) {letter}");
    ids.iter().for_each(|v| out += &format!(" {v}"));
    rest.iter().for_each(|v| out += &format!(" {v}"));
    out.push('\n');
    out.into_bytes()
}
pub fn stat(p: P, t: T) -> Vec<u8> {
    stat_line(p, Some(t), &name(t))
}
/// Sets of ignored and of caught signals.
fn dispositions(p: &Process) -> (u64, u64) {
    const SIG_IGN: u64 = 1;
    let (mut ignored, mut caught) = (0, 0);
    for sig in 1..=64 {
        match p.actions.with(|a| a.get(sig).handler) {
            0 => {}
            SIG_IGN => ignored |= 1 << (sig - 1),
            _ => caught |= 1 << (sig - 1),
        }
    }
    (ignored, caught)
}
pub fn oom_score(p: P, _: T) -> Vec<u8> {
    format!("{}\n", crate::process::oom::score(p)).into_bytes()
}
pub fn oom_score_adj(p: P, _: T) -> Vec<u8> {
    format!("{}\n", p.traits.get().oom_score_adj).into_bytes()
}
pub fn status(p: P, t: T) -> Vec<u8> {
    let (letter, word) = state(p, Some(t));
    let u = memory::usage(p);
    let peak = p.mm().map_or(0, |m| m.peak_pages.get() * 4).max(u.rss());
    let c = t.cred();
    let groups: String = c.groups.list().iter().map(|g| format!("{g} ")).collect();
    let (ignored, caught) = dispositions(p);
    let cpus = occlum_rt::vcpu::count().clamp(1, 63);
    let kib = |n: u64| format!("{n:8} kB");
    let set = |s: u64| format!("{s:016x}");
    let number = |n: i32| format!("{n}");
    let rows = [
        ("Name", name(t)),
        ("Umask", format!("{:04o}", p.fs().umask())),
        ("State", format!("{letter} ({word})")),
        ("Tgid", number(p.pid)),
        ("Ngid", number(0)),
        ("Pid", number(t.tid)),
        ("PPid", number(p.ppid())),
        ("TracerPid", number(0)),
        ("Uid", format!("{}\t{}\t{}\t{}", c.uid, c.euid, c.suid, c.fsuid)),
        ("Gid", format!("{}\t{}\t{}\t{}", c.gid, c.egid, c.sgid, c.fsgid)),
        ("FDSize", number(256)),
        ("Groups", groups),
        ("NStgid", number(p.pid)),
        ("NSpid", number(t.tid)),
        ("NSpgid", number(p.pgid.get())),
        ("NSsid", number(p.sid.get())),
        ("VmPeak", kib(u.size)),
        ("VmSize", kib(u.size)),
        ("VmLck", kib(u.locked)),
        ("VmPin", kib(0)),
        ("VmHWM", kib(peak)),
        ("VmRSS", kib(u.rss())),
        ("RssAnon", kib(u.anon)),
        ("RssFile", kib(u.file)),
        ("RssShmem", kib(u.shared)),
        ("VmData", kib(u.data)),
        ("VmStk", kib(u.stack)),
        ("VmExe", kib(u.exe)),
        ("VmLib", kib(u.lib)),
        ("VmPTE", kib(u.size / 512 + 4)),
        ("VmSwap", kib(0)),
        ("Threads", number(p.tasks.with(Vec::len) as i32)),
        ("SigQ", format!("{}/{}", Place::taken(c.uid), p.rlimit(RLIMIT_SIGPENDING))),
        ("SigPnd", set(t.pending.with(|s| s.set()))),
        ("ShdPnd", set(p.pending.with(|s| s.set()))),
        ("SigBlk", set(t.mask.get())),
        ("SigIgn", set(ignored)),
        ("SigCgt", set(caught)),
        ("CapInh", set(c.caps.inheritable)),
        ("CapPrm", set(c.caps.permitted)),
        ("CapEff", set(c.caps.effective)),
        ("CapBnd", set(c.caps.bounding)),
        ("CapAmb", set(c.caps.ambient)),
        ("NoNewPrivs", number(i32::from(p.traits.get().no_new_privs))),
        ("Seccomp", number(0)),
        ("Cpus_allowed", format!("{:x}", (1u64 << cpus) - 1)),
        ("Cpus_allowed_list", format!("0-{}", cpus - 1)),
        ("Mems_allowed", String::from("1")),
        ("Mems_allowed_list", String::from("0")),
        ("voluntary_ctxt_switches", format!("{}", t.usage.get().switches[0])),
        ("nonvoluntary_ctxt_switches", format!("{}", t.usage.get().switches[1])),
    ];
    rows.iter().map(|(k, v)| format!("{k}:\t{v}\n")).collect::<String>().into_bytes()
}
/// What a process shows that has ended.
pub fn of_zombie(p: P, file: &str) -> Vec<u8> {
    match file {
        "stat" => stat_line(p, None, "?"),
        "status" => format!(
            "Name:\t?\nState:\tZ (zombie)\nTgid:\t{}\nPid:\t{}\nPPid:\t{}\nThreads:\t1\n",
            p.pid,
            p.pid,
            p.ppid()
        )
        .into_bytes(),
        _ => Vec::new(),
    }
}
