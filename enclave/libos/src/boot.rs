//! Start and end of the enclave: the hooks for the runtime, the first process, the final report.
use crate::errno::{Errno, Result};
use crate::process::{self, Cred, Task, WaitStatus};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use occlum_enclave_abi::{FLAG_REPORT_CHANGES, FLAG_STATS, FLAG_STRACE, LaunchParams, Ocall};
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

fn init(boot: BootInfo) {
    let Some(params) = LaunchParams::decode(&boot.launch) else {
        fail(125, "the launch parameters are malformed");
    };
    crate::cfi::init(boot.config.cfi);
    crate::time::init();
    process::init(boot.config.pid_max, boot.config.max_tasks);
    FLAGS.set(params.flags);
    HOSTNAME.replace(params.hostname.clone());
    if params.flags & FLAG_STRACE != 0 {
        crate::strace::enable();
    }
    crate::fs::init(&params);
    match start(&params) {
        Ok(task) => crate::sched::make_runnable(&task),
        Err((code, message)) => fail(code, &message),
    }
}

/// Ends the enclave before any program ran.
fn fail(code: u64, message: &str) -> ! {
    let text = format!("occlum: {message}\n");
    occlum_rt::ocall::call(Ocall::Log, &[0], text.as_bytes(), &mut []);
    occlum_rt::ocall::call(Ocall::Exit, &[0, code], &[], &mut []);
    occlum_rt::halt()
}

fn start(params: &LaunchParams) -> core::result::Result<Arc<Task>, (u64, String)> {
    let name = String::from_utf8_lossy(&params.program).into_owned();
    let cred = Cred {
        uid: params.uid,
        euid: params.uid,
        suid: params.uid,
        gid: params.gid,
        egid: params.gid,
        sgid: params.gid,
        groups: Vec::new(),
    };
    let oom = |_| (125, String::from("not enough enclave memory for the first process: raise --memory"));
    let task =
        process::new_init(crate::fs::first_files(), crate::fs::first_fs(&params.cwd), cred).map_err(oom)?;
    let result = exec_searching(&task, params);
    result.map_err(|e| match e {
        Errno::ENOENT => (127, format!("{name}: not found (looked in PATH inside the enclave)")),
        Errno::EACCES => (126, format!("{name}: permission denied, or not a regular executable file")),
        Errno::ENOEXEC => (126, format!("{name}: not an x86-64 ELF program and has no '#!' line")),
        Errno::ENOMEM => (125, format!("{name}: out of enclave memory while loading: raise --memory")),
        e => (126, format!("{name}: cannot execute: {e:?}")),
    })?;
    Ok(task)
}

/// Looks the program up in PATH as execvp does.
fn exec_searching(task: &Arc<Task>, params: &LaunchParams) -> Result<()> {
    let run = |path: &[u8]| {
        let absolute =
            if path.starts_with(b"/") { path.to_vec() } else { [&params.cwd[..], b"/", path].concat() };
        crate::loader::exec(task, &absolute, params.argv.clone(), params.envp.clone())
    };
    if params.program.contains(&b'/') {
        return run(&params.program);
    }
    if params.program.is_empty() {
        return Err(Errno::ENOENT);
    }
    let path = params.envp.iter().find_map(|e| e.strip_prefix(b"PATH="));
    let mut denied = false;
    for dir in path.unwrap_or(b"/usr/local/bin:/usr/bin:/bin").split(|b| *b == b':') {
        let dir: &[u8] = if dir.is_empty() { b"." } else { dir };
        let full = [dir, b"/", &params.program].concat();
        match run(&full) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(Errno::EACCES) => denied = true,
            r => return r,
        }
    }
    Err(if denied { Errno::EACCES } else { Errno::ENOENT })
}

/// The first process ended: report and leave.
pub fn finish(status: WaitStatus) -> ! {
    let flags = FLAGS.get();
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
