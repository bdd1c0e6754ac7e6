"""Programs on a mounted sealed store: they see what they see on the host's file system, and it stays.

The store is mounted on /tmp, where the guest programs work. Neighbours: `tests/unit/test_sealed.py` (the same stores
from the host), `common/sealed-*` (crashes, tampering).
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from framework import cc, enclave, enclave_argv, native, same
from occlum.keys import generate_key, read_key
from occlum.sealed import BLOCK, Store

SOURCES = Path(__file__).parent / "src"
SIZE = 64 << 20
TOPICS = ("files", "handles", "memory", "watches", "pipes", "process")


@pytest.fixture(name="key", scope="module")
def _key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "image.key"
    generate_key(path)
    return path


@pytest.fixture(name="store")
def _store(tmp_path: Path, key: Path) -> Iterator[Path]:
    """An empty store; whatever the test did with it, its tree is whole at the end."""
    path = tmp_path / "store"
    with Store.create(path, SIZE, read_key(key)) as new:
        new.set_mode("/", 0o1777)
    yield path
    if path.exists():
        with Store(path, read_key(key), read_only=True) as store:
            assert store.check().findings == []


@pytest.fixture(name="mounted")
def _mounted(store: Path, key: Path) -> list[str]:
    return ["--sealed", f"{store}:/tmp", "--image-key", str(key)]


@pytest.fixture(name="elsewhere")
def _elsewhere() -> Iterator[Path]:
    """A folder that the store on /tmp does not hide, wherever this tree and pytest's folders are."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


@pytest.mark.parametrize("topic", TOPICS)
def test_guest_programs_see_no_difference(topic: str, mounted: list[str], elsewhere: Path, seed: int) -> None:
    program = Path(shutil.copy(cc(SOURCES / f"{topic}.c", "-static", "-w", "-pthread"), elsewhere))
    result = same([program], env={"GUEST_SEED": str(seed)}, timeout=60, options=mounted)
    assert result.returncode == 0
    assert "not so" not in result.text


def test_ciphers_leave_the_vector_registers_alone(mounted: list[str], elsewhere: Path) -> None:
    """They are the only code of the LibOS that is built for AVX."""
    program = Path(shutil.copy(cc(SOURCES / "vectors.c", "-static", "-O1", "-mavx2"), elsewhere))
    result = enclave([program], options=mounted, timeout=60)
    assert (result.returncode, result.text) == (0, "done\n")


def test_a_long_file_is_read_and_written_past_the_cache(mounted: list[str], elsewhere: Path) -> None:
    """32 MiB where 16 MiB of pages may be kept: in order, out of order, and once more by another enclave."""
    script = """
import hashlib, os
block = lambda i: hashlib.sha256(b"%d" % i).digest() * 2048
expected = lambda i: block(i + 1 if i % 7 == 0 else i)
with open("/tmp/long", "wb") as f:
    os.truncate("/tmp/long", 512 << 16)
    for i in range(512): f.write(block(i))
    for i in range(0, 512, 7): f.seek(i << 16); f.write(block(i + 1))
with open("/tmp/long", "rb") as f:
    for turn in range(2):
        f.seek(0)
        assert all(f.read(1 << 16) == expected(i) for i in range(512))
    for i in range(511, -1, -3): f.seek(i << 16); assert f.read(1 << 16) == expected(i)
print("same")
"""
    writes, reads = script.index("with open"), script.rindex("with open")
    for text in (script, script[:writes] + script[reads:]):
        result = enclave(["python3", "-c", text], options=[*mounted, "-m", "128M"], timeout=120)
        assert (result.returncode, result.text) == (0, "same\n"), result.text


@pytest.mark.parametrize("memory", ["64M", "512M"])
def test_processes_that_use_it_at_once(memory: str, mounted: list[str], elsewhere: Path) -> None:
    """Where memory is short, writers write back all the time."""
    program = Path(shutil.copy(cc(SOURCES / "together.c", "-static", "-O1"), elsewhere))
    folder = elsewhere / "native"
    folder.mkdir()
    expected = native([program], cwd=folder)
    result = enclave([program], options=[*mounted, "-m", memory], cwd="/tmp", timeout=120)
    assert (result.returncode, result.text) == (0, expected.text)


def test_what_is_written_stays_and_is_not_seen_outside(mounted: list[str], store: Path, key: Path) -> None:
    secret = "a secret that is not in the store"
    script = (
        f"cd /tmp; echo {secret} > f; mkdir -p d/e; ln f d/e/hard; ln -s ../f d/soft; cp /bin/busybox d; touch -d @7 d"
    )
    assert enclave(["busybox", "sh", "-c", script], options=mounted).returncode == 0
    assert secret.encode() not in store.read_bytes()
    again = "cd /tmp; cat f d/soft d/e/hard; cmp d/busybox /bin/busybox && stat -c '%h %Y' f d"
    result = enclave(["busybox", "sh", "-c", again], options=mounted)
    assert result.text == f"{secret}\n" * 3 + result.text[len(f"{secret}\n") * 3 :]
    assert result.text.splitlines()[3].startswith("2 ")
    assert result.text.splitlines()[4] == "3 7"
    with Store(store, read_key(key), read_only=True) as opened:
        assert opened.read_bytes("/f").decode() == f"{secret}\n"


