"""`occlum.aio`, `EnclaveExecutor`, `Enclave.fs`, `events`, `stats` and the types."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import io
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

import occlum
from framework import ROOT
from occlum import aio
from occlum.enclave import Enclave
from occlum.events import ProcessEnded, ProcessStarted
from occlum.executor import RemoteTraceback, WorkerDied


def test_aio_communicates(enclave: Enclave) -> None:
    async def main() -> tuple[Any, Any]:
        process = await aio.create_subprocess_exec("cat", stdin=aio.PIPE, stdout=aio.PIPE, enclave=enclave)
        output, _ = await process.communicate(b"x" * 3_000_000)
        return output, process.returncode

    assert asyncio.run(main()) == (b"x" * 3_000_000, 0)


def test_aio_streams_lines_and_signals(enclave: Enclave) -> None:
    async def main() -> list[bytes]:
        script = "while read line; do echo got $line; done"
        process = await aio.create_subprocess_shell(script, stdin=aio.PIPE, stdout=aio.PIPE, enclave=enclave)
        assert process.stdin is not None
        assert process.stdout is not None
        lines = []
        for word in (b"one", b"two"):
            process.stdin.write(word + b"\n")
            lines.append(await process.stdout.readline())
        process.terminate()
        assert await process.wait() == -15
        with pytest.raises(ProcessLookupError):
            process.kill()
        process.stdin.close()
        return lines

    assert asyncio.run(main()) == [b"got one\n", b"got two\n"]


def test_aio_runs_many_and_times_out(enclave: Enclave) -> None:
    async def main() -> None:
        runs = [aio.run(["sh", "-c", f"exit {n}"], enclave=enclave) for n in range(30)]
        assert [done.returncode for done in await asyncio.gather(*runs)] == list(range(30))
        with pytest.raises(occlum.TimeoutExpired):
            await aio.run(["sleep", "60"], timeout=0.3, enclave=enclave)
        with pytest.raises(occlum.CalledProcessError):
            await aio.run(["false"], check=True, enclave=enclave)
        with pytest.raises(FileNotFoundError):
            await aio.run(["no-such-program"], enclave=enclave)
        with pytest.raises(ValueError, match="text"):
            await aio.run(["true"], enclave=enclave, text=True)

    asyncio.run(main())


def square(number: int) -> tuple[int, int]:
    """A task that tells which process did it."""
    return number * number, os.getpid()


def test_executor_maps_and_reuses_its_workers(enclave: Enclave) -> None:
    with occlum.EnclaveExecutor(2, enclave=enclave) as executor:
        results = list(executor.map(lambda n: (n * n, os.getpid()), range(20)))
    assert [value for value, _ in results] == [n * n for n in range(20)]
    assert 1 <= len({pid for _, pid in results}) <= 2


def test_executor_brings_exceptions_with_tracebacks(enclave: Enclave) -> None:
    def fails() -> None:
        raise KeyError("reason")

    with occlum.EnclaveExecutor(1, enclave=enclave) as executor:
        with pytest.raises(KeyError, match="reason") as caught:
            executor.submit(fails).result(60)
        assert isinstance(caught.value.__cause__, RemoteTraceback)
        assert "in fails" in str(caught.value.__cause__)
        assert executor.submit(len, "abc").result(60) == 3


def test_executor_survives_a_worker(enclave: Enclave) -> None:
    with occlum.EnclaveExecutor(1, enclave=enclave) as executor:
        with pytest.raises(WorkerDied, match="3"):
            executor.submit(os._exit, 3).result(60)
        assert executor.submit(len, "abc").result(60) == 3


def test_executor_isolates_tasks_by_a_fork(enclave: Enclave) -> None:
    def remember() -> int:
        import builtins

        seen = getattr(builtins, "seen", 0)
        builtins.seen = seen + 1  # type: ignore[attr-defined]
        return int(seen)

    with occlum.EnclaveExecutor(1, enclave=enclave, fork_per_task=True) as executor:
        assert [executor.submit(remember).result(60) for _ in range(3)] == [0, 0, 0]
        with pytest.raises(WorkerDied):
            executor.submit(os.abort).result(60)
    with occlum.EnclaveExecutor(1, enclave=enclave) as executor:
        assert [executor.submit(remember).result(60) for _ in range(3)] == [0, 1, 2]


def test_executor_says_once_why_no_python_fits(enclave: Enclave) -> None:
    with occlum.EnclaveExecutor(1, enclave=enclave, python="/no/such/python") as executor:
        with pytest.raises(occlum.EnclaveError, match="no /no/such/python inside"):
            executor.submit(len, "").result(60)
        with pytest.raises(occlum.EnclaveError, match="no /no/such/python inside"):
            executor.submit(len, "")


def test_executor_refuses_another_version(enclave: Enclave, tmp_path: Path) -> None:
    import pickle
    import struct

    hello = pickle.dumps(((3, 2), "cpython", "3.0"))
    other = tmp_path / "python"
    frame = struct.pack("<Q", len(hello)) + hello
    (tmp_path / "hello").write_bytes(frame)
    other.write_text(f"#!/bin/sh\ncat {tmp_path}/hello; exec sleep 60\n")
    other.chmod(0o755)
    with (
        occlum.EnclaveExecutor(1, enclave=enclave, python=str(other)) as executor,
        pytest.raises(occlum.EnclaveError, match=r"cpython 3\.2"),
    ):
        executor.submit(len, "").result(60)


def test_executor_cancels_and_refuses_after_shutdown(enclave: Enclave) -> None:
    executor = occlum.EnclaveExecutor(1, enclave=enclave)
    first = executor.submit(time.sleep, 0.5)
    rest = [executor.submit(time.sleep, 60) for _ in range(5)]
    assert concurrent.futures.wait([first], 60).done
    executor.shutdown(wait=False, cancel_futures=True)
    assert sum(future.cancelled() for future in rest) >= 4
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(len, "")
    for process in enclave.processes():
        enclave.call(["kill", "-9", str(process.pid)])


def test_files_inside(enclave: Enclave, tmp_path: Path) -> None:
    fs = enclave.fs
    with pytest.raises(FileNotFoundError):
        fs.write_bytes("/sdk/file", b"")
    fs.mkdir("/sdk/deeper")
    fs.write_bytes("/sdk/deeper/../file", b"\0\xff")
    assert fs.read_bytes("/sdk/file") == b"\0\xff"
    fs.write_text("/sdk/deeper/a b\nc", "text")
    (entry,) = fs.list("/sdk/deeper")
    assert (entry.name, entry.size, entry.is_file(), entry.is_dir()) == ("a b\nc", 4, True, False)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_text("content")
    fs.copy_in(tmp_path / "source", "/sdk/copy")
    assert fs.read_text("/sdk/copy/file") == "content"
    fs.copy_out("/sdk/copy", tmp_path / "back")
    assert (tmp_path / "back" / "file").read_text() == "content"
    fs.remove("/sdk")
    assert not fs.exists("/sdk")
    with pytest.raises(FileNotFoundError):
        fs.read_bytes("/sdk")
    with pytest.raises(NotADirectoryError):
        fs.list("/etc/passwd")
    with pytest.raises(FileExistsError):
        fs.copy_out("/etc/passwd", tmp_path / "back")


def test_what_comes_out_stays_below_its_target(enclave: Enclave, tmp_path: Path) -> None:
    enclave.run("mkdir -p /evil && ln -s /etc /evil/link && ln -s ../../../etc/passwd /evil/up", shell=True, check=True)
    with pytest.raises(Exception, match=r"link|outside"):
        enclave.fs.copy_out("/evil", tmp_path / "out")
    assert not (tmp_path / "out" / "link").exists()


def _archive(*members: tuple[str, bytes, str]) -> bytes:
    """A tar archive: names, types and what links lead to."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind, link in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            content = b"evil" if kind == tarfile.REGTYPE else b""
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize(
    "members",
    [
        (("d", tarfile.DIRTYPE, ""), ("d/../.profile", tarfile.REGTYPE, "")),
        (("d", tarfile.DIRTYPE, ""), ("d/l", tarfile.SYMTYPE, "../.profile"), ("d/l", tarfile.REGTYPE, "")),
        (("d", tarfile.SYMTYPE, "../.profile"), ("d", tarfile.REGTYPE, "")),
        (("d", tarfile.DIRTYPE, ""), ("d/l", tarfile.LNKTYPE, "d/../../.profile"), ("d/l", tarfile.REGTYPE, "")),
    ],
)
def test_a_false_archive_changes_nothing_beside_its_target(
    enclave: Enclave, tmp_path: Path, members: tuple[tuple[str, bytes, str], ...]
) -> None:
    """What packs the files inside is the enclave's own program."""
    (tmp_path / ".profile").write_text("mine")
    enclave.fs.write_bytes("/false.tar", _archive(*members))
    enclave.fs.write_text("/usr/local/bin/tar", "#!/bin/sh\ncat /false.tar\n")
    enclave.run(["chmod", "+x", "/usr/local/bin/tar"], check=True)
    try:
        with contextlib.suppress(Exception):
            enclave.fs.copy_out("/d", tmp_path / "out")
    finally:
        enclave.fs.remove("/usr/local/bin/tar")
    assert (tmp_path / ".profile").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} <= {".profile", "out"}


