//! Start and end of the enclave: the hooks for the runtime, the first process, the final report.
use crate::errno::{Errno, Result};
use crate::process::caps::Caps;
use crate::process::{self, Cred, Task, WaitStatus};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use occlum_enclave_abi::{
    CONFIG_NO_ALIAS, FLAG_REPORT_CHANGES, FLAG_RESIDENT, FLAG_STATS, LaunchParams, Ocall, TraceOptions,
};
use occlum_rt::bkl::BklCell;
use occlum_rt::{BootInfo, Hooks};

/// What the runtime calls.
pub static HOOKS: Hooks = Hooks { init, vcpu_main: crate::sched::vcpu_main };

static FLAGS: BklCell<u32> = BklCell::new(0);
static HOSTNAME: BklCell<Vec<u8>> = BklCell::new(Vec::new());

/// Host name for uname.
pub fn hostname() -> Vec<u8> {
    HOSTNAME.with(Clone::clone)
}

/// Gives the enclave another name.
pub fn set_hostname(name: Vec<u8>) {
    HOSTNAME.replace(name);
}

fn init(boot: BootInfo) {
    let Some(mut params) = LaunchParams::decode(&boot.launch) else {
        fail(125, "the launch parameters are malformed");
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
            fail(125, "there is no room for process 1");
        }
        return;
    }
    match start(&params) {
        Ok(task) => crate::sched::make_runnable(&task),
        Err((code, message)) => fail(code, &message),
    }
}

/// Ends the enclave before any program ran.
pub(crate) fn fail(code: u64, message: &str) -> ! {
    let text = format!("occlum: {message}\n");
    occlum_rt::ocall::call(Ocall::Log, &[0], text.as_bytes(), &mut []);
    occlum_rt::ocall::call(Ocall::Exit, &[0, code], &[], &mut []);
    occlum_rt::halt()
}

fn start(params: &LaunchParams) -> core::result::Result<Arc<Task>, (u64, String)> {
    let name = String::from_utf8_lossy(&params.program).into_owned();
    let cred = cred_of(params.uid, params.gid);
    let more = crate::policy::more_memory;
    let oom = |_| (125, format!("not enough enclave memory for the first process: {} [OC311]", more()));
    let task =
        process::new_init(crate::fs::first_files(), crate::fs::first_fs(&params.cwd), cred).map_err(oom)?;
    let LaunchParams { program, argv, envp, cwd, .. } = params;
    let result = exec_searching(&task, &Request { program, argv, envp, cwd });
    result.map_err(|e| {
        let (status, why, code) = match e {
            Errno::ENOENT => (127, "not found (looked in PATH inside the enclave)".into(), "OC400"),
            Errno::EPERM => (126, "not below one of the entry points of this enclave".into(), "OC406"),
            Errno::EACCES => (126, "permission denied, or not a regular executable file".into(), "OC401"),
            Errno::ENOEXEC => (126, "not an x86-64 ELF program and has no '#!' line".into(), "OC401"),
            Errno::ENOMEM => (125, format!("out of enclave memory while loading: {}", more()), "OC311"),
            e => (126, format!("cannot execute: {e:?}"), "OC401"),
        };
        (status, format!("{name}: {why} [{code}]"))
    })?;
    Ok(task)
}

/// The rights of a user without further groups.
pub fn cred_of(uid: u32, gid: u32) -> Cred {
    Cred { uid, euid: uid, suid: uid, gid, egid: gid, sgid: gid, groups: Vec::new(), caps: Caps::of(uid) }
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
