"""Instances: the measured mount table, an image below a sealed layer, keys of the simulated CPU."""

from __future__ import annotations

import hashlib
import hmac
import os
import random
import shutil
import signal
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from framework import cc
from occlum import _native
from occlum._host.image import read_image
from occlum.config import page
from occlum.image import signing
from occlum.sealed import Store
from occlum.sgx import keys, sigstruct

MEBIBYTE = 1 << 20
LAYER_BYTES = 64 * MEBIBYTE
BUSYBOX = Path("/bin/busybox")


class Instance:
    """An image, a layer above it, and what runs on them."""

    def __init__(self, folder: Path) -> None:
        self.image, self.layer = folder / "image", folder / "layer"
        self.counters, self.name = folder / "cpu" / "counters", b"one"
        # How it is signed, what the signature says that is not so, and what the CPU is told of it.
        self.signed, self.config_id = signing.development, b""
        self.misstated: dict[str, Any] = {}
        tree = folder / "tree"
        for directory in ("bin", "etc/deep/er", "dev", "proc", "tmp", "gone"):
            (tree / directory).mkdir(parents=True)
        (tree / "bin" / "busybox").write_bytes(BUSYBOX.read_bytes())
        (tree / "bin" / "busybox").chmod(0o755)
        (tree / "bin" / "sh").symlink_to("busybox")
        shutil.copy(cc(Path(__file__).parent / "src" / "whiteout.c", "-static"), tree / "bin" / "whiteout")
        shutil.copy(cc(Path(__file__).parent / "src" / "copied_up.c", "-static"), tree / "bin" / "copied_up")
        (tree / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
        (tree / "etc" / "deep" / "er" / "file").write_text("from the image\n")
        (tree / "gone" / "x").write_text("x\n")
        with Store.create(self.image, 16 * MEBIBYTE, None) as store:
            store.copy_in(tree, "/")
        with Store(self.image, None, read_only=True) as store:
            root = store.figures().root
        self.config = page.Config(
            512 * MEBIBYTE,
            2,
            64,
            4096,
            flags=page.DEBUG,
            cwd="/",
            entry_points=["/bin"],
            env_default=["PATH=/bin"],
            mounts=[
                page.Mount("/", page.SEALED_IMAGE, page.READ_ONLY, "image", root=root.ljust(page.ROOT_SIZE, b"\0")),
                page.Mount("/", page.SEALED_LAYER, 0, "layer", f"size={LAYER_BYTES}"),
                page.Mount("/dev", page.DEVFS),
                page.Mount("/proc", page.PROCFS),
                page.Mount("/tmp", page.RAMFS),
            ],
        )

    def run(self, script: str) -> _native.Outcome:
        """Runs a shell script; its output goes to the standard streams of this process."""
        argv = [b"/bin/busybox", b"sh", b"-c", script.encode()]
        parameters = _native.LaunchParams(
            program=argv[0],
            argv=argv,
            envp=[],
            cwd=b"/",
            binds=[],
            sources=[
                (b"image", os.fsencode(self.image)),
                (b"layer", os.fsencode(self.layer)),
                (b"counter", self.name),
            ],
            hostname=b"host",
            uid=0,
            gid=0,
            flags=0,
        )
        image, config = read_image(), self.config.encode()
        facts = signing.facts_of(self.config, _native.measure(image, config))
        sigstruct = self.signed(replace(facts, **self.misstated))
        return _native.run(image, config, parameters, timeout_s=60, identity=(sigstruct, self.config_id, 0))

    def says(self, script: str, capfd: pytest.CaptureFixture[str]) -> str:
        """What the script prints; it must succeed."""
        outcome = self.run(script)
        captured = capfd.readouterr()
        assert (outcome.kind, outcome.value) == ("exited", 0), captured.err + outcome.message
        return captured.out

    def refuses(self, message: str, capfd: pytest.CaptureFixture[str]) -> None:
        """The enclave does not start, and says why."""
        assert self.run("true").value == 125
        assert message in capfd.readouterr().err

    def counter(self) -> Path:
        """The file of the only counter."""
        (file,) = (file for file in self.counters.iterdir() if file.name != "lock")
        return file


@pytest.fixture(name="instance")
def _instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instance:
    monkeypatch.setenv("OCCLUM_FUSE_KEY", str(tmp_path / "cpu" / "fuse.key"))
    return Instance(tmp_path)


def test_the_layer_keeps_what_changed(instance: Instance, capfd: pytest.CaptureFixture[str]) -> None:
    first = (
        "cat /etc/deep/er/file; echo more >> /etc/deep/er/file; echo new > /etc/new; rm -r /gone; rm /etc/passwd;"
        " mkdir /gone; ls /gone; mv /etc/new /etc/moved; ln /etc/moved /etc/hard; chmod 711 /bin/busybox; ls / | sort"
    )
    assert instance.says(first, capfd).split("\n")[0] == "from the image"
    second = (
        "cat /etc/deep/er/file /etc/hard; ls -A /gone /etc | sort; test -e /etc/passwd || echo hidden; ls /dev/null"
    )
    assert instance.says(second, capfd).split() == (
        ["from", "the", "image", "more", "new", "/etc:", "/gone:", "deep", "hard", "moved", "hidden", "/dev/null"]
    )
    with Store(instance.image, None, read_only=True) as image:
        assert image.read_bytes("/etc/deep/er/file") == b"from the image\n"
        assert image.check().findings == []


def test_directories_of_the_image_are_moved_by_copying(instance: Instance, capfd: pytest.CaptureFixture[str]) -> None:
    script = "mv /etc/deep /etc/else; cat /etc/else/er/file; ls /etc | sort"
    assert instance.says(script, capfd).split() == ["from", "the", "image", "else", "passwd"]
    assert instance.says("ls /etc | sort", capfd).split() == ["else", "passwd"]


def test_whiteouts_are_the_overlay_s_own(instance: Instance, capfd: pytest.CaptureFixture[str]) -> None:
    """renameat2(2): RENAME_WHITEOUT is refused on overlayfs, before anything happened."""
    assert instance.says("whiteout /etc/passwd /etc/moved; ls /etc | sort", capfd).split() == (
        ["Invalid", "argument", "deep", "passwd"]
    )


def test_a_file_stays_the_same_when_it_is_copied_up(instance: Instance, capfd: pytest.CaptureFixture[str]) -> None:
    """Locks, leases and shared mappings of a file of the image are those of its copy in the layer."""
    assert instance.says("copied_up /etc/passwd", capfd).splitlines() == (
        ["the lock holds", "the unlocked is free", "the mapping shows what was written"]
    )


def test_a_changed_image_is_refused(instance: Instance, capfd: pytest.CaptureFixture[str]) -> None:
    with Store(instance.image, None) as image:
        image.mkdir("/evil")
    assert instance.run("true").value == 125
    assert "does not have the expected root" in capfd.readouterr().err


def test_another_enclave_has_another_key(instance: Instance, capfd: pytest.CaptureFixture[str]) -> None:
    assert instance.says("echo secret > /etc/secret; cat /etc/secret", capfd) == "secret\n"
    assert b"secret" not in instance.layer.read_bytes()
    instance.config = replace(instance.config, pid_max=5000)
    assert instance.run("true").value == 125
    assert "wrong key" in capfd.readouterr().err


def with_policy(instance: Instance, policy: int, **changes: Any) -> None:
    """Another configuration, in which the layer's key has this policy."""
    rows = list(instance.config.mounts)
    rows[1] = replace(rows[1], options=f"size={LAYER_BYTES},policy={policy}")
    instance.config = replace(instance.config, mounts=rows, **changes)


@pytest.mark.parametrize(
    ("misstated", "said"),
    [
        ({"mrenclave": bytes(32)}, "SGX_INVALID_MEASUREMENT"),
        ({"debug": False}, "SGX_INVALID_ATTRIBUTE"),
        ({"kss": True}, "SGX_INVALID_ATTRIBUTE"),
        ({"svn": 1}, "other ids or versions"),
        ({"product_id": 1}, "other ids or versions"),
    ],
)
def test_a_signature_of_something_else_is_refused(instance: Instance, misstated: dict[str, Any], said: str) -> None:
    instance.misstated = misstated
    with pytest.raises(_native.NativeError, match=rf"{said}.*\[OC601\]"):
        instance.run("true")


def test_a_changed_signature_is_refused(instance: Instance, rng: random.Random) -> None:
    def changed(facts: sigstruct.Facts) -> bytes:
        data = bytearray(signing.development(facts))
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        return bytes(data[: sizes.pop()])

    sizes = [0, 1, 1807, *[1808] * 8]
    instance.signed = changed
    while sizes:
        with pytest.raises(_native.NativeError, match=r"SGX_INVALID_SIG(_STRUCT|NATURE).*\[OC601\]"):
            instance.run("true")


def test_layers_of_the_signer_go_on_with_later_versions_only(
    instance: Instance, capfd: pytest.CaptureFixture[str]
) -> None:
    with_policy(instance, keys.MRSIGNER, svn=2)
    assert instance.says("echo two >> /etc/f; cat /etc/f", capfd) == "two\n"
    with_policy(instance, keys.MRSIGNER, svn=7, pid_max=5000)
    for count in (2, 3):
        assert instance.says("echo seven >> /etc/f; wc -l < /etc/f", capfd) == f"{count}\n"
    # What version 7 has opened, version 2 cannot open any more; nor can another product's, or a release enclave.
    for changes in ({"svn": 2}, {"svn": 7, "product_id": 1}, {"svn": 7, "flags": 0}):
        kept = instance.config
        with_policy(instance, keys.MRSIGNER, **changes)
        # Another product, or kind of enclave, has counters of its own, too, and none for this layer.
        assert instance.run("true").value == 125
        assert any(text in capfd.readouterr().err for text in ("wrong key", "store"))
        instance.config = kept
    assert instance.says("wc -l < /etc/f", capfd) == "3\n"


def test_a_config_id_parts_the_keys(instance: Instance, capfd: pytest.CaptureFixture[str]) -> None:
    instance.config_id = b"a" * 64
    with pytest.raises(_native.NativeError, match="enable_kss"):
        instance.run("true")
    with_policy(instance, keys.MRENCLAVE | keys.CONFIGID, flags=page.DEBUG | page.KSS)
    assert instance.says("echo a > /etc/f; cat /etc/f", capfd) == "a\n"
    instance.config_id = b"b" * 64
    instance.refuses("store", capfd)
    instance.config_id = b"a" * 64
    assert instance.says("cat /etc/f", capfd) == "a\n"


def test_a_policy_that_is_nobodys_is_refused(instance: Instance, capfd: pytest.CaptureFixture[str]) -> None:
    with_policy(instance, keys.NOISVPRODID)
    instance.refuses("neither MRENCLAVE nor MRSIGNER", capfd)


def test_the_key_is_the_one_that_the_sdm_describes(
    instance: Instance, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert instance.says("echo sealed > /etc/f; cat /etc/f", capfd) == "sealed\n"
    mrenclave = _native.measure(read_image(), instance.config.encode())
    enclave = keys.Identity(mrenclave, attributes=(keys.INIT | keys.DEBUG | keys.MODE64BIT, keys.XFRM))
    seal = keys.seal_key(keys.Request(keys.MRENCLAVE), enclave, (tmp_path / "cpu" / "fuse.key").read_bytes())
    with Store(instance.layer, keys.layer_key(seal, "/"), read_only=True) as layer:
        assert layer.read_bytes("/etc/f") == b"sealed\n"
        assert layer.check().findings == []


def test_another_cpu_has_another_key(
    instance: Instance, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert instance.says("echo here", capfd) == "here\n"
    fuse = tmp_path / "cpu" / "fuse.key"
    assert stat.S_IMODE(fuse.stat().st_mode) == 0o600
    monkeypatch.setenv("OCCLUM_FUSE_KEY", str(tmp_path / "cpu" / "other.key"))
    assert instance.run("true").value == 125
    fuse.chmod(0o644)
    monkeypatch.setenv("OCCLUM_FUSE_KEY", str(fuse))
    assert instance.run("true").value == 125
    assert "readable by you only" in capfd.readouterr().err


def test_an_older_layer_is_refused(instance: Instance, capfd: pytest.CaptureFixture[str]) -> None:
    instance.says("echo 1 > /etc/state", capfd)
    older = instance.layer.read_bytes()
    instance.says("echo 2 > /etc/state", capfd)
    newest = instance.layer.read_bytes()
    instance.layer.write_bytes(older)
    instance.refuses("rolled back", capfd)
    instance.layer.write_bytes(newest)
    assert instance.says("cat /etc/state", capfd) == "2\n"
    # A start alone makes the copy before it an old one.
    instance.layer.write_bytes(newest)
    instance.refuses("rolled back", capfd)


@pytest.mark.parametrize("content", [None, b"", bytes(LAYER_BYTES)])
def test_a_layer_that_was_counted_must_be_there(
    instance: Instance, capfd: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    instance.says("echo 1 > /etc/state", capfd)
    instance.layer.unlink()
    if content is not None:
        instance.layer.write_bytes(content)
    instance.refuses("rolled back to nothing", capfd)
    # Another instance of the same enclave begins with an empty layer: the host may start as many as it likes.
    instance.name = b"two"
    assert instance.says("test -e /etc/state || echo empty", capfd) == "empty\n"


def test_layers_of_two_instances_cannot_be_swapped(instance: Instance, capfd: pytest.CaptureFixture[str]) -> None:
    instance.says("echo 1 > /etc/state", capfd)
    one = instance.layer.read_bytes()
    instance.layer.unlink()
    instance.name = b"two"
    instance.says("echo 2 > /etc/state", capfd)
    instance.layer.write_bytes(one)
    instance.refuses("swapped", capfd)
    instance.name = b"three"
    instance.refuses("counter is gone", capfd)
    instance.name = b"one"
    assert instance.says("cat /etc/state", capfd) == "1\n"


def test_counters_that_are_deleted_or_changed_are_noticed(
    instance: Instance, capfd: pytest.CaptureFixture[str]
) -> None:
    instance.says("echo 1 > /etc/state", capfd)
    older = instance.layer.read_bytes()
    instance.says("echo 2 > /etc/state", capfd)
    file = instance.counter()
    kept = file.read_bytes()
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)) == (0o600, 0o700)
    newest = instance.layer.read_bytes()
    for layer in (older, newest):
        instance.layer.write_bytes(layer)
        file.unlink()
        instance.refuses("counter is gone", capfd)
        for at in (0, 8, 16, 40, len(kept) - 1):
            file.write_bytes(kept[:at] + bytes([kept[at] ^ 1]) + kept[at + 1 :])
            instance.refuses("counter was changed", capfd)
        for other in (b"", kept[:-1], kept + b"x"):
            file.write_bytes(other)
            instance.refuses("counter was changed", capfd)
    file.write_bytes(kept)
    assert instance.says("cat /etc/state", capfd) == "2\n"


def test_a_counter_behind_its_store_is_what_a_crash_leaves(
    instance: Instance, capfd: pytest.CaptureFixture[str]
) -> None:
    instance.says("echo 1 > /etc/state", capfd)
    file = instance.counter()
    behind = file.read_bytes()
    instance.says("echo 2 > /etc/state", capfd)
    # The root was written, and the counter not advanced: also what its file as of before would be.
    file.write_bytes(behind)
    assert instance.says("cat /etc/state", capfd) == "2\n"
    assert file.read_bytes() != behind


def test_the_first_start_may_end_anywhere(instance: Instance, capfd: pytest.CaptureFixture[str]) -> None:
    instance.says("echo 1 > /etc/state", capfd)
    seal = _seal_key(instance)
    key = hmac.digest(seal, b"occlum counter v1", hashlib.sha256)
    file = instance.counter()
    # Reserved: value 1, and no store. Derived from docs/sealed-storage.md.
    record = b"OCCLCTR1" + (1).to_bytes(8, "little") + bytes(60)
    file.write_bytes(record + hmac.digest(key, b"record" + bytes.fromhex(file.name) + record, hashlib.sha256))
    for content in (b"", bytes(LAYER_BYTES), b"half a store".ljust(LAYER_BYTES, b"\0")):
        reserved = file.read_bytes()
        instance.layer.write_bytes(content)
        assert instance.says("test -e /etc/state || echo empty; echo 1 > /etc/state", capfd) == "empty\n"
        assert instance.says("cat /etc/state", capfd) == "1\n"
        file.write_bytes(reserved)


def _seal_key(instance: Instance) -> bytes:
    mrenclave = _native.measure(read_image(), instance.config.encode())
    enclave = keys.Identity(mrenclave, attributes=(keys.INIT | keys.DEBUG | keys.MODE64BIT, keys.XFRM))
    return keys.seal_key(keys.Request(keys.MRENCLAVE), enclave, Path(os.environ["OCCLUM_FUSE_KEY"]).read_bytes())


def test_killed_enclaves_never_lock_their_user_out(instance: Instance, capfd: pytest.CaptureFixture[str]) -> None:
    instance.says("echo 0 > /etc/state; sync", capfd)
    script = "i=0; while :; do i=$((i+1)); echo $i > /etc/state; sync; done"
    for round_ in range(12):
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            instance.run(script)
            os._exit(0)
        time.sleep(0.1 + 0.07 * round_)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert instance.says("cat /etc/state", capfd).strip().isdigit()


def test_two_enclaves_with_copies_of_one_layer(instance: Instance, capfd: pytest.CaptureFixture[str]) -> None:
    instance.says("echo 0 > /etc/state", capfd)
    copy = instance.layer.with_name("copy")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writer, 1)
        script = "echo up; sleep 4; echo lost > /etc/state; sync; echo end"
        outcome = instance.run(script)
        os._exit(outcome.value)
    os.close(writer)
    assert os.read(reader, 3) == b"up\n"
    copy.write_bytes(instance.layer.read_bytes())
    first, instance.layer = instance.layer, copy
    assert instance.says("echo 1 > /etc/state", capfd) == ""
    os.waitpid(child, 0)
    os.close(reader)
    assert "another writer" in capfd.readouterr().err
    assert instance.says("cat /etc/state", capfd) == "1\n"
    instance.layer = first
    instance.refuses("rolled back", capfd)