def test_read_only_mount_refuses_writers(mounted: list[str], store: Path) -> None:
    assert enclave(["busybox", "sh", "-c", "echo x > /tmp/f"], options=mounted).returncode == 0
    before = store.read_bytes()
    mounted[1] += ":ro"
    result = enclave(["busybox", "sh", "-c", "cat /tmp/f; echo y > /tmp/f"], options=mounted)
    assert (result.text, result.returncode) == ("x\n", 1)
    assert "Read-only" in result.errors
    assert store.read_bytes() == before


def test_two_users_of_one_store(mounted: list[str], store: Path) -> None:
    with store.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        result = enclave(["true"], options=mounted)
    assert result.returncode == 125
    assert "has the store open" in result.errors


def _cut(store: Path, _: random.Random) -> None:
    os.truncate(store, SIZE // 2)


def _empty(store: Path, _: random.Random) -> None:
    os.truncate(store, 0)


def _foreign(store: Path, rng: random.Random) -> None:
    store.write_bytes(rng.randbytes(SIZE // 16))


def _version(store: Path, _: random.Random) -> None:
    content = bytearray(store.read_bytes())
    content[8] = content[BLOCK + 8] = 77
    store.write_bytes(content)


BAD: dict[str, tuple[Callable[[Path, random.Random], None], str]] = {
    "truncated": (_cut, "truncated"),
    "empty": (_empty, "not a sealed store"),
    "foreign": (_foreign, "not a sealed store"),
    "version": (_version, "version 77"),
}


@pytest.mark.parametrize("name", BAD)
def test_stores_that_are_refused(name: str, mounted: list[str], store: Path, rng: random.Random) -> None:
    damage, message = BAD[name]
    damage(store, rng)
    result = enclave(["true"], options=mounted)
    store.unlink()
    assert result.returncode == 125
    assert message in result.errors


def test_wrong_key_and_no_key(mounted: list[str], tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    generate_key(other)
    assert "wrong key" in enclave(["true"], options=[*mounted[:3], str(other)]).errors
    assert "needs a key" in enclave(["true"], options=mounted[:2]).errors


def test_an_old_copy_is_refused(mounted: list[str], store: Path, key: Path, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counted = [*mounted, "--insecure-counter", str(counter)]
    assert enclave(["busybox", "sh", "-c", "echo one > /tmp/f"], options=counted).returncode == 0
    old = store.read_bytes()
    assert enclave(["busybox", "sh", "-c", "cat /tmp/f; echo two > /tmp/f"], options=counted).text == "one\n"
    # The host's tools go on counting where the enclave was, and the other way round.
    with Store(store, read_key(key), insecure_counter=counter) as opened:
        assert opened.read_bytes("/f") == b"two\n"
    new = store.read_bytes()
    store.write_bytes(old)
    refused = enclave(["busybox", "cat", "/tmp/f"], options=counted)
    assert refused.returncode == 125
    assert "rolled back" in refused.errors
    store.write_bytes(new)
    assert enclave(["busybox", "cat", "/tmp/f"], options=counted).text == "two\n"
    counter.write_text("nonsense")
    assert enclave(["busybox", "cat", "/tmp/f"], options=counted).returncode == 125
    twice = [*counted, "--sealed", f"{store}:/mnt"]
    assert "exactly one" in enclave(["true"], options=twice).errors


def test_damage_is_an_error_of_the_file_not_of_the_enclave(mounted: list[str], store: Path) -> None:
    made = enclave(["busybox", "sh", "-c", "cp /bin/busybox /tmp/big; echo small > /tmp/small"], options=mounted)
    assert made.returncode == 0
    pristine = store.read_bytes()
    content = bytearray(pristine)
    # Content of the big file at the least.
    used = max(i for i in range(0, SIZE, BLOCK) if any(content[i : i + BLOCK]))
    for at in range(used // 4, used // 2, BLOCK):
        content[at] ^= 1
    store.write_bytes(content)
    result = enclave(["busybox", "sh", "-c", "cat /tmp/big > /dev/null; echo $?; cat /tmp/small"], options=mounted)
    store.write_bytes(pristine)
    assert "1\n" in result.text or result.returncode == 125
    assert "damaged" in result.errors


def test_a_full_store_keeps_what_it_has(mounted: list[str], store: Path) -> None:
    script = (
        "cd /tmp; echo precious > p; sync; dd if=/dev/zero of=big bs=1M; echo $?; sync; cat p; rm big; sync;"
        " dd if=/dev/zero of=again bs=1M count=20 && echo room"
    )
    result = enclave(["busybox", "sh", "-c", script], options=mounted)
    assert "No space left" in result.errors
    assert result.text.split() == ["1", "precious", "room"]


def test_killed_enclave_leaves_what_was_synced(mounted: list[str], store: Path, key: Path) -> None:
    script = "cd /tmp; i=0; while :; do i=$((i+1)); echo $i > f.$i; sync; echo $i; done"
    command = enclave_argv(["busybox", "sh", "-c", script], mounted)
    run = native(["timeout", "-s", "KILL", "3", *command])
    last = int(run.text.split()[-1])
    with Store(store, read_key(key), read_only=True) as opened:
        assert opened.read_bytes(f"/f.{last}").decode() == f"{last}\n"
