//! Start and end of the enclave: the hooks for the runtime, the first process, the final report.
use crate::errno::{Errno, Result};
use crate::process::caps::Caps;
use crate::process::{self, Cred, Groups, Task, WaitStatus};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use occlum_enclave_abi::{
    CONFIG_NO_ALIAS, FLAG_ANY_CWD, FLAG_REPORT_CHANGES, FLAG_RESIDENT, FLAG_STATS, LaunchParams, Ocall,
    TraceOptions,
};
use occlum_rt::bkl::BklCell;
use occlum_rt::{BootInfo, Hooks};

/// What the runtime calls.
pub static HOOKS: Hooks = Hooks { init, vcpu_main: crate::sched::vcpu_main };

static FLAGS: BklCell<u32> = BklCell::new(0);
static HOSTNAME: BklCell<Vec<u8>> = BklCell::new(Vec::new());
static DOMAIN: BklCell<Vec<u8>> = BklCell::new(Vec::new());

/// Host name for uname.
pub fn hostname() -> Vec<u8> {
    HOSTNAME.with(Clone::clone)
}

/// Domain name for uname.
pub fn domainname() -> Vec<u8> {
    DOMAIN.with(|d| if d.is_empty() { b"(none)".to_vec() } else { d.clone() })
}

/// Gives the enclave another one.
pub fn set_domainname(name: Vec<u8>) {
    DOMAIN.replace(name);
}

/// Gives the enclave another name.
pub fn set_hostname(name: Vec<u8>) {
    HOSTNAME.replace(name);
}

fn init(boot: BootInfo) {
    let Some(mut params) = LaunchParams::decode(&boot.launch) else {
        fail(125, "the launch parameters are malformed", "OC312");
    };
    crate::cfi::init(boot.config.cfi);
    if boot.config.flags & CONFIG_NO_ALIAS != 0 {
        crate::mm::forbid_aliases();
    }
    crate::time::init();
    process::init(boot.config.pid_max, boot.config.max_tasks);
    crate::policy::init(boot.config);
    crate::policy::restrict_launch(&mut params);
    FLAGS.set(params.flags);
    HOSTNAME.replace(params.hostname.clone());
    if let Some(options) = TraceOptions::decode(&params.trace) {
        crate::trace::start(options);
    }
    crate::fs::init(&params);
    if params.flags & FLAG_RESIDENT != 0 {
        if process::new_resident_init(crate::fs::boot_context()).is_err() {
            fail(125, "there is no room for process 1", "OC311");
        }
        return;
    }
    match start(&params) {
        Ok(task) => crate::sched::make_runnable(&task),
        Err(r) => fail(r.status, &r.message, r.code),
    }
}

/// Ends the enclave before any program ran; `code` is the one of `occlum explain`.
pub(crate) fn fail(status: u64, message: &str, code: &str) -> ! {
    let text = format!("occlum: {message} [{code}]\n");
    occlum_rt::ocall::call(Ocall::Log, &[0], text.as_bytes(), &mut []);
    occlum_rt::ocall::call(Ocall::Exit, &[0, status], &[], &mut []);
    occlum_rt::halt()
}

/// Why the first program does not run: what `fail` says.
struct Refusal {
    status: u64,
    message: String,
    code: &'static str,
}

fn start(params: &LaunchParams) -> core::result::Result<Arc<Task>, Refusal> {
    let cred = cred_of(params.uid, params.gid);
    let fs = crate::fs::first_fs(&params.cwd, params.flags & FLAG_ANY_CWD != 0)
        .map_err(|e| no_directory(&params.cwd, e))?;
    let task = process::new_init(crate::fs::first_files(), fs, cred).map_err(|_| Refusal {
        status: 125,
        message: format!("not enough enclave memory for the first process: {}", crate::policy::more_memory()),
        code: "OC311",
    })?;
    let LaunchParams { program, argv, envp, cwd, .. } = params;
    exec_searching(&task, &Request { program, argv, envp, cwd }).map_err(|e| no_program(program, e))?;
    Ok(task)
}