def test_events_name_starts_ends_and_faults(enclave: Enclave) -> None:
    with enclave.events() as events:
        process = enclave.Popen(["sh", "-c", "kill -SEGV $$"])
        seen = []
        for event in events:
            seen.append(event)
            if isinstance(event, ProcessEnded) and event.pid == process.pid:
                break
        process.wait()
    started = next(event for event in seen if isinstance(event, ProcessStarted))
    assert (started.pid, started.parent, Path(started.program).name) == (process.pid, 1, "dash")
    ended = seen[-1]
    assert isinstance(ended, ProcessEnded)
    assert (ended.returncode, ended.fault) == (-11, 11)


def test_stats_and_processes(enclave: Enclave) -> None:
    with enclave.Popen(["sleep", "60"]) as process:
        (found,) = [one for one in enclave.processes() if one.pid == process.pid]
        assert (found.parent, found.session, Path(found.program).name) == (1, process.pid, "sleep")
        stats = enclave.stats
        assert stats["memory_total"] == 1 << 30
        assert stats["processes"] >= 2
        process.kill()


USERS_CODE = """
import asyncio
import occlum

def words(text: str) -> list[str]:
    done = occlum.run(["tr", " ", "\\n"], input=text, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()

def raw(enclave: occlum.Enclave) -> bytes:
    return enclave.check_output(["true"])

def text_of(enclave: occlum.Enclave) -> str:
    with enclave.Popen(["sort"], stdin=occlum.PIPE, stdout=occlum.PIPE, text=True) as process:
        output: str = process.communicate("b")[0]
        return output

async def later() -> int:
    process = await occlum.aio.create_subprocess_exec("true")
    return await process.wait()

def squares() -> list[int]:
    with occlum.EnclaveExecutor(2) as executor:
        return list(executor.map(lambda n: n * n, range(3)))

def careful() -> int:
    try:
        return occlum.call(["true"])
    except occlum.CalledProcessError as error:
        return error.returncode
    except (occlum.EnclaveLost, occlum.TimeoutExpired):
        return 1

asyncio.run(later())
"""


def test_a_users_code_passes_strict_checks(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(USERS_CODE)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull, "user.py"]
    env = os.environ | {"MYPYPATH": str(ROOT / "python"), "MYPY_CACHE_DIR": str(ROOT / ".cache" / "mypy-user")}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    wrong = USERS_CODE.replace("-> bytes", "-> str", 1)
    (tmp_path / "user.py").write_text(wrong)
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert "Incompatible return value type" in done.stdout
