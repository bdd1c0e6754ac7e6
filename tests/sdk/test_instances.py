"""`Enclave.from_instance` and `from_oci`: what a configuration measured, from Python."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

import occlum
from occlum.image import instance
from occlum.image.built import InstanceError

BUSYBOX = Path("/bin/busybox")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instance with busybox in /bin, and a copy of it outside of the entry points."""
    place = tmp_path_factory.mktemp("instance")
    instance.create(place)
    for name in ("bin/sh", "bin/true", "outside/sh"):
        target = place / "image" / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(BUSYBOX.read_bytes())
        target.chmod(0o755)
    instance.build(place)
    return place


def test_programs_see_what_was_measured(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE", "allowed")
    monkeypatch.setenv("SECRET", "not allowed")
    with occlum.Enclave.from_instance(built) as enclave:
        names = enclave.check_output(["sh", "-c", "export -p"], text=True)
        assert "SECRET" not in names
        assert "EXAMPLE='allowed'" in names
        assert "OCCLUM='yes'" in names
        assert enclave.run(["sh", "-c", "exit 200"]).returncode == 200
        assert enclave.run(["sh", "-c", "test -e /usr/bin/python3"]).returncode == 1
        with pytest.raises(PermissionError):
            enclave.run(["/outside/sh", "-c", "true"])
        with pytest.raises(FileNotFoundError):
            enclave.run(["no-such-program"])
        # One user at a time.
        with pytest.raises(occlum.EnclaveError, match="OC703"):
            occlum.Enclave.from_instance(built)
    with occlum.Enclave.from_instance(built) as again:
        assert again.call(["true"]) == 0


def test_what_is_no_instance_or_not_built(tmp_path: Path) -> None:
    with pytest.raises(InstanceError, match="no instance"):
        occlum.Enclave.from_instance(tmp_path)
    instance.create(tmp_path)
    with pytest.raises(InstanceError, match="not built"):
        occlum.Enclave.from_instance(tmp_path)


def docker_archive(path: Path) -> None:
    """An image with busybox, as `docker save` writes it; its working directory is for whoever runs it to make."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        for name in ("bin/sh", "bin/pwd"):
            info = tarfile.TarInfo(name)
            info.size, info.mode = BUSYBOX.stat().st_size, 0o755
            archive.addfile(info, io.BytesIO(BUSYBOX.read_bytes()))
    data = layer.getvalue()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin", "FROM=image"], "WorkingDir": "/srv/data", "Entrypoint": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": ["test:1"], "Layers": ["layer.tar"]}]
    with tarfile.open(path, mode="w") as archive:
        for name, content in (
            ("layer.tar", data),
            ("config.json", json.dumps(config).encode()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def test_an_oci_image_says_environment_and_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker_archive(tmp_path / "image.tar")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    with occlum.Enclave.from_oci(tmp_path / "image.tar") as enclave:
        assert list((tmp_path / "temporary").iterdir())
        said = enclave.check_output(["sh", "-c", 'echo "$FROM"; pwd'], text=True)
        assert said == "image\n/srv/data\n"
    assert list((tmp_path / "temporary").iterdir()) == []
    (tmp_path / "image.tar").write_bytes(b"rubbish")
    with pytest.raises(occlum.OcclumError):
        occlum.Enclave.from_oci(tmp_path / "image.tar")
    assert list((tmp_path / "temporary").iterdir()) == []
