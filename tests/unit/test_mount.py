"""`occlum mount` and `umount`: ordinary programs on a sealed store, through FUSE."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from framework import OCCLUM
from occlum.errors import StoreError
from occlum.keys import generate_key, read_key
from occlum.sealed import Store

pytest.importorskip("mfusepy", reason="an optional package", exc_type=ImportError)


def run(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run([OCCLUM, *map(str, arguments)], capture_output=True, text=True, check=check, timeout=60)


@pytest.fixture(name="mounted")
def _mounted(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Key, store, and an empty directory."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no FUSE here")
    key, store, directory = tmp_path / "key", tmp_path / "store", tmp_path / "directory"
    generate_key(key)
    Store.create(store, 16 << 20, read_key(key)).close()
    directory.mkdir()
    return key, store, directory


def test_programs_of_the_host_use_a_store(mounted: tuple[Path, Path, Path]) -> None:
    key, store, directory = mounted
    run("mount", "--image-key", key, store, directory)
    try:
        script = (
            "set -e; mkdir -p a/b; seq 1 20000 > a/f; ln a/f hard; ln -s a/f soft; mv a/f a/b/g; chmod 640 hard;"
            " touch -d @1000 a/b; truncate -s 100 hard; mkfifo p; cp -a a copy; rm -r a; test ! -e soft; df . >&2;"
            " stat -c '%a %h %s' hard; stat -c %Y copy/b; ls; rmdir copy 2>&1 | grep -o 'not empty'"
        )
        done = subprocess.run(["bash", "-c", script], cwd=directory, capture_output=True, text=True, check=False)
        assert done.stdout.split("\n")[:2] == ["640 1 100", "1000"], done.stderr
        assert done.stdout.split()[4:] == ["copy", "hard", "p", "soft", "not", "empty"]
        assert "in use" in run("fs", "ls", "--image-key", key, store, "/", check=False).stderr
    finally:
        run("umount", directory)
    with Store(store, read_key(key), read_only=True) as opened:
        assert opened.check().findings == []
        assert opened.listdir("/") == ["copy", "hard", "p", "soft"]
        assert opened.stat("/hard").size == 100


def test_times_attributes_and_threads(mounted: tuple[Path, Path, Path]) -> None:
    key, store, directory = mounted
    run("mount", "--image-key", key, store, directory)
    file = directory / "f"
    try:
        file.write_bytes(b"x" * 10_000)
        os.utime(file, ns=(1_000_000_007, 2_000_000_000_000_000_009))
        for size in (0, 5, 5000, 65_536):
            os.setxattr(file, f"user.{size}", bytes(size))
        assert sorted(os.listxattr(file)) == ["user.0", "user.5", "user.5000", "user.65536"]
        assert os.getxattr(file, "user.65536") == bytes(65_536)
        with pytest.raises(FileExistsError):
            os.setxattr(file, "user.5", b"", os.XATTR_CREATE)
        os.removexattr(file, "user.5")
        with pytest.raises(OSError, match="No data"):
            os.getxattr(file, "user.5")
        copies = [directory / f"copy{i}" for i in range(8)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda copy: copy.write_bytes(file.read_bytes()), copies))
        assert {copy.read_bytes() for copy in copies} == {b"x" * 10_000}
        status = file.stat()
        assert (status.st_atime_ns, status.st_mtime_ns) == (1_000_000_007, 2_000_000_000_000_000_009)
        subprocess.run(["touch", "-a", file], check=True)
        assert file.stat().st_atime_ns > 2_000_000_007
        assert file.stat().st_mtime_ns == 2_000_000_000_000_000_009
    finally:
        run("umount", directory)
    run("fs", "limit", "--image-key", key, store, "1M")
    with Store(store, read_key(key)) as opened:
        assert opened.check().findings == []
        assert opened.xattr("/f", "user.65536") == bytes(65_536)
        with pytest.raises(StoreError, match="no space"):
            opened.write_at("/f", 0, bytes(1 << 20))
    run("fs", "limit", "--image-key", key, store, "none")
    with Store(store, read_key(key)) as opened:
        opened.write_at("/f", 0, bytes(1 << 20))


def test_read_only_and_wrong_keys(mounted: tuple[Path, Path, Path], tmp_path: Path) -> None:
    key, store, directory = mounted
    run("mount", "--read-only", "--image-key", key, store, directory)
    try:
        with pytest.raises(OSError, match="Read-only"):
            (directory / "f").touch()
    finally:
        run("umount", directory)
    generate_key(tmp_path / "other")
    refused = run("mount", "--image-key", tmp_path / "other", store, directory, check=False)
    assert refused.returncode == 125
    assert "wrong key" in refused.stderr
    assert "no sealed store is mounted" in run("umount", directory, check=False).stderr
