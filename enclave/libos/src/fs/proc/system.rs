//! System-wide texts of /proc, by path.
use super::super::prelude::*;
use super::super::{inotify, leases, mount, pipe};
use crate::ipc;
use crate::net::counts::Count;
use crate::net::text as net;
use crate::process::Process;
use crate::time::{monotonic_ns, realtime_ns};
use alloc::format;

/// Path below /proc, and what makes its text.
type SystemFile = (&'static str, fn() -> Vec<u8>);
/// The files.
pub const FILES: &[SystemFile] = &[
    ("cmdline", || b"occlum\n".to_vec()),
    ("cpuinfo", super::cpu::cpuinfo),
    ("devices", devices),
    ("diskstats", Vec::new),
    ("filesystems", filesystems),
    ("interrupts", interrupts),
    ("loadavg", loadavg),
    ("meminfo", meminfo),
    ("misc", || b"183 hw_random\n".to_vec()),
    ("modules", Vec::new),
    ("occlum", resources),
    ("mounts", || mounts(false)),
    ("net/arp", || {
        b"IP address       HW type     Flags       HW address            Mask     Device\n".to_vec()
    }),
    ("net/dev", net::devices),
    ("net/if_inet6", net::addresses6),
    ("net/netlink", || {
        b"sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n".to_vec()
    }),
    ("net/netstat", netstat),
    ("net/packet", || b"sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n".to_vec()),
    ("net/raw", || RAW.to_vec()),
    ("net/raw6", || RAW.to_vec()),
    ("net/route", net::routes),
    ("net/snmp", snmp),
    ("net/sockstat", sockstat),
    ("net/sockstat6", || {
        b"TCP6: inuse 0\nUDP6: inuse 0\nUDPLITE6: inuse 0\nRAW6: inuse 0\nFRAG6: inuse 0 memory 0\n".to_vec()
    }),
    ("net/tcp", net::tcp4),
    ("net/tcp6", net::tcp6),
    ("net/udp", net::udp4),
    ("net/udp6", net::udp6),
    ("net/unix", net::local),
    ("partitions", || b"major minor  #blocks  name\n\n".to_vec()),
    ("stat", stat),
    ("swaps", || b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_vec()),
    ("sys/fs/aio-max-nr", || b"65536\n".to_vec()),
    ("sys/fs/aio-nr", || b"0\n".to_vec()),
    ("sys/fs/dir-notify-enable", || b"1\n".to_vec()),
    ("sys/fs/epoll/max_user_watches", || b"1048576\n".to_vec()),
    ("sys/fs/file-max", || b"1048576\n".to_vec()),
    ("sys/fs/file-nr", file_nr),
    ("sys/fs/inotify/max_queued_events", || format!("{}\n", inotify::QUEUE_MAX).into_bytes()),
    ("sys/fs/inotify/max_user_instances", || format!("{}\n", inotify::INSTANCES_MAX).into_bytes()),
    ("sys/fs/inotify/max_user_watches", || format!("{}\n", inotify::WATCHES_MAX).into_bytes()),
    ("sys/fs/lease-break-time", || format!("{}\n", leases::break_seconds()).into_bytes()),
    ("sys/fs/leases-enable", || b"1\n".to_vec()),
    ("sys/fs/mqueue/msg_max", || format!("{}\n", ipc::mq::MSG_MAX).into_bytes()),
    ("sys/fs/mqueue/msgsize_max", || format!("{}\n", ipc::mq::MSGSIZE_MAX).into_bytes()),
    ("sys/fs/mqueue/queues_max", || format!("{}\n", ipc::mq::QUEUES_MAX).into_bytes()),
    ("sys/fs/nr_open", || b"1048576\n".to_vec()),
    ("sys/fs/pipe-max-size", || format!("{}\n", pipe::MAX_SIZE).into_bytes()),
    ("sys/fs/pipe-user-pages-hard", || b"0\n".to_vec()),
    ("sys/fs/pipe-user-pages-soft", || format!("{}\n", pipe::USER_PAGES).into_bytes()),
    ("sys/fs/protected_hardlinks", || b"0\n".to_vec()),
    ("sys/fs/protected_symlinks", || b"0\n".to_vec()),
    ("sys/fs/suid_dumpable", || b"0\n".to_vec()),
    ("sys/kernel/cap_last_cap", || b"40\n".to_vec()),
    ("sys/kernel/core_pattern", || b"core\n".to_vec()),
    ("sys/kernel/core_uses_pid", || b"0\n".to_vec()),
    ("sys/kernel/domainname", || [&crate::boot::domainname()[..], b"\n"].concat()),
    ("sys/kernel/hostname", || [&crate::boot::hostname()[..], b"\n"].concat()),
    ("sys/kernel/ngroups_max", || b"65536\n".to_vec()),
    ("sys/kernel/osrelease", || format!("{}\n", crate::syscall::misc::RELEASE).into_bytes()),
    ("sys/kernel/ostype", || b"Linux\n".to_vec()),
    ("sys/kernel/overflowgid", || b"65534\n".to_vec()),
    ("sys/kernel/overflowuid", || b"65534\n".to_vec()),
    ("sys/kernel/perf_event_paranoid", || b"3\n".to_vec()),
    ("sys/kernel/pid_max", || format!("{}\n", crate::process::pid_max()).into_bytes()),
    ("sys/kernel/random/boot_id", boot_id),
    ("sys/kernel/random/entropy_avail", || b"256\n".to_vec()),
    ("sys/kernel/random/poolsize", || b"256\n".to_vec()),
    ("sys/kernel/random/uuid", uuid),
    ("sys/kernel/randomize_va_space", || b"0\n".to_vec()),
    ("sys/kernel/msgmax", || b"8192\n".to_vec()),
    ("sys/kernel/msgmnb", || b"16384\n".to_vec()),
    ("sys/kernel/msgmni", || b"32000\n".to_vec()),
    ("sys/kernel/pty/max", || format!("{}\n", super::super::pty::MAX).into_bytes()),
    ("sys/kernel/pty/nr", || format!("{}\n", super::super::pty::count()).into_bytes()),
    ("sys/kernel/sem", ipc::sem::limits),
    ("sys/kernel/shmall", || format!("{}\n", ipc::shm::max_pages()).into_bytes()),
    ("sys/kernel/shmmax", || format!("{}\n", ipc::shm::max_size()).into_bytes()),
    ("sys/kernel/shmmni", || format!("{}\n", ipc::shm::MAX).into_bytes()),
    ("sys/kernel/tainted", || b"0\n".to_vec()),
    ("sys/kernel/threads-max", || b"8000\n".to_vec()),
    ("sys/kernel/version", || b"#1 SMP\n".to_vec()),
    ("sys/kernel/yama/ptrace_scope", || b"1\n".to_vec()),
    ("sys/net/core/netdev_max_backlog", || b"1000\n".to_vec()),
    ("sys/net/core/optmem_max", || b"20480\n".to_vec()),
    ("sys/net/core/rmem_default", || b"212992\n".to_vec()),
    ("sys/net/core/rmem_max", || b"212992\n".to_vec()),
    ("sys/net/core/somaxconn", || b"4096\n".to_vec()),
    ("sys/net/core/wmem_default", || b"212992\n".to_vec()),
    ("sys/net/core/wmem_max", || b"212992\n".to_vec()),
    ("sys/net/ipv4/ip_forward", || b"0\n".to_vec()),
    ("sys/net/ipv4/ip_local_port_range", || b"32768\t60999\n".to_vec()),
    ("sys/net/ipv4/ip_unprivileged_port_start", || b"1024\n".to_vec()),
    ("sys/net/ipv4/tcp_fin_timeout", || b"60\n".to_vec()),
    ("sys/net/ipv4/tcp_max_syn_backlog", || b"4096\n".to_vec()),
    ("sys/net/ipv4/tcp_rmem", || b"4096\t131072\t6291456\n".to_vec()),
    ("sys/net/ipv4/tcp_syncookies", || b"0\n".to_vec()),
    ("sys/net/ipv4/tcp_wmem", || b"4096\t16384\t4194304\n".to_vec()),
    ("sys/net/ipv6/bindv6only", || b"0\n".to_vec()),
    ("sys/vm/max_map_count", || b"65530\n".to_vec()),
    ("sys/vm/mmap_min_addr", || b"65536\n".to_vec()),
    ("sys/vm/overcommit_memory", || b"0\n".to_vec()),
    ("sys/vm/overcommit_ratio", || b"50\n".to_vec()),
    ("sys/vm/swappiness", || b"0\n".to_vec()),
    ("sysvipc/msg", ipc::msg::text),
    ("sysvipc/sem", ipc::sem::text),
    ("sysvipc/shm", ipc::shm::text),
    ("uptime", uptime),
    ("version", || b"Linux version 6.1.0 (occlum) #1 SMP\n".to_vec()),
    ("vmstat", vmstat),
    ("zoneinfo", zoneinfo),
];

fn filesystems() -> Vec<u8> {
    b"nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tdevtmpfs\nnodev\tdevpts\nnodev\tmqueue\nnodev\toverlay\nnodev\thostfs\n".to_vec()
}
fn loadavg() -> Vec<u8> {
    let all = Process::all();
    let last = all.iter().map(|p| p.pid).max().unwrap_or(1);
    let (load, active) = crate::sched::load();
    let shown = load.map(|n| {
        let hundredths = (n + crate::sched::LOAD_ONE / 200) * 100 / crate::sched::LOAD_ONE;
        format!("{}.{:02}", hundredths / 100, hundredths % 100)
    });
    format!("{} {active}/{} {last}\n", shown.join(" "), all.len()).into_bytes()
}
fn meminfo() -> Vec<u8> {
    let (total, free) = (crate::mm::total() * 4, crate::mm::available() * 4);
    let cached = super::super::pages::cached_bytes() / 1024;
    let heap = (occlum_rt::mem::heap_live() / 1024).saturating_sub(cached);
    let used = (total - free).saturating_sub(cached + heap);
    let (_, shared) = crate::mm::in_use();
    let rows = [
        ("MemTotal:", total),
        ("MemFree:", free),
        ("MemAvailable:", free + cached),
        ("Buffers:", 0),
        ("Cached:", cached),
        ("SwapCached:", 0),
        ("Active:", used),
        ("Inactive:", cached),
        ("Active(anon):", used),
        ("Inactive(anon):", 0),
        ("Active(file):", 0),
        ("Inactive(file):", cached),
        ("Unevictable:", 0),
        ("Mlocked:", 0),
        ("SwapTotal:", 0),
        ("SwapFree:", 0),
        ("Dirty:", 0),
        ("Writeback:", 0),
        ("AnonPages:", used),
        ("Mapped:", cached),
        ("Shmem:", shared * 4),
        ("KReclaimable:", 0),
        ("Slab:", heap),
        ("SReclaimable:", 0),
        ("SUnreclaim:", heap),
        ("KernelStack:", crate::process::task_count() as u64 * 64),
        ("PageTables:", 0),
        ("CommitLimit:", total),
        ("Committed_AS:", total - free),
        ("VmallocTotal:", 0),
        ("VmallocUsed:", 0),
        ("VmallocChunk:", 0),
        ("AnonHugePages:", 0),
        ("HugePages_Total:", 0),
        ("HugePages_Free:", 0),
        ("HugePages_Rsvd:", 0),
        ("HugePages_Surp:", 0),
        ("Hugepagesize:", 2048),
        ("Hugetlb:", 0),
    ];
    // The numbers of huge pages are no sizes.
    let unit = |k: &str| if k.starts_with("HugePages_") { "" } else { " kB" };
    rows.iter().map(|(k, v)| format!("{k:<16}{v:8}{}\n", unit(k))).collect::<String>().into_bytes()
}
/// vmstat and zoneinfo count pages.
fn vmstat() -> Vec<u8> {
    let free = crate::mm::available();
    let cached = super::super::pages::cached_bytes() / PAGE;
    let used = (crate::mm::total() - free).saturating_sub(cached);
    let rows = [
        ("nr_free_pages", free),
        ("nr_inactive_anon", 0),
        ("nr_active_anon", used),
        ("nr_inactive_file", cached),
        ("nr_active_file", 0),
        ("nr_anon_pages", used),
        ("nr_mapped", cached),
        ("nr_file_pages", cached),
        ("nr_dirty", 0),
        ("nr_writeback", 0),
        ("pgpgin", 0),
        ("pgpgout", 0),
        ("pswpin", 0),
        ("pswpout", 0),
        ("pgfault", 0),
        ("pgmajfault", 0),
    ];
    rows.iter().map(|(k, v)| format!("{k} {v}\n")).collect::<String>().into_bytes()
}
fn zoneinfo() -> Vec<u8> {
    let (total, free) = (crate::mm::total(), crate::mm::available());
    format!(
        "Node 0, zone   Normal\n  pages free     {free}\n        min      0\n        low      0\n        high     0\n        \
         spanned  {total}\n        present  {total}\n        managed  {total}\n"
    )
    .into_bytes()
}
fn devices() -> Vec<u8> {
    b"Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n136 pts\n\nBlock devices:\n"
        .to_vec()
}
/// Takes what was written to a file.
pub type Writer = fn(&[u8]) -> Result<()>;
/// What an administrator may write, by the name in `FILES`.
const WRITERS: [(&str, Writer); 3] = [
    ("sys/fs/lease-break-time", |text| {
        leases::set_break_seconds(number(text)?);
        Ok(())
    }),
    ("sys/kernel/domainname", |text| {
        crate::boot::set_domainname(name(text)?);
        Ok(())
    }),
    ("sys/kernel/hostname", |text| {
        crate::boot::set_hostname(name(text)?);
        Ok(())
    }),
];
/// How the file is written, if it can be.
pub fn writer(n: usize) -> Option<Writer> {
    WRITERS.iter().find(|(file, _)| *file == FILES[n].0).map(|(_, w)| *w)
}
fn number(text: &[u8]) -> Result<u32> {
    let text = core::str::from_utf8(text).map_err(|_| EINVAL)?.trim();
    text.parse::<i32>().ok().and_then(|n| u32::try_from(n).ok()).ok_or(EINVAL)
}
/// A name of up to 64 bytes; what is longer is cut, as sysctl does.
fn name(text: &[u8]) -> Result<Vec<u8>> {
    let end = text.iter().position(|b| matches!(b, 0 | b'\n')).unwrap_or(text.len());
    Ok(text[..end.min(64)].to_vec())
}
/// There are none that a program could see: their names alone.
fn interrupts() -> Vec<u8> {
    let mut out = String::from("     ");
    (0..occlum_rt::vcpu::count().max(1)).for_each(|i| out += &format!("      CPU{i}"));
    out.push('\n');
    out.into_bytes()
}
fn file_nr() -> Vec<u8> {
    format!("{}\t0\t1048576\n", super::super::file::open_count()).into_bytes()
}
const RAW: &[u8] = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n";
/// How many sockets a table of sockets lists.
fn listed(table: &[u8]) -> usize {
    table.iter().filter(|b| **b == b'\n').count().saturating_sub(1)
}
fn sockstat() -> Vec<u8> {
    let (tcp, udp) = (listed(&net::tcp4()), listed(&net::udp4()));
    let used = tcp + udp + listed(&net::tcp6()) + listed(&net::udp6()) + listed(&net::local());
    format!(
        "sockets: used {used}\nTCP: inuse {tcp} orphan 0 tw 0 alloc {tcp} mem 0\nUDP: inuse {udp} mem 0\nUDPLITE: inuse 0\n\
         RAW: inuse 0\nFRAG: inuse 0 memory 0\n"
    )
    .into_bytes()
}
/// The tables that programs parse. Kept are counters of connections and datagrams, for there are no segments inside.
fn snmp() -> Vec<u8> {
    let of = crate::net::counts::of;
    let established = crate::net::tcp::all().filter(|s| s.row().3 == crate::net::tcp::ESTABLISHED).count();
    let (active, passive) = (of(Count::TcpActiveOpens), of(Count::TcpPassiveOpens));
    let (failed, torn) = (of(Count::TcpAttemptFails), of(Count::TcpEstabResets));
    let (received, nobody) = (of(Count::UdpInDatagrams), of(Count::UdpNoPorts));
    let (full, sent) = (of(Count::UdpRcvbufErrors), of(Count::UdpOutDatagrams));
    format!(
        "Ip: Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards InDelivers \
         OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails FragCreates\n\
         Ip: 2 64 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n\
         Icmp: InMsgs InErrors InCsumErrors OutMsgs OutErrors\nIcmp: 0 0 0 0 0\n\
         Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs \
         RetransSegs InErrs OutRsts InCsumErrors\nTcp: 1 200 120000 -1 {active} {passive} {failed} {torn} {established} 0 0 0 0 0 0\n\
         Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors\n\
         Udp: {received} {nobody} {full} {sent} {full} 0 0 0 0\n"
    )
    .into_bytes()
}
fn netstat() -> Vec<u8> {
    b"TcpExt: SyncookiesSent SyncookiesRecv SyncookiesFailed\nTcpExt: 0 0 0\nIpExt: InNoRoutes InOctets OutOctets\nIpExt: 0 0 0\n"
        .to_vec()
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
        ("mappings", crate::mm::host_mappings()),
        ("unasked_kb", occlum_rt::mem::unasked() / 1024),
    ];
    rows.iter().map(|(k, v)| format!("{k} {v}\n")).collect::<String>().into_bytes()
}
/// /proc/mounts; `info` gives /proc/self/mountinfo's form.
pub fn mounts(info: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut id = 1;
    mount::each(|m| {
        let fs = &m.info;
        let path = escape(&m.dentry.path().unwrap_or_default());
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
    let busy: u64 = Process::all().iter().map(|p| p.cpu_now() / 10_000_000).sum();
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
