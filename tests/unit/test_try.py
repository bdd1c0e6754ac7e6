"""`occlum try` end to end: each option does what its help says, and nothing on the host changes or stays behind."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from framework import OCCLUM, Terminal, enclave, environment

SH = ("busybox", "sh", "-c")


def test_exit_status_is_exact(rng: random.Random) -> None:
    for status in (0, 1, 255, rng.randrange(2, 255)):
        assert enclave([*SH, f"exit {status}"]).returncode == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGUSR1])
def test_death_by_signal_is_128_plus_its_number(number: signal.Signals) -> None:
    assert enclave([*SH, f"kill -{number.value} $$"]).returncode == 128 + number


def test_no_such_program_is_127() -> None:
    result = enclave(["no-such-program"])
    assert result.returncode == 127
    assert "no-such-program" in result.errors


def test_a_name_with_a_slash_is_not_looked_for_in_path(tmp_path: Path) -> None:
    assert "no-such-program: not found in PATH inside the enclave" in enclave(["no-such-program"]).errors
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    result = enclave([script])
    assert result.returncode == 127
    assert result.errors == f"occlum: {script}: not found inside the enclave, or its interpreter is not [OC400]\n"
    result = enclave([""])
    assert (result.returncode, result.errors) == (127, "occlum: the program has no name [OC400]\n")


def test_a_working_directory_that_is_not_there_is_126(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for cwd in (tmp_path / "missing", file, file / "below"):
        result = enclave([*SH, "pwd"], options=["-w", str(cwd)])
        assert (result.returncode, result.text) == (126, "")
        assert result.errors == f"occlum: the working directory {cwd} is no directory inside the enclave [OC401]\n"
    (tmp_path / "link").symlink_to(".")
    assert enclave([*SH, "pwd"], options=["-w", str(tmp_path / "link")]).text == f"{tmp_path}\n"


def test_a_store_that_cannot_be_mounted_is_an_error_with_a_code(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.write_bytes(bytes(1 << 20))
    result = enclave(["true"], options=["--sealed", f"{store}:/data"])
    assert result.returncode == 125
    assert result.errors.startswith(f"occlum: sealed store {store} for /data: ")
    assert result.errors.endswith(" [OC312]\n")


def test_a_port_that_is_taken_is_told_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for command in (["try", "-q"], ["start", "-q", "-n", "never-started"]):
            words = [str(OCCLUM), *command, "-p", f"127.0.0.1:{port}:80", *(["true"] if "try" in command else [])]
            done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment())
            assert done.returncode == 125
            cause = f"port {port} of this machine cannot be published: Address already in use"
            assert done.stderr == f"occlum: {cause}; name another one, or stop what uses it [OC310]\n"


def test_statistics_go_to_a_file(tmp_path: Path) -> None:
    out = tmp_path / "stats"
    assert enclave([*SH, "exit 3"], options=["--stats-file", str(out)]).returncode == 3
    assert json.loads(out.read_text())
    # A disk that is full: the program's status counts.
    result = enclave([*SH, "exit 3"], options=["--stats-file", "/dev/full"])
    assert (result.returncode, result.errors) == (
        3,
        "occlum: --stats-file /dev/full: No space left on device [OC106]\n",
    )


def test_what_cannot_be_executed_is_126(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("echo hello\n")
    assert enclave([plain]).returncode == 126


def test_timeout_is_124_and_says_so() -> None:
    start = time.monotonic()
    result = enclave(["sleep", "30"], options=["--timeout", "500ms"])
    assert result.returncode == 124
    assert "--timeout" in result.errors
    assert time.monotonic() - start < 10


def test_timeout_ends_a_host_call_that_blocks(tmp_path: Path) -> None:
    # Nobody reads the trace: once the pipe is full, the vCPU that writes to it hangs in the host.
    trace = tmp_path / "trace"
    os.mkfifo(trace)
    reader = os.open(trace, os.O_RDONLY | os.O_NONBLOCK)
    try:
        result = enclave(["find", "/usr"], options=["--timeout", "2s", f"--strace={trace}"], timeout=30)
    finally:
        os.close(reader)
    assert result.returncode == 124


def test_environment_and_working_directory(tmp_path: Path, rng: random.Random) -> None:
    word = str(rng.random())
    result = enclave(
        [*SH, 'echo "$FROM_CALLER $FROM_OPTION"; pwd'],
        env={"FROM_CALLER": word},
        options=["-e", f"FROM_OPTION={word}", "-w", str(tmp_path)],
    )
    assert result.text == f"{word} {word}\n{tmp_path}\n"


def test_working_directory_is_the_callers(tmp_path: Path) -> None:
    assert enclave([*SH, "pwd"], cwd=tmp_path).text == f"{tmp_path}\n"


def test_arguments_pass_through_exactly() -> None:
    words = ["", " ", "a b", "--quiet", "$HOME", "\n", "\xe4"]
    result = enclave([*SH, 'for word; do echo "<$word>"; done', "name", *words])
    assert result.text == "".join(f"<{word}>\n" for word in words)


def test_nothing_on_the_host_changes(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("before")
    script = "echo after > kept; echo new > new; rm -f kept; mkdir folder; ls"
    assert enclave([*SH, script], cwd=tmp_path).text == "folder\nnew\n"
    assert kept.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]


def test_diff_lists_the_changed_files(tmp_path: Path) -> None:
    result = enclave([*SH, "echo new > one; echo new > two"], cwd=tmp_path, options=["--diff"])
    assert {str(tmp_path / "one"), str(tmp_path / "two")} <= set(result.errors.splitlines())


def test_keep_saves_the_changed_files(tmp_path: Path) -> None:
    (tmp_path / "gone").write_text("old")
    kept = tmp_path / "kept"
    script = "mkdir new; echo text > new/file; chmod 640 new/file; ln -s file new/link; rm gone"
    result = enclave([*SH, script], cwd=tmp_path, options=["--keep", str(kept)])
    assert result.returncode == 0, result.errors
    saved = Path(f"{kept}{tmp_path}") / "new"
    assert (saved / "file").read_text() == "text\n"
    assert (saved / "file").stat().st_mode & 0o777 == 0o640
    assert (saved / "link").readlink() == Path("file")
    assert (kept / ".occlum-removed").read_text() == f"{tmp_path}/gone\n"
    assert (tmp_path / "gone").read_text() == "old"
    again = enclave([*SH, "true"], options=["--keep", str(kept)])
    assert again.returncode != 0
    assert "not empty" in again.errors


def test_bind_shares_a_directory(tmp_path: Path) -> None:
    result = enclave([*SH, "echo inside > /shared/file"], options=["-v", f"{tmp_path}:/shared"])
    assert result.returncode == 0, result.errors
    assert (tmp_path / "file").read_text() == "inside\n"


def test_read_only_bind_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("outside\n")
    script = "cat /shared/file; echo inside > /shared/file"
    result = enclave([*SH, script], options=["-v", f"{tmp_path}:/shared:ro"])
    assert result.text == "outside\n"
    assert result.returncode != 0
    assert (tmp_path / "file").read_text() == "outside\n"


def test_strace_goes_to_the_file(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    result = enclave(["busybox", "echo", "hello"], options=[f"--strace={trace}"])
    assert (result.text, result.errors) == ("hello\n", "")
    text = trace.read_text()
    assert "write(1, " in text
    assert "= 6" in text


def test_strace_goes_to_standard_error() -> None:
    assert "write(1, " in enclave(["busybox", "echo", "hello"], options=["--strace"]).errors


def test_stats_are_printed() -> None:
    assert "translated" in enclave(["busybox", "true"], options=["--stats"]).errors


def test_banner_is_one_line() -> None:
    command = [str(OCCLUM), "try", "busybox", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
    (line,) = done.stderr.splitlines()
    assert "simulation" in line


def test_discarded_files_are_named_on_a_terminal(tmp_path: Path) -> None:
    with Terminal([OCCLUM, "try", *SH, "echo > precious"], environment(), cwd=tmp_path) as terminal:
        terminal.expect("discarded changes to .*precious.*-v")
        assert terminal.wait() == 0


def test_interrupt_leaves_nothing_behind() -> None:
    with Terminal([OCCLUM, "try", *SH, "echo ready; sleep 60"], environment()) as terminal:
        terminal.expect("ready")
        terminal.send("\x03")
        assert terminal.wait() == 130
        with pytest.raises(ProcessLookupError):
            os.killpg(terminal.pid, 0)


def test_closed_terminal_leaves_nothing_behind() -> None:
    terminal = Terminal([OCCLUM, "try", *SH, "echo ready; sleep 60"], environment())
    terminal.expect("ready")
    start = time.monotonic()
    terminal.close()
    assert time.monotonic() - start < 2
    with pytest.raises(ProcessLookupError):
        os.killpg(terminal.pid, 0)


def test_start_is_quick() -> None:
    times = []
    for _ in range(7):
        start = time.monotonic()
        assert enclave(["busybox", "true"]).returncode == 0
        times.append(time.monotonic() - start)
    assert min(times) < 0.2


def test_pids_wrap_below_pid_max() -> None:
    script = "i=0; while [ $i -lt 250 ]; do i=$((i + 1)); (exit 0); done; sh -c 'echo $$'"
    result = enclave(["dash", "-c", script], options=["--pid-max", "100"])
    assert result.returncode == 0, result.errors
    assert 1 < int(result.text) < 100


def test_fork_bomb_is_bounded_by_max_tasks() -> None:
    script = "bomb() { bomb & bomb & wait; }; bomb 2> /dev/null; sleep 1; echo survived"
    result = enclave(["bash", "-c", f"({script}) & sleep 3; echo survived"], options=["--max-tasks", "40"])
    assert "survived" in result.text


def test_out_of_memory_names_the_option() -> None:
    program = "x = [bytearray(1 << 20) for _ in range(3000)]"
    result = enclave(["/usr/bin/python3", "-c", program], options=["-m", "64M"])
    assert result.returncode != 0
    assert "--memory" in result.errors or "MemoryError" in result.errors
