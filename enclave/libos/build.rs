//! Assembles and links the vDSO (`src/vdso`) into OUT_DIR: the same bytes wherever it is built.
use std::path::PathBuf;
use std::process::Command;

const SOURCES: [&str; 2] = ["src/vdso/vdso.S", "src/vdso/vdso.lds"];
const LINK: [&str; 7] = [
    "-soname,linux-vdso.so.1",
    "--hash-style=both",
    "--build-id=none",
    "--eh-frame-hdr",
    "-Bsymbolic",
    "--strip-all",
    "-z,max-page-size=4096",
];

fn main() {
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    println!("cargo::rerun-if-env-changed=CC");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("vdso.so");
    let cc = std::env::var("CC").unwrap_or_else(|_| String::from("cc"));
    let [assembly, layout] = SOURCES;
    let mut command = Command::new(&cc);
    command.args(["-nostdlib", "-shared", &format!("-Wl,-T,{layout}")]);
    command.args(LINK.map(|option| format!("-Wl,{option}")));
    let status = command.arg("-o").arg(&out).arg(assembly).status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{cc} did not link the vDSO: {status}"),
        Err(e) => panic!("{cc}, which assembles the vDSO, cannot be run: {e}"),
    }
}
