"""Seeing inside: what --strace, --profile, --core and crash reports say of programs, beside strace and gdb themselves."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from framework import ROOT, cc, enclave, native

SOURCES = Path(__file__).parent / "src"


def traced(argv: Sequence[str | Path], options: str, tmp_path: Path) -> list[str]:
    """The lines of a trace with strace's options, without the pids."""
    target = tmp_path / "trace"
    enclave([str(a) for a in argv], options=[f"--strace={options} -o {target}"])
    return [re.sub(r"^\d+ +", "", line) for line in target.read_text().splitlines()]


def anonymous(lines: list[str]) -> list[str]:
    """Without addresses, and without the padding that they change."""
    return [re.sub(r" +=", " =", re.sub(r"0x[0-9a-f]{4,}", "POINTER", line)) for line in lines]


def test_lines_are_those_of_strace(tmp_path: Path) -> None:
    program = cc(SOURCES / "seen.c", "-w", "-static")
    log = tmp_path / "native"
    native(["strace", "-o", log, program])

    def from_main(lines: list[str]) -> list[str]:
        first = next(n for n, line in enumerate(lines) if "first" in line)
        return anonymous(lines[first:])

    expected, found = from_main(log.read_text().splitlines()), from_main(traced([program], "-f", tmp_path))
    assert found == expected
    assert len(found) > 50


def test_filters_paths_times_and_status(tmp_path: Path) -> None:
    script = ["busybox", "sh", "-c", "head -n 1 /etc/hostname; cat /nonexistent; :"]
    files = traced(script, "-e trace=%file", tmp_path)
    assert any(line.startswith("open") and "/etc/hostname" in line for line in files)
    assert not any(line.startswith(("read(", "brk(", "close(")) for line in files)
    others = traced(script, "-e trace=!%file,%memory", tmp_path)
    assert any(line.startswith("read(") for line in others)
    assert not any(line.startswith(("open", "mmap(", "brk(")) for line in others)
    assert all("= -1" in line for line in traced(script, "-Z -qq", tmp_path) if line.startswith("open"))
    shown = traced(script, "-y -T -ttt -e read,openat,open", tmp_path)
    assert any(re.match(r"\d{10}\.\d{6} read\(\d</etc/hostname>.* <\d+\.\d{6}>$", line) for line in shown)
    one = traced(script, "-P /etc/hostname", tmp_path)
    assert any(line.startswith("read(") for line in one)
    assert not any("nonexistent" in line for line in one)


def test_signals_ends_and_calls_that_wait(tmp_path: Path) -> None:
    script = ["bash", "-c", "trap 'echo got' USR1; (sleep 0.2; kill -USR1 $$) & wait; kill -TERM $$"]
    lines = traced(script, "-f", tmp_path)
    text = "\n".join(lines)
    assert re.search(r"--- SIGUSR1 \{si_signo=SIGUSR1, si_code=SI_USER, si_pid=\d+, si_uid=\d+\} ---", text)
    assert "--- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED" in text
    assert "<unfinished ...>" in text
    assert re.search(r"<\.\.\. wait4 resumed>.*= ", text)
    assert lines[-1] == "+++ killed by SIGTERM +++"
    quiet = "\n".join(traced(script, "-e signal=!SIGCHLD -e trace=none", tmp_path))
    assert "SIGUSR1" in quiet
    assert "SIGCHLD" not in quiet


def test_a_file_for_each_process(tmp_path: Path) -> None:
    options = [f"--strace=-ff -e execve -o {tmp_path}/trace"]
    enclave(["busybox", "sh", "-c", "busybox true; busybox true; :"], options=options)
    assert len(list(tmp_path.glob("trace.*"))) >= 2


