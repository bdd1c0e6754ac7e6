#!/usr/bin/env python3
"""Builds the measured enclave image. The only place that knows how it is linked.

The image is a static, non-relocatable ELF file at a fixed address. Paths are remapped and build ids left out, so
that two checkouts give the same bytes; the result is checked for instructions an enclave can't execute.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WRAPPER = ROOT / "tools" / "rustc_enclave.py"
TARGET = "x86_64-unknown-linux-gnu"
IMAGE_BASE = 0x2000_0000
# What every CPU with SGX2 has, named here because an enclave cannot ask with CPUID: AES, carry-less multiplication and
# SHA for sealed storage. SSE only, not AVX: the upper vector halves belong to programs while the LibOS runs. The
# ciphers of stores are the exception (rustc_enclave.py).
CPU_FEATURES = ("crt-static", "ssse3", "sse4.1", "aes", "pclmulqdq", "sha")
LINK_ARGS = (
    "-nostartfiles",
    "-nostdlib",
    "-static",
    "-no-pie",
    f"-Wl,--image-base={IMAGE_BASE:#x}",
    "-Wl,-z,max-page-size=4096",
    "-Wl,-z,noexecstack",
    "-Wl,-z,norelro",
    "-Wl,--build-id=none",
    "-Wl,--gc-sections",
    "-Wl,-e,occlum_rt_entry",
)
# What faults in an enclave, or would leave the sandbox's contract. ENCLU is the exit itself.
FORBIDDEN = re.compile(
    r"^(syscall|sysenter|sysexit|sysret|int|into|iret\w*|cpuid|in|out|ins\w|outs\w|rdtscp?|rdpmc|hlt|cli|sti"
    r"|lcall\w*|ljmp\w*|lret\w*|retf\w*|vmcall|vmmcall|xend|xbegin|getsec|rdmsr|wrmsr)$"
)
PREFIXES = {"rep", "repz", "repnz", "lock", "data16", "notrack"}
ALLOWED = {"occlum_rt_rdtsc": {"rdtsc"}}


def rustflags() -> str:
    """The compiler flags, unit-separated as CARGO_ENCODED_RUSTFLAGS wants them."""
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    flags = [
        "-Crelocation-model=static",
        "-Ctarget-feature=" + ",".join(f"+{feature}" for feature in CPU_FEATURES),
        "-Cforce-frame-pointers=no",
        # Nothing reads it: cargo builds again what an edit of the wrapper may have changed. It changes no byte of code.
        f'--cfg=compiled_by="{hashlib.sha256(WRAPPER.read_bytes()).hexdigest()[:16]}"',
        f"--remap-path-prefix={ROOT}=/occlum",
        f"--remap-path-prefix={home}=/cargo",
    ]
    flags += [f"-Clink-arg={arg}" for arg in LINK_ARGS]
    return "\x1f".join(flags)


def build(profile: str, target_dir: Path, example: str | None) -> Path:
    """Runs cargo; returns the linked file."""
    env = dict(os.environ, CARGO_ENCODED_RUSTFLAGS=rustflags(), CARGO_INCREMENTAL="0")
    if not os.access(WRAPPER, os.X_OK):  # Not all that carries sources keeps modes.
        WRAPPER.chmod(0o755)
    env["RUSTC_WRAPPER"] = str(WRAPPER)
    env.pop("RUSTFLAGS", None)
    what = ["-p", "occlum-blob"]
    if example:
        what = ["-p", "occlum-rt", "--features", "image,unverified", "--example", example]
    command = ["cargo", "build", "--profile", profile, "--target", TARGET]
    command += ["--target-dir", str(target_dir), *what]
    subprocess.run(command, check=True, cwd=ROOT, env=env)
    folder = target_dir / TARGET / profile
    return folder / "examples" / example if example else folder / "occlum-libos"


def forbidden_instructions(image: Path) -> list[str]:
    """Instructions of the image that must not be there, as `function: instruction`."""
    command = ["objdump", "-d", "--no-show-raw-insn", "-Mintel", str(image)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found, function, before = [], "?", ""
    for line in text.splitlines():
        if line.endswith(">:"):
            function = line[line.index("<") + 1 : -2]
            continue
        _, tab, rest = line.partition("\t")
        words = rest.split()
        if not tab or not words:
            continue
        name = next((w for w in words if w not in PREFIXES), words[-1])
        # The linker pads behind code that does not fall through with int3.
        padding = name == "int3" and re.match(r"(ret|jmp|ud2|int3|call|nop|data16|xchg|cs)", before)
        before = name
        if FORBIDDEN.match(name) and not padding and name not in ALLOWED.get(function, set()):
            found.append(f"{function}: {rest.strip()}")
    return found


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="enclave", help="cargo profile (default: enclave)")
    parser.add_argument("--target-dir", type=Path, default=ROOT / "target", help="cargo target directory")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "enclave" / "occlum-libos.elf")
    parser.add_argument("--example", help="build this example of occlum-rt instead (tests of the runtime)")
    parser.add_argument("--no-check", action="store_true", help="do not look for forbidden instructions")
    options = parser.parse_args()
    linked = build(options.profile, options.target_dir.resolve(), options.example)
    if not options.no_check and shutil.which("objdump") is None:
        print("no objdump: forbidden instructions are not looked for", file=sys.stderr)
        options.no_check = True
    if not options.no_check and (bad := forbidden_instructions(linked)):
        print("the image contains forbidden instructions:", *bad, sep="\n  ", file=sys.stderr)
        return 1
    options.output.parent.mkdir(parents=True, exist_ok=True)
    part = options.output.with_name(options.output.name + f".{os.getpid()}")
    shutil.copyfile(linked, part)
    part.rename(options.output)
    print(options.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
