//! One run under a hostile host: `hostile IMAGE CLASS[:OCALL] SEED SECONDS [-b DIRECTORY]... [-o DIRECTORY]... [-p PORT] PROGRAM
//! [ARG...]`. `-b` shares a directory, `-o` for reading only. Behind the port: `-n` leaves the enclave without a network, `-s` traces system calls, `-t` says that standard input is a terminal, `-r` keeps the enclave without a
//! first program and gives it orders, of which one starts the program, again and again; `-l` makes an instance of it, with
//! sealed layers in the directory.
//! The last line on standard error says what was changed and how it ended; `tools/hostile_host.py` judges it.
//! `hostile --list` prints every CLASS:OCALL there is.
use occlum_enclave_abi::{
    CONFIG_DEBUG, CONFIG_HOST_VIEW, Config, FLAG_NET_HOST, FLAG_NET_NONE, FLAG_REPORT_CHANGES, FLAG_RESIDENT,
    FLAG_STATS, FLAG_TTY0, JobStart, LaunchParams, MOUNT_READ_ONLY, Mount, MountKind, Ocall, Order,
    PINNED_ROOT, TRACE_ARGUMENTS, TRACE_PATHS, Target, TraceOptions,
};
use occlum_pal::control::Control;
use occlum_pal::hostile::{self, Class, Plan};
use occlum_pal::{ExitStatus, Publish, RunOptions};
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

const VCPUS: u32 = 2;
/// Orders that wait at most, so that memory is not what stops the enclave.
const PAUSE_EVERY: u64 = 64;
/// After so many the enclave is to end.
const ORDERS: u64 = 6000;

/// Sealed layers of an instance: each asks for a key and a lock when it is mounted, that is at the start.
const LAYERS: usize = 32;

/// The tree of this machine, read-only, and layers: targets, kinds, names of the sources.
fn mounts() -> Vec<Mount> {
    let row = |target: String, kind, source: &str, options: &str| Mount {
        target: target.into_bytes(),
        kind,
        flags: if kind == MountKind::HostFs { MOUNT_READ_ONLY } else { 0 },
        source: source.as_bytes().to_vec(),
        options: options.as_bytes().to_vec(),
        root: [0; PINNED_ROOT],
    };
    let layer = |n: usize| row(format!("/mnt/{n}"), MountKind::SealedLayer, &n.to_string(), "size=1048576");
    let mut mounts =
        vec![row("/".into(), MountKind::HostFs, "root", ""), row("/mnt".into(), MountKind::RamFs, "", "")];
    mounts.extend((0..LAYERS).map(layer));
    mounts
}

/// Where the sources of `mounts` are.
fn sources(directory: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let layer =
        |n: usize| (n.to_string().into_bytes(), [directory, format!("/layer-{n}").as_bytes()].concat());
    let mut sources = vec![(b"root".to_vec(), b"/".to_vec())];
    sources.extend((0..LAYERS).map(layer));
    sources
}

/// `TraceOptions` that tell of every call.
fn every_call() -> Vec<u8> {
    const STRINGS: u32 = 32;
    let head = [TRACE_ARGUMENTS | TRACE_PATHS, STRINGS].map(u32::to_le_bytes).concat();
    let mut wire = [&head[..], &[0; 12]].concat();
    wire.resize(TraceOptions::SIZE, 0xff);
    wire
}

/// Orders of every kind, until the enclave has ended.
fn give_orders(control: Arc<Control>, argv: Vec<Vec<u8>>) {
    let start = move |job| JobStart {
        job,
        program: argv[0].clone(),
        argv: argv.clone(),
        envp: vec![b"PATH=/usr/bin:/bin".to_vec()],
        cwd: b"/".to_vec(),
        ..JobStart::default()
    };
    std::thread::spawn(move || {
        for n in 1..ORDERS {
            let order = match n % 16 {
                0 => Order::Start(start(n)),
                1 => Order::Watch(n % 32 == 1),
                2 => Order::Start(JobStart { program: b"/none".to_vec(), ..start(n) }),
                k if k % 2 == 0 => Order::Query { id: n, what: (n % 5) as u32 / 2 },
                _ => Order::Signal { job: n / 16 * 16, target: Target::Session, signal: 1 + (n % 31) as u32 },
            };
            if !control.order(&order) {
                return;
            }
            if n % PAUSE_EVERY == 0 {
                std::thread::sleep(std::time::Duration::from_millis(1));
                while control.next_event().is_some_and(|e| e.kind != 0) {}
            }
        }
        control.order(&Order::End);
    });
}

