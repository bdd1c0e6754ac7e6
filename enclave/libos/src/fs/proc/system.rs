//! System-wide texts of /proc, by path.
use super::super::prelude::*;
use super::super::{inotify, mount};
use crate::ipc;
use crate::net::text as net;
use crate::process::Process;
use crate::time::{monotonic_ns, realtime_ns};
use alloc::format;

/// Path below /proc, and what makes its text.
type SystemFile = (&'static str, fn() -> Vec<u8>);
/// The files.
pub const FILES: &[SystemFile] = &[
    ("cmdline", || b"occlum\n".to_vec()),
    ("cpuinfo", cpuinfo),
    ("filesystems", filesystems),
    ("loadavg", loadavg),
    ("meminfo", meminfo),
    ("occlum", resources),
    ("mounts", || mounts(false)),
    ("net/dev", net::devices),
    ("net/if_inet6", net::addresses6),
    ("net/route", net::routes),
    ("net/tcp", net::tcp4),
    ("net/tcp6", net::tcp6),
    ("net/udp", net::udp4),
    ("net/udp6", net::udp6),
    ("net/unix", net::local),
    ("stat", stat),
    ("sys/fs/file-max", || b"1048576\n".to_vec()),
    ("sys/fs/inotify/max_queued_events", || format!("{}\n", inotify::QUEUE_MAX).into_bytes()),
    ("sys/fs/inotify/max_user_instances", || format!("{}\n", inotify::INSTANCES_MAX).into_bytes()),
    ("sys/fs/inotify/max_user_watches", || format!("{}\n", inotify::WATCHES_MAX).into_bytes()),
    ("sys/fs/mqueue/msg_max", || format!("{}\n", ipc::mq::MSG_MAX).into_bytes()),
    ("sys/fs/mqueue/msgsize_max", || format!("{}\n", ipc::mq::MSGSIZE_MAX).into_bytes()),
    ("sys/fs/mqueue/queues_max", || format!("{}\n", ipc::mq::QUEUES_MAX).into_bytes()),
    ("sys/fs/nr_open", || b"1048576\n".to_vec()),
    ("sys/fs/pipe-max-size", || b"1048576\n".to_vec()),
    ("sys/kernel/cap_last_cap", || b"40\n".to_vec()),
    ("sys/kernel/hostname", || [&crate::boot::hostname()[..], b"\n"].concat()),
    ("sys/kernel/ngroups_max", || b"65536\n".to_vec()),
    ("sys/kernel/osrelease", || b"6.1.0\n".to_vec()),
    ("sys/kernel/ostype", || b"Linux\n".to_vec()),
    ("sys/kernel/pid_max", || format!("{}\n", crate::process::pid_max()).into_bytes()),
    ("sys/kernel/random/boot_id", boot_id),
    ("sys/kernel/random/entropy_avail", || b"256\n".to_vec()),
    ("sys/kernel/random/uuid", uuid),
    ("sys/kernel/msgmax", || b"8192\n".to_vec()),
    ("sys/kernel/msgmnb", || b"16384\n".to_vec()),
    ("sys/kernel/msgmni", || b"32000\n".to_vec()),
    ("sys/kernel/pty/max", || format!("{}\n", super::super::pty::MAX).into_bytes()),
    ("sys/kernel/pty/nr", || format!("{}\n", super::super::pty::count()).into_bytes()),
    ("sys/kernel/sem", ipc::sem::limits),
    ("sys/kernel/shmall", || format!("{}\n", ipc::shm::max_size() / PAGE).into_bytes()),
    ("sys/kernel/shmmax", || format!("{}\n", ipc::shm::max_size()).into_bytes()),
    ("sys/kernel/shmmni", || format!("{}\n", ipc::shm::MAX).into_bytes()),
    ("sys/kernel/threads-max", || b"8000\n".to_vec()),
    ("sys/kernel/yama/ptrace_scope", || b"1\n".to_vec()),
    ("sys/net/core/rmem_max", || b"212992\n".to_vec()),
    ("sys/net/core/somaxconn", || b"4096\n".to_vec()),
    ("sys/net/core/wmem_max", || b"212992\n".to_vec()),
    ("sys/net/ipv4/ip_local_port_range", || b"32768\t60999\n".to_vec()),
    ("sys/net/ipv4/ip_unprivileged_port_start", || b"1024\n".to_vec()),
    ("sys/net/ipv6/bindv6only", || b"0\n".to_vec()),
    ("sys/vm/max_map_count", || b"65530\n".to_vec()),
    ("sys/vm/mmap_min_addr", || b"65536\n".to_vec()),
    ("sys/vm/overcommit_memory", || b"0\n".to_vec()),
    ("sys/vm/swappiness", || b"0\n".to_vec()),
    ("sysvipc/msg", ipc::msg::text),
    ("sysvipc/sem", ipc::sem::text),
    ("sysvipc/shm", ipc::shm::text),
    ("uptime", uptime),
    ("version", || b"Linux version 6.1.0 (occlum) #1 SMP\n".to_vec()),
];

fn cpuinfo() -> Vec<u8> {
    const FLAGS: &str = "fpu tsc cx8 cmov mmx fxsr sse sse2 ht syscall nx lm constant_tsc rep_good nopl pni \
                         ssse3 cx16 sse4_1 sse4_2 popcnt";
    let n = occlum_rt::vcpu::count().max(1);
    let mut out = String::new();
    for i in 0..n {
        let rows = [
            ("processor\t", format!("{i}")),
            ("vendor_id\t", String::from("GenuineIntel")),
            ("cpu family\t", String::from("6")),
            ("model\t\t", String::from("85")),
            ("model name\t", String::from("Occlum virtual CPU")),
            ("stepping\t", String::from("4")),
            ("cpu MHz\t\t", String::from("2000.000")),
            ("cache size\t", String::from("32768 KB")),
            ("physical id\t", String::from("0")),
            ("siblings\t", format!("{n}")),
            ("core id\t\t", format!("{i}")),
            ("cpu cores\t", format!("{n}")),
            ("fpu\t\t", String::from("yes")),
            ("cpuid level\t", String::from("13")),
            ("flags\t\t", String::from(FLAGS)),
            ("bogomips\t", String::from("4000.00")),
            ("clflush size\t", String::from("64")),
            ("address sizes\t", String::from("46 bits physical, 48 bits virtual")),
        ];
        rows.iter().for_each(|(k, v)| out += &format!("{k}: {v}\n"));
        out.push('\n');
    }
    out.into_bytes()
}
fn filesystems() -> Vec<u8> {
    b"nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tdevtmpfs\nnodev\tdevpts\nnodev\tmqueue\nnodev\toverlay\nnodev\thostfs\n".to_vec()
}
fn loadavg() -> Vec<u8> {
    let all = Process::all();
    let last = all.iter().map(|p| p.pid).max().unwrap_or(1);
    format!("0.00 0.00 0.00 1/{} {last}\n", all.len()).into_bytes()
}
fn meminfo() -> Vec<u8> {
    let (total, free) = (crate::mm::total() * 4, crate::mm::available() * 4);
    let cached = super::super::pages::cached_bytes() / 1024;
    let rows = [
        ("MemTotal:", total),
        ("MemFree:", free),
        ("MemAvailable:", free + cached),
        ("Buffers:", 0),
        ("Cached:", cached),
        ("SwapCached:", 0),
        ("SwapTotal:", 0),
        ("SwapFree:", 0),
        ("Dirty:", 0),
        ("Shmem:", 0),
        ("Hugepagesize:", 2048),
    ];
    rows.iter().map(|(k, v)| format!("{k:<16}{v:8} kB\n")).collect::<String>().into_bytes()
}
/// What of the enclave is in use: /proc/occlum, the LibOS's own. A test compares it before and after.
fn resources() -> Vec<u8> {
    let (slots, arena) = crate::mm::in_use();
    let cached = super::super::pages::cached_bytes();
    let rows = [
        ("available_kb", crate::mm::available() * 4),
        ("taken_kb", crate::mm::taken() * 4),
        ("heap_kb", (occlum_rt::mem::heap_live() - cached) / 1024),
        ("slots", slots),
        ("shared_pages", arena),
        ("processes", Process::all().len() as u64),
        ("tasks", crate::process::task_count() as u64),
        ("open_files", super::super::file::open_count()),
    ];
    rows.iter().map(|(k, v)| format!("{k} {v}\n")).collect::<String>().into_bytes()
}
/// /proc/mounts; `info` gives /proc/self/mountinfo's form.
pub fn mounts(info: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut id = 1;
    mount::each(|m| {
        let fs = &m.info;
        let path = escape(&m.dentry.path_from(&mount::root()).unwrap_or_default());
        let mode = if fs.read_only { "ro" } else { "rw" };
        let name = fs.name;
        let line = if info {
            let parent = if id == 1 { 0 } else { 1 };
            format!("{id} {parent} 0:{} / {path} {mode},relatime - {name} {name} {mode}\n", fs.dev)
        } else {
            format!("{name} {path} {name} {mode},relatime 0 0\n")
        };
        out.extend_from_slice(line.as_bytes());
        id += 1;
    });
    out
}
fn escape(path: &[u8]) -> String {
    let mut out = String::new();
    for c in path {
        match c {
            b' ' | b'\t' | b'\n' | b'\\' => out += &format!("\\{c:03o}"),
            c => out.push(char::from(*c)),
        }
    }
    out
}
fn stat() -> Vec<u8> {
    let n = occlum_rt::vcpu::count().max(1);
    let hz = monotonic_ns() / 10_000_000;
    let busy: u64 = Process::all().iter().map(|p| p.times.get().cpu_ns / 10_000_000).sum();
    let mut out = format!("cpu  {busy} 0 0 {} 0 0 0 0 0 0\n", (hz * u64::from(n)).saturating_sub(busy));
    for i in 0..n {
        let busy = busy / u64::from(n);
        out += &format!("cpu{i} {busy} 0 0 {} 0 0 0 0 0 0\n", hz.saturating_sub(busy));
    }
    let boot = realtime_ns().saturating_sub(monotonic_ns()) / 1_000_000_000;
    let all = Process::all().len();
    out += &format!("intr 0\nctxt 0\nbtime {boot}\nprocesses {all}\nprocs_running 1\nprocs_blocked 0\n");
    out.into_bytes()
}
fn uptime() -> Vec<u8> {
    let cs = monotonic_ns() / 10_000_000;
    format!("{}.{:02} {}.{:02}\n", cs / 100, cs % 100, cs / 100, cs % 100).into_bytes()
}
fn format_uuid(b: [u8; 16]) -> Vec<u8> {
    let mut out = String::new();
    for (i, x) in b.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out += &format!("{x:02x}");
    }
    out.push('\n');
    out.into_bytes()
}
fn new_uuid() -> [u8; 16] {
    let mut b = [0; 16];
    occlum_rt::random::fill(&mut b);
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    b
}
fn uuid() -> Vec<u8> {
    format_uuid(new_uuid())
}
fn boot_id() -> Vec<u8> {
    static ID: BklCell<Option<[u8; 16]>> = BklCell::new(None);
    let id = ID.get().unwrap_or_else(new_uuid);
    ID.set(Some(id));
    format_uuid(id)
}
