"""Proof that guests run inside: no host process executes a guest's file or maps it executable, and nothing is left."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from framework import Watch, cc, compiler, enclave_argv, environment

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


def session(leader: int) -> set[str]:
    """What is alive of the session that `leader` started."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = path.read_text().rsplit(")", 1)
        except OSError:
            continue
        state, _, _, number = rest.split()[:4]
        if int(number) == leader and state != "Z":
            found.add(name)
    return found


def ends(argv: list[str], signal: int | None, expected: set[int]) -> None:
    """Starts `argv` in an enclave, sends the signal if there is one, and looks for what is left."""
    command = [os.fspath(a) for a in enclave_argv(argv)]
    with subprocess.Popen(command, env=environment(), start_new_session=True) as process:
        if signal is not None:
            time.sleep(0.7)
            process.send_signal(signal)
        assert process.wait(timeout=20) in expected
    deadline = time.monotonic() + 5
    while session(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert session(process.pid) == set()


def test_background_processes_end_with_the_first() -> None:
    ends(["sh", "-c", "sleep 100 & sleep 100 & exit 3"], None, {3})


@pytest.mark.parametrize(("signal", "status"), [(15, 143), (2, 130), (1, 129), (9, -9)])
def test_signals_leave_nothing_behind(signal: int, status: int) -> None:
    ends(["sleep", "100"], signal, {status, -signal})
