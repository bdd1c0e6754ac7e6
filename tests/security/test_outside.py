"""Shared directories lead nowhere else: attacks by programs, links that the host makes meanwhile, what is saved."""

from __future__ import annotations

import ctypes
import os
import shutil
import threading
from pathlib import Path

import pytest

from framework import cc, enclave

SOURCES = Path(__file__).parent / "src"
EXCHANGE = 2


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What programs want to reach."""
    there = tmp_path / "outside" / "c"
    (there / "sub").mkdir(parents=True)
    (there / "empty").mkdir()
    for name in ("secret", "victim"):
        (there / name).write_text("SECRET outside")
        (there / name).chmod(0o600)
    (there / "link").symlink_to("secret")
    (there / "prog").write_text("#!/bin/sh\nexit 42\n")
    (there / "prog").chmod(0o755)
    return tmp_path / "outside"


def state(top: Path) -> list[object]:
    """All that can be changed of a tree."""

    def facts(path: Path) -> tuple[object, ...]:
        s = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        return (str(path), s.st_mode, s.st_uid, s.st_gid, s.st_nlink, s.st_size, s.st_mtime_ns, s.st_ctime_ns, content)

    return [facts(path) for path in sorted((top, *top.rglob("*")))]


def test_what_is_open_leads_nowhere_else(tmp_path: Path, outside: Path) -> None:
    share = tmp_path / "share"
    share.mkdir()
    before = state(outside)
    program = cc(SOURCES / "outside.c", "-static", "-w")
    result = enclave([program, share, outside], options=["-v", str(share)])
    assert result.text == "done\n", result.errors[-2000:]
    assert state(outside) == before


def exchange(a: Path, b: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    at = os.open(a.parent, os.O_PATH)
    try:
        if libc.renameat2(at, os.fsencode(a.name), at, os.fsencode(b.name), EXCHANGE):
            raise OSError(ctypes.get_errno(), "renameat2")
    finally:
        os.close(at)


def test_links_that_the_host_makes_meanwhile(tmp_path: Path, outside: Path) -> None:
    """One of the two names is the directory, the other one a link that leads outside: they change places all the time."""
    share = tmp_path / "share"
    (share / "d").mkdir(parents=True)
    (share / "l").symlink_to(outside / "c")
    before = state(outside)
    done = threading.Event()
    times = 0

    def swap() -> None:
        nonlocal times
        while not done.is_set():
            exchange(share / "d", share / "l")
            times += 1

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        program = cc(SOURCES / "swapped.c", "-static", "-w")
        result = enclave([program, "500"], cwd=share, options=["-v", str(share)], timeout=300)
    finally:
        done.set()
        swapping.join()
    assert result.text == "done\n", result.errors[-2000:]
    assert times > 500
    assert state(outside) == before


def test_what_is_saved_leads_nowhere_else(tmp_path: Path, outside: Path) -> None:
    """The directory of --keep is shared, and has a link where a directory is saved."""
    kept = tmp_path / "share" / "kept"
    kept.mkdir(parents=True)
    before = state(outside)
    script = f"ln -s {outside}/c kept/srv; echo changed > /srv/secret; echo changed > /srv/new; echo here > /opt/good"
    options = ["-v", str(kept.parent), "--keep", str(kept)]
    result = enclave(["sh", "-c", script], cwd=kept.parent, options=options)
    assert result.returncode == 0
    assert "--keep: /srv/new" in result.errors
    assert (kept / "opt/good").read_text() == "here\n"
    assert state(outside) == before


def test_memory_of_the_enclave_is_not_shared() -> None:
    """In simulation it is a file of the host, which sharing everything would show."""
    script = "for f in self/mem self/maps version; do cat /host/proc/$f; done; ls -d /host/proc/self/mem"
    result = enclave(["sh", "-c", script], options=["-v", "/:/host:ro"])
    assert result.text == "/host/proc/self/mem\n"
    assert result.errors.count("Permission denied") == 3


def test_sources_may_be_links(tmp_path: Path) -> None:
    """The user's own path is followed, once: what the mount shows stays what it was."""
    real, other = tmp_path / "real", tmp_path / "other"
    real.mkdir()
    other.mkdir()
    (tmp_path / "way").symlink_to("real")
    (tmp_path / "file").write_text("content")
    (tmp_path / "name").symlink_to("file")
    script = "echo 1 > /mnt/one; cat /some; echo more >> /some; chmod 640 /some; mkdir /mnt/d; echo 2 > /mnt/d/two"
    result = enclave(["sh", "-c", script], options=["-v", f"{tmp_path}/way:/mnt", "-v", f"{tmp_path}/name:/some"])
    assert (result.text, result.errors) == ("content", "")
    assert (real / "one").read_text() == "1\n"
    assert (real / "d/two").read_text() == "2\n"
    assert (tmp_path / "file").read_text() == "contentmore\n"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("options", "script"),
    [
        (["--core", "{share}"], "ln -s ../precious core.sh.$$; kill -SEGV $$"),
        (
            ["--profile", "{share}/out.json"],
            "rm out.json; ln -s ../precious out.json; for i in 1 2 3; do ls / >/dev/null; done",
        ),
        (
            ["--strace=-ff -o {share}/log"],
            "for i in 1 2 3 4 5 6 7 8 9; do ln -sf ../precious log.$i; done; ls >/dev/null; true",
        ),
        (["--strace=-ff -o {share}/log"], "rm -f log.*; mkfifo log.2 log.3 log.4 log.5; ls >/dev/null; true"),
    ],
    ids=["core", "profile", "strace", "fifo"],
)
def test_what_the_host_writes_follows_no_link_of_a_program(tmp_path: Path, options: list[str], script: str) -> None:
    share, precious = tmp_path / "share", tmp_path / "precious"
    share.mkdir()
    precious.write_text("precious")
    named = [option.format(share=share) for option in options]
    enclave(["/bin/sh", "-c", script], options=["-v", str(share), *named], cwd=share)
    assert precious.read_text() == "precious"


def test_names_of_programs_do_not_reach_the_terminal_as_they_are(tmp_path: Path) -> None:
    program = tmp_path / "x\x1b]0;title\x07\nocclum: forged"
    source = tmp_path / "faults.c"
    source.write_text("int main(void) { *(volatile int *)16 = 1; }")
    shutil.copy2(cc(source, "-static", "-w"), program)
    result = enclave([program], options=["--crash-report", "--core", str(tmp_path)])
    assert "\x1b" not in result.errors
    assert "\nocclum: forged" not in result.errors
    assert "forged" in result.errors
