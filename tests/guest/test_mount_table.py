"""Instances: the measured mount table, an image below a sealed layer, keys of the simulated CPU."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from occlum import _native
from occlum._host.image import read_image
from occlum.config import page
from occlum.sealed import Store
from occlum.sgx import keys

MEBIBYTE = 1 << 20
LAYER_BYTES = 64 * MEBIBYTE
BUSYBOX = Path("/bin/busybox")


class Instance:
    """An image, a layer above it, and what runs on them."""

    def __init__(self, folder: Path) -> None:
        self.image, self.layer = folder / "image", folder / "layer"
        tree = folder / "tree"
        for directory in ("bin", "etc/deep/er", "dev", "proc", "tmp", "gone"):
            (tree / directory).mkdir(parents=True)
        (tree / "bin" / "busybox").write_bytes(BUSYBOX.read_bytes())
        (tree / "bin" / "busybox").chmod(0o755)
        (tree / "bin" / "sh").symlink_to("busybox")
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
            sources=[(b"image", os.fsencode(self.image)), (b"layer", os.fsencode(self.layer))],
            hostname=b"host",
            uid=0,
            gid=0,
            flags=0,
        )
        return _native.run(read_image(), self.config.encode(), parameters, timeout_s=60)

    def says(self, script: str, capfd: pytest.CaptureFixture[str]) -> str:
        """What the script prints; it must succeed."""
        outcome = self.run(script)
        captured = capfd.readouterr()
        assert (outcome.kind, outcome.value) == ("exited", 0), captured.err + outcome.message
        return captured.out


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