def test_summary_counts_what_lines_show(tmp_path: Path) -> None:
    argv = ["busybox", "ls", "/", "/nonexistent"]
    lines = traced(argv, "-f", tmp_path)
    table = traced(argv, "-c -S name", tmp_path)
    for name in ("write", "lstat", "stat", "open"):
        calls = sum(line.startswith(f"{name}(") for line in lines)
        row = next((line.split() for line in table if line.split()[-1:] == [name]), None)
        assert (int(row[3]) if row else 0) == calls
    names = [line.split()[-1] for line in table[2:-2]]
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ("-e trace=nonsense", "no such name"),
        ("-e trace=%nonsense", "no such class"),
        ("-e inject=read", "not supported"),
        ("-s many", "not a number"),
        ("-ff", "needs a file"),
        ("--nonsense", "option"),
    ],
)
def test_bad_options_are_named(options: str, cause: str) -> None:
    result = enclave(["true"], options=[f"--strace={options}"])
    assert result.returncode == 125
    assert cause in result.errors


def test_classes_match_the_types_of_the_table() -> None:
    """%file and %desc are lists; the table in the enclave says which calls have paths and descriptors."""
    script = """
    import sys
    from occlum._host import launch
    from occlum.trace import options, records, session
    from occlum.trace.classes import CLASSES
    class Rows:
        rows = {}
        def wants(self, joined): joined.calls.add(0)
        def take(self, record):
            if record.kind == records.Kind.ROW:
                name, _, rest = record.body[4:].decode().partition("(")
                self.rows[name] = {a.split(":")[1] for a in rest.rstrip(")").split(",") if a}
        def close(self): pass
    rows = Rows()
    with session.session([rows]) as fd:
        job = launch.Launch(argv=["true"], trace=session.options_of([rows]))
        launch.run(launch.EnclaveOptions(), job, trace_fd=fd)
    assert len(rows.rows) > 250, len(rows.rows)
    for name, types in rows.rows.items():
        assert ("path" in types) <= (name in CLASSES["file"]), name
        assert bool({"fd", "dirfd"} & types) <= (name in CLASSES["desc"]), name
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_release_enclave_tells_anything(tmp_path: Path) -> None:
    """What the measured configuration does not allow, the host cannot ask for."""
    script = """
    import dataclasses, sys
    from occlum import _native
    from occlum._host import launch
    from occlum._host.image import read_image
    from occlum.config import page
    from occlum.trace import options, session
    seen = []
    class Reader:
        def wants(self, joined):
            joined.flags = 63
            joined.calls |= set(range(512))
            joined.signals |= set(range(1, 65))
            joined.sample_ns, joined.sample_stack = 1000000, 1024
        def take(self, record): seen.append(record)
        def close(self): pass
    for flags in (page.DEBUG | page.HOST_VIEW, page.HOST_VIEW):
        config = page.Config(memory_bytes=1 << 28, vcpus=1, max_tasks=64, pid_max=1000, cfi=0, flags=flags)
        with session.session([Reader()]) as fd:
            job = launch.Launch(argv=["bash", "-c", "kill -SEGV $$"], trace=session.options_of([Reader()]))
            outcome = _native.run(read_image(), config.encode(), job.to_native(), trace_fd=fd)
        print(outcome.kind, outcome.value, bool(seen))
        seen.clear()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["signaled 11 True", "signaled 11 False"], done.stderr


def dies(*flags: str) -> Path:
    return cc(SOURCES / "dies.c", "-w", "-O1", "-g", "-pthread", *flags)


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("read", "SIGSEGV (SEGV_MAPERR) reading 0x0: nothing is mapped there"),
        ("jump", "SIGSEGV (SEGV_MAPERR) executing 0x1234"),
        ("divide", "SIGFPE (FPE_INTDIV)"),
        ("trap", "SIGILL"),
        ("abort", "SIGABRT"),
    ],
)
@pytest.mark.parametrize("static", [True, False], ids=["static", "dynamic"])
def test_crash_report_names_cause_and_callers(kind: str, cause: str, static: bool) -> None:
    program = dies(*(["-static"] if static else []))
    result = enclave([program, kind], options=["--crash-report"])
    assert result.returncode in (128 + 11, 128 + 8, 128 + 4, 128 + 6)
    report = result.errors
    assert cause in report
    backtrace = [line.split()[3] for line in report.splitlines() if re.match(r"occlum: +#\d", line)]
    names = [name.split("+")[0] for name in backtrace]
    # As gdb would: three times nested, called by compare, which qsort called for main.
    assert names.count("nested") == 3, report
    assert names.index("nested") < names.index("compare") < names.index("main"), report
    assert re.search(r"rip 0*[0-9a-f]+", report)
    assert "[stack]" in report