/// Every class with every call that has a result of it.
fn list() {
    let calls: Vec<Ocall> = (0..256).filter_map(Ocall::from_nr).collect();
    for (name, class) in Class::ALL {
        calls.iter().filter(|c| class.concerns(**c)).for_each(|c| println!("{name}:{}", c.name()));
    }
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("--list") {
        return list();
    }
    let mut args = std::env::args_os().skip(1).map(OsStringExt::into_vec).peekable();
    let mut next = |what: &str| args.next().unwrap_or_else(|| panic!("no {what}"));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let image = std::fs::read(text(next("image"))).expect("the image");
    let name = text(next("class"));
    let (name, call) = name.split_once(':').map_or((&name[..], None), |(n, c)| (n, Some(c)));
    let class = Class::ALL.iter().find(|(n, _)| *n == name).expect("a class").1;
    let only = call.map(|c| (0..256).filter_map(Ocall::from_nr).find(|o| o.name() == c).expect("an OCALL"));
    let seed: u64 = text(next("seed")).parse().expect("a number");
    let seconds: u64 = text(next("time limit")).parse().expect("a number");
    let mut binds = Vec::new();
    for (option, rights) in [(b"-b", b"rw"), (b"-o", b"ro")] {
        while args.next_if(|a| a == option).is_some() {
            let directory = args.next().expect("a directory");
            binds.push((directory.clone(), directory, rights.to_vec()));
        }
    }
    let mut publish = Vec::new();
    if args.next_if(|a| a == b"-p").is_some() {
        let port = text(args.next().expect("a port")).parse().expect("a number");
        // The same port for both: what comes back by it has been through the host.
        publish.extend([false, true].map(|datagram| Publish {
            host: String::from("127.0.0.1"),
            port,
            inside: 7000,
            datagram,
        }));
    }
    let mut flags = FLAG_STATS | FLAG_REPORT_CHANGES;
    flags |= args.next_if(|a| a == b"-n").map_or(FLAG_NET_HOST, |_| FLAG_NET_NONE);
    let (mut trace, mut trace_fd) = (Vec::new(), None);
    if args.next_if(|a| a == b"-s").is_some() {
        trace = every_call();
        trace_fd = Some(std::fs::File::create("/dev/null").expect("/dev/null").into_raw_fd());
    }
    flags |= args.next_if(|a| a == b"-t").map_or(0, |_| FLAG_TTY0);
    let control = args.next_if(|a| a == b"-r").map(|_| Control::new().expect("queues"));
    flags |= control.as_ref().map_or(0, |_| FLAG_RESIDENT);
    let is_instance = args.next_if(|a| a == b"-l").is_some();
    let sources = binds.first().filter(|_| is_instance).map_or_else(Vec::new, |(from, ..)| sources(from));
    if is_instance {
        binds.clear();
    }
    let argv: Vec<Vec<u8>> = args.collect();
    if let Some(control) = &control {
        give_orders(control.clone(), argv.clone());
    }
    let params = LaunchParams {
        program: argv[0].clone(),
        argv,
        envp: vec![b"PATH=/usr/bin:/bin".to_vec()],
        cwd: b"/".to_vec(),
        binds,
        sources,
        hostname: b"hostile".to_vec(),
        flags,
        trace,
        ..LaunchParams::default()
    };
    let view = if is_instance { 0 } else { CONFIG_HOST_VIEW };
    let mut o = Config {
        memory_bytes: 256 << 20,
        vcpus: VCPUS,
        max_tasks: 256,
        pid_max: 1000,
        flags: CONFIG_DEBUG | view,
        ..Config::default()
    };
    if is_instance {
        (o.cwd, o.entry_points, o.mounts) = (b"/".to_vec(), vec![b"/".to_vec()], mounts());
    }
    // A resident enclave takes no signals of this process.
    if control.is_none() {
        hostile::terminate_after(std::time::Duration::from_secs(seconds));
    }
    let timeout = Some(std::time::Duration::from_secs(seconds + 3));
    hostile::install(Plan { class, only, seed });
    let run = RunOptions { params, timeout, publish, trace_fd, control, ..RunOptions::default() };
    let outcome = occlum_pal::run(&image, &o.encode(), &run);
    let ended = match outcome.map(|o| o.status) {
        Ok(ExitStatus::Exited(n)) => format!("exited:{n}"),
        Ok(ExitStatus::Signaled(n)) => format!("signaled:{n}"),
        Ok(ExitStatus::TimedOut) => format!("timed-out:{}", hostile::whereabouts(VCPUS).join(",")),
        Ok(ExitStatus::Failed(_)) => "failed".into(),
        Err(e) => format!("refused:{e}"),
    };
    let changed: Vec<String> = hostile::changed().iter().map(|(name, n)| format!("{name}={n}")).collect();
    eprintln!("\nhostile: changed {} ended {ended}", changed.join(","));
}
