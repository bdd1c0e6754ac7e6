//! Runs a program in the simulated enclave without Python, for work on the runtime itself:
//! `run IMAGE [-m MIB] [-c VCPUS] [--cfi LEVEL] [--stats] [-p PORT] PROGRAM [ARG...]`.
use occlum_enclave_abi::{
    CONFIG_DEBUG, CONFIG_HOST_VIEW, CfiLevel, Config, FLAG_NET_HOST, FLAG_NET_NONE, FLAG_STATS, FLAG_TTY0,
    LaunchParams,
};
use occlum_pal::{ExitStatus, Publish, RunOptions};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

fn main() {
    let mut args = std::env::args_os().skip(1).peekable();
    let image = std::fs::read(args.next().expect("usage: run IMAGE PROGRAM [ARG...]")).expect("the image");
    let mut o = Config {
        memory_bytes: 2 << 30,
        vcpus: 2,
        max_tasks: 4096,
        pid_max: 32768,
        flags: CONFIG_DEBUG | CONFIG_HOST_VIEW,
        ..Config::default()
    };
    let mut flags = 0;
    let mut publish = Vec::new();
    if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        flags |= FLAG_TTY0 * 7;
    }
    while let Some(a) = args.next_if(|a| a.as_bytes().starts_with(b"-")) {
        match a.as_bytes() {
            b"-m" => o.memory_bytes = args.next().unwrap().to_str().unwrap().parse::<u64>().unwrap() << 20,
            b"-c" => o.vcpus = args.next().unwrap().to_str().unwrap().parse().unwrap(),
            b"-p" => {
                let port = args.next().unwrap().to_str().unwrap().parse().unwrap();
                publish.push(Publish { host: String::new(), port, inside: port, datagram: false });
            }
            b"--no-network" => flags |= FLAG_NET_NONE,
            b"--host-network" => flags |= FLAG_NET_HOST,
            b"--cfi" => {
                let name = args.next().and_then(|a| a.into_string().ok()).expect("a level behind --cfi");
                o.cfi = CfiLevel::from_name(&name).expect("a level: default, strict or shadow-stack");
            }
            b"--stats" => flags |= FLAG_STATS,
            other => panic!("unknown option {}", String::from_utf8_lossy(other)),
        }
    }
    let argv: Vec<Vec<u8>> = args.map(OsStringExt::into_vec).collect();
    let params = LaunchParams {
        program: argv[0].clone(),
        argv,
        envp: std::env::vars_os().map(|(k, v)| [k.as_bytes(), b"=", v.as_bytes()].concat()).collect(),
        cwd: std::env::current_dir().unwrap().into_os_string().into_vec(),
        hostname: b"occlum".to_vec(),
        flags,
        ..LaunchParams::default()
    };
    let outcome =
        occlum_pal::run(&image, &o.encode(), &RunOptions { params, publish, ..RunOptions::default() });
    let outcome = outcome.unwrap_or_else(|e| panic!("{e}"));
    for (k, v) in &outcome.stats {
        if flags & FLAG_STATS != 0 {
            eprintln!("{k}={v}");
        }
    }
    std::process::exit(match outcome.status {
        ExitStatus::Exited(n) => i32::from(n),
        ExitStatus::Signaled(n) => 128 + i32::from(n),
        ExitStatus::TimedOut => 124,
        ExitStatus::Failed(text) => {
            eprintln!("occlum failed: {text}");
            125
        }
    });
}
