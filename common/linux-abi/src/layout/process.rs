//! Processes and the system: `clone3`, limits, usage, names.
use super::layout;
use super::time::Timeval;

layout! {
    /// `struct clone_args`.
    CloneArgs[88] {
        flags: u64 = 0,
        pidfd: u64 = 8,
        child_tid: u64 = 16,
        parent_tid: u64 = 24,
        exit_signal: u64 = 32,
        stack: u64 = 40,
        stack_size: u64 = 48,
        tls: u64 = 56,
        set_tid: u64 = 64,
        set_tid_size: u64 = 72,
        cgroup: u64 = 80,
    }
    /// `struct rlimit64`.
    Rlimit[16] {
        rlim_cur: u64 = 0,
        rlim_max: u64 = 8,
    }
    /// `struct rusage`.
    Rusage[144] {
        ru_utime: Timeval = 0,
        ru_stime: Timeval = 16,
        ru_maxrss: i64 = 32,
        ru_ixrss: i64 = 40,
        ru_idrss: i64 = 48,
        ru_isrss: i64 = 56,
        ru_minflt: i64 = 64,
        ru_majflt: i64 = 72,
        ru_nswap: i64 = 80,
        ru_inblock: i64 = 88,
        ru_oublock: i64 = 96,
        ru_msgsnd: i64 = 104,
        ru_msgrcv: i64 = 112,
        ru_nsignals: i64 = 120,
        ru_nvcsw: i64 = 128,
        ru_nivcsw: i64 = 136,
    }
    /// `struct sysinfo`.
    Sysinfo[112] {
        uptime: i64 = 0,
        load1: u64 = 8,
        load5: u64 = 16,
        load15: u64 = 24,
        totalram: u64 = 32,
        freeram: u64 = 40,
        sharedram: u64 = 48,
        bufferram: u64 = 56,
        totalswap: u64 = 64,
        freeswap: u64 = 72,
        procs: u16 = 80,
        totalhigh: u64 = 88,
        freehigh: u64 = 96,
        mem_unit: u32 = 104,
    }
    /// `struct utsname`: six NUL-terminated names.
    Utsname[390] {
        sysname: [u8; 65] = 0,
        nodename: [u8; 65] = 65,
        release: [u8; 65] = 130,
        version: [u8; 65] = 195,
        machine: [u8; 65] = 260,
        domainname: [u8; 65] = 325,
    }
}

impl Utsname {
    /// A field of the structure: `text`, cut to 64 bytes, zero padded.
    pub fn name(text: &[u8]) -> [u8; 65] {
        let mut field = [0; 65];
        let len = text.len().min(64);
        field[..len].copy_from_slice(&text[..len]);
        field
    }
}