fn no_directory(cwd: &[u8], error: Errno) -> Refusal {
    let why = match error {
        Errno::ENOENT | Errno::ENOTDIR => "is no directory inside the enclave".into(),
        Errno::EACCES => "may not be entered".into(),
        e => format!("cannot be entered: {e:?}"),
    };
    let message = format!("the working directory {} {why}", String::from_utf8_lossy(cwd));
    Refusal { status: 126, message, code: "OC401" }
}

fn no_program(name: &[u8], error: Errno) -> Refusal {
    let more = crate::policy::more_memory;
    let (status, why, code) = match error {
        Errno::ENOENT if name.is_empty() => (127, "the program has no name".into(), "OC400"),
        Errno::ENOENT if name.contains(&b'/') => {
            (127, "not found inside the enclave, or its interpreter is not".into(), "OC400")
        }
        Errno::ENOENT => {
            (127, "not found in PATH inside the enclave, or its interpreter is not".into(), "OC400")
        }
        Errno::EPERM => (126, "not below one of the entry points of this enclave".into(), "OC406"),
        Errno::EACCES => (126, "permission denied, or not a regular executable file".into(), "OC401"),
        Errno::ENOEXEC => (126, "not an x86-64 ELF program and has no '#!' line".into(), "OC401"),
        Errno::ENOMEM => (125, format!("out of enclave memory while loading: {}", more()), "OC311"),
        e => (126, format!("cannot execute: {e:?}"), "OC401"),
    };
    let subject =
        if name.is_empty() { String::new() } else { format!("{}: ", String::from_utf8_lossy(name)) };
    Refusal { status, message: format!("{subject}{why}"), code }
}

/// The rights of a user without further groups.
pub fn cred_of(uid: u32, gid: u32) -> Cred {
    Cred {
        uid,
        euid: uid,
        suid: uid,
        fsuid: uid,
        gid,
        egid: gid,
        sgid: gid,
        fsgid: gid,
        groups: Groups::default(),
        caps: Caps::of(uid),
    }
}

/// A program as the host asks for it.
pub struct Request<'a> {
    /// Name or path.
    pub program: &'a [u8],
    /// argv.
    pub argv: &'a [Vec<u8>],
    /// Environment, whose PATH counts.
    pub envp: &'a [Vec<u8>],
    /// What a relative path starts from.
    pub cwd: &'a [u8],
}

/// Looks the program up in PATH as execvp does. EPERM: what is found is no entry point.
pub fn exec_searching(task: &Arc<Task>, r: &Request<'_>) -> Result<()> {
    let cwd = r.cwd.strip_suffix(b"/").unwrap_or(r.cwd);
    let run = |path: &[u8]| {
        let absolute = if path.starts_with(b"/") { path.to_vec() } else { [cwd, b"/", path].concat() };
        if !crate::policy::may_start(&absolute) {
            // What is not there is not forbidden.
            return crate::fs::open_exec(&absolute).and(Err(Errno::EPERM));
        }
        crate::loader::exec(task, &absolute, r.argv.to_vec(), r.envp.to_vec())
    };
    if r.program.contains(&b'/') {
        return run(r.program);
    }
    if r.program.is_empty() {
        return Err(Errno::ENOENT);
    }
    let path = r.envp.iter().find_map(|e| e.strip_prefix(b"PATH="));
    let mut denied = None;
    for dir in path.unwrap_or(b"/usr/local/bin:/usr/bin:/bin").split(|b| *b == b':') {
        let dir: &[u8] = if dir.is_empty() { b"." } else { dir };
        let full = [dir, b"/", r.program].concat();
        match run(&full) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(e @ (Errno::EACCES | Errno::EPERM)) => denied = Some(e),
            r => return r,
        }
    }
    Err(denied.unwrap_or(Errno::ENOENT))
}

/// The first process ended: report and leave.
pub fn finish(status: WaitStatus) -> ! {
    let flags = FLAGS.get();
    crate::trace::flush();
    crate::fs::at_exit(flags & FLAG_REPORT_CHANGES != 0);
    if flags & FLAG_STATS != 0 {
        crate::stats::report();
    }
    let (kind, value) = if status & 0x7f == 0 {
        (0, u64::from(status as u32 >> 8 & 0xff))
    } else {
        (1, status as u64 & 0x7f)
    };
    occlum_rt::ocall::call(Ocall::Exit, &[kind, value], &[], &mut []);
    occlum_rt::halt()
}
