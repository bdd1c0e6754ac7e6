"""Proof that guests run inside: no host process executes a guest's file or maps it executable, and nothing is left."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from framework import Watch, cc, compiler, enclave, enclave_argv, environment

GUEST = Path(__file__).parents[1] / "guest" / "src"


def watched(argv: list[str | Path]) -> tuple[int, bytes, Watch]:
    """Runs `argv` in an enclave under a watch of all its host processes."""
    command = [os.fspath(a) for a in enclave_argv(argv)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(), start_new_session=True) as process:
        with Watch(process.pid) as watch:
            output, _ = process.communicate(timeout=60)
    return process.returncode, output, watch


def test_no_host_process_maps_the_guest_executable() -> None:
    program = cc(GUEST / "process.c", "-static", "-w", "-pthread")
    status, output, watch = watched([program])
    assert status == 0
    assert b"child: exit 51" in output
    assert watch.samples > 3
    assert watch.executable, "the watch saw nothing at all"
    assert str(program) not in watch.executable


def test_no_shell_runs_outside() -> None:
    shell = os.path.realpath(compiler("bash"))
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do (echo $i | cat | wc -c); sleep 0.02; done"
    status, output, watch = watched([shell, "-c", script])
    assert (status, len(output.splitlines())) == (0, 10)
    outside = {Path(p).name for p in watch.executable}
    assert not outside & {Path(shell).name, "cat", "wc", "sleep", "dash"}
    assert len(watch.processes) <= 2, "guest processes are not host processes"


def test_long_running_guest() -> None:
    """The same, looked at by hand while the guest sleeps and computes."""
    program = cc(GUEST / "many.c", "-static", "-w", "-pthread")
    command = [os.fspath(a) for a in enclave_argv([program, "alive_at_once"])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(), start_new_session=True) as process:
        seen = 0
        while process.poll() is None:
            for maps in Path("/proc").glob("[0-9]*/maps"):
                try:
                    text = maps.read_text()
                except OSError:
                    continue
                seen += "occlum" in text
                for line in text.splitlines():
                    assert not (str(program) in line and "x" in line.split()[1]), line
        assert process.stdout is not None
        assert b"200 alive" in process.stdout.read()
        assert seen > 0


def running_occlum() -> set[int]:
    """Host processes whose command line is the tool's."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(w.endswith(b"/occlum") for w in words[:2]) and b"try" in words:
            found.add(int(path.parent.name))
    return found


def test_nothing_is_left_behind() -> None:
    before_processes, before_files = running_occlum(), set(Path("/tmp").iterdir()) | set(Path("/dev/shm").iterdir())
    assert enclave(["sh", "-c", "sleep 100 & sleep 100 & exit 3"], timeout=20).returncode == 3
    command = [os.fspath(a) for a in enclave_argv(["sleep", "100"])]
    for signal, status in ((15, 143), (2, 130), (9, -9)):
        with subprocess.Popen(command, env=environment(), start_new_session=True) as process:
            time.sleep(0.5)
            process.send_signal(signal)
            assert process.wait(timeout=20) in (status, -signal)
    time.sleep(0.2)
    assert running_occlum() <= before_processes
    after = set(Path("/tmp").iterdir()) | set(Path("/dev/shm").iterdir())
    assert not [p for p in after - before_files if "occlum" in p.name]