def test_reports_are_for_the_program_itself_unless_asked() -> None:
    program = dies()
    quiet = enclave([program, "read"])
    assert "crash" not in quiet.errors
    child = enclave([program, "child"], options=["--no-crash-report"])
    assert child.text == "11 0\n"
    assert "crash" not in child.errors
    everyone = enclave([program, "child"], options=["--crash-report"])
    assert "crash: " in everyone.errors
    assert "crash" not in enclave([program, "handled"], options=["--crash-report"]).errors


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed (tools/debian-packages.txt)")
@pytest.mark.parametrize("flags", [("-static",), ("-pie", "-fPIE")], ids=["static", "pie"])
def test_gdb_opens_the_core(flags: tuple[str, ...], tmp_path: Path) -> None:
    program = dies(*flags)
    core = tmp_path / "core"
    result = enclave([program, "read"], options=["--core", str(core)])
    assert result.returncode == 128 + 11
    commands = ["info threads", "thread apply all bt", "print values", "info registers rip", "x/i $rip", "info auxv"]
    options = [word for command in commands for word in ("-ex", command)]
    done = subprocess.run(
        ["gdb", "-batch", "-nx", *options, str(program), str(core)], capture_output=True, text=True, check=False
    )
    text = done.stdout
    assert "terminated with signal SIGSEGV" in text, done.stderr
    assert text.count("(LWP ") >= 3
    for function in ("fail", "nested (depth=depth@entry=2", "compare", "main", "sleeps", "spins"):
        assert f"{function}" in text, text
    assert "AT_SYSINFO_EHDR" in text
    notes = native(["readelf", "-n", core]).text
    for note in ("PRSTATUS", "PRPSINFO", "AUXV", "FILE", "FPREGSET", "SIGINFO", "X86_XSTATE"):
        assert note in notes


def test_cores_of_children_go_to_a_directory(tmp_path: Path) -> None:
    result = enclave([dies(), "child"], options=["--core", str(tmp_path)])
    assert result.text == "11 1\n"
    assert [path.name.rsplit(".", 1)[0] for path in tmp_path.iterdir()] == [f"core.{dies().name[:15]}"]


def profile_of(tmp_path: Path, name: str, argv: list[str], *options: str) -> Path:
    path = tmp_path / name
    assert enclave(argv, options=["--profile", str(path), *options], timeout=120).returncode == 0
    return path


def test_profile_finds_where_the_time_goes(tmp_path: Path) -> None:
    program = cc(SOURCES / "busy.c", "-O1")
    collapsed = profile_of(tmp_path, "p.txt", [str(program)], "--profile-frequency", "499")
    time: dict[str, int] = {}
    for line in collapsed.read_text().splitlines():
        stack, count = line.rsplit(" ", 1)
        frames = stack.split(";")
        if "main" in frames:
            assert frames[0].startswith(program.name)
            assert frames.index("main") < len(frames) - 1
            time[frames[-1]] = time.get(frames[-1], 0) + int(count)
    total = sum(time.values())
    assert total > 50
    # Three quarters and one quarter of the work, by construction.
    assert 0.6 < time["hot"] / total < 0.9, time
    assert 0.1 < time["warm"] / total < 0.4, time


def test_speedscope_profile_has_a_profile_for_each_process(tmp_path: Path) -> None:
    program = cc(SOURCES / "busy.c", "-O1")
    path = profile_of(tmp_path, "p.json", ["bash", "-c", f"{program} & {program}; wait"])
    content = json.loads(path.read_text())
    assert content["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    busy = [p for p in content["profiles"] if p["name"].startswith(program.name)]
    assert len(busy) == 2
    for profile in busy:
        assert profile["endValue"] == sum(profile["weights"])
        assert len(profile["samples"]) == len(profile["weights"])
        frames = content["shared"]["frames"]
        assert {"hot", "main"} <= {frames[n]["name"] for sample in profile["samples"] for n in sample}


def test_nothing_is_imported_for_tracing_unless_it_is_asked_for() -> None:
    script = "import sys; import occlum.cli.try_; print([m for m in sys.modules if m.startswith('occlum.trace')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"
