"""Instances: deterministic, incremental builds that nothing can leave half done."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from framework import OCCLUM, ROOT
from occlum import keys
from occlum.config.files import ConfigurationError
from occlum.errors import OcclumError
from occlum.image import built, instance, lockfile, packing, signing, sizing, sources
from occlum.image.tree import BuildError
from occlum.sealed import Store


def make(place: Path, **settings: Any) -> Path:
    """An instance with busybox and some files."""
    place.mkdir(parents=True)
    instance.create(place, settings=settings or None)
    shutil.copy("/bin/busybox", place / "image/bin/busybox")
    (place / "image/bin/sh").symlink_to("busybox")
    (place / "image/etc/greeting").write_text("hello\n")
    os.link(place / "image/etc/greeting", place / "image/etc/again")
    return place


def run(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs an occlum command in an instance."""
    return subprocess.run([OCCLUM, *arguments], cwd=place, capture_output=True, text=True, check=False)


def test_two_places_one_measurement(tmp_path: Path) -> None:
    one, other = make(tmp_path / "one"), make(tmp_path / "elsewhere/with a longer name")
    # Another umask, other times, another order on the disk.
    for path in sorted((other / "image").rglob("*"), reverse=True):
        if not path.is_symlink() and path.name != "tmp":
            path.chmod(path.stat().st_mode | 0o020)
            os.utime(path, (time.time() - 1000, time.time() - 5000))
    first, second = instance.build(one), instance.build(other)
    assert first == second
    image = f"build/image-{first.image_root}"
    assert (one / image).read_bytes() == (other / image).read_bytes()
    (other / "image/etc/greeting").write_text("hallo\n")
    assert instance.build(other).mrenclave != first.mrenclave
    done = run(tmp_path, "diff", str(one), str(other))
    assert done.returncode == 1
    assert done.stdout.split("\n")[:2] == ["file /etc/again: sha256", ""] or "/etc/again" in done.stdout


def test_a_build_does_only_what_has_changed(tmp_path: Path) -> None:
    place = make(tmp_path / "x")
    first = instance.build(place)
    assert first.image_changed
    path = place / f"build/image-{first.image_root}"
    before = path.stat().st_mtime_ns
    again = instance.build(place)
    assert (again.image_changed, again.mrenclave) == (False, first.mrenclave)
    assert path.stat().st_mtime_ns == before
    text = (place / "Occlum.toml").read_text()
    (place / "Occlum.toml").write_text(text.replace("300MB", "400MB"))
    assert built.load(str(place)).is_stale()
    other = instance.build(place)
    assert (other.image_changed, other.image_root) == (False, first.image_root)
    assert other.mrenclave != first.mrenclave
    assert not built.load(str(place)).is_stale()


def test_what_cannot_be_in_an_image_is_refused(tmp_path: Path) -> None:
    place = make(tmp_path / "x")
    os.mkfifo(place / "image/etc/pipe")
    with pytest.raises(BuildError, match="neither file nor directory nor link"):
        instance.build(place)
    (place / "image/etc/pipe").unlink()
    (place / "Occlum.toml").write_text("nonsense = 1\n")
    with pytest.raises(ConfigurationError, match="unknown key"):
        instance.build(place)


def test_a_killed_build_leaves_the_last_one_whole(tmp_path: Path) -> None:
    place = make(tmp_path / "x")
    first = instance.build(place)
    (place / "image/etc/big").write_bytes(os.urandom(96 << 20))
    for delay in (0.25, 0.4, 0.6, 0.9):
        with subprocess.Popen([OCCLUM, "build", "-q"], cwd=place, stdout=subprocess.DEVNULL) as process:
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
        what = built.load(str(place))
        if what.mrenclave == first.mrenclave:
            assert (place / f"build/image-{first.image_root}").is_file()
        else:
            assert (place / what.sources["image"]).is_file()
    last = instance.build(place)
    assert last.mrenclave != first.mrenclave
    assert not list((place / "build").glob(".new-*"))
    assert sorted(path.name for path in (place / "build").glob("image-*")) == [f"image-{last.image_root}"]


_WRITES = {"os.rename", "os.mkdir", "os.remove", "os.truncate", "shutil.rmtree"}


def until_step(place: Path, number: int, ending: str) -> int:
    """Builds in a child that step `number`, of those that change a file system, kills or refuses; its exit status.

    9: there is no such step.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = [number]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event in _WRITES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if not writes or not str(arguments[0]).startswith(str(place)):
            return
        left[0] -= 1
        if left[0] == 0 and ending == "kill":
            os._exit(1)
        if left[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))

    sys.addaudithook(hook)
    try:
        instance.build(place)
        os._exit(9 if left[0] > 0 else 0)
    except OcclumError:
        os._exit(1)
    finally:
        os._exit(2)


@pytest.mark.parametrize("ending", ["kill", "full disk"])
def test_a_build_that_ends_at_any_step_leaves_the_last_one_whole(tmp_path: Path, ending: str) -> None:
    place, other = make(tmp_path / "x"), make(tmp_path / "reference")
    known = {instance.build(place).mrenclave}
    steps = 0
    for steps in range(1, 100):
        for directory in (place, other):
            (directory / "image/etc/step").write_text(f"{steps}\n")
        status = until_step(place, steps, ending)
        if status == 9:
            break
        # A full disk is an error; but for what can wait until the next build, such as a directory's fsync.
        assert status in (0, 1), steps
        known.add(wanted := instance.build(other).mrenclave)
        what = built.load(str(place))
        assert what.mrenclave in known, steps
        assert (place / what.sources["image"]).is_file(), steps
        assert signing.read_signature(what).facts.mrenclave.hex() == what.mrenclave
        assert instance.build(place).mrenclave == wanted, steps
        assert not list((place / "build").glob(".new-*")), steps
    assert steps > 10


def test_a_full_disk_is_an_error_and_the_last_build_stays(tmp_path: Path) -> None:
    place = make(tmp_path / "x")
    first = instance.build(place)
    (place / "image/etc/big").write_bytes(os.urandom(8 << 20))
    script = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20));"
    script += "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    script += "from occlum.__main__ import main; sys.argv = ['occlum', 'build', '-q']; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", script], cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 125, done.stderr
    assert "OC720" in done.stderr
    assert built.load(str(place)).mrenclave == first.mrenclave
    assert (place / f"build/image-{first.image_root}").is_file()
    assert instance.build(place).mrenclave != first.mrenclave


def test_two_builds_at_once_are_refused(tmp_path: Path) -> None:
    place = make(tmp_path / "x")
    with built.build_lock(str(place)):
        done = run(place, "build")
    assert done.returncode == 125
    assert "OC703" in done.stderr
    assert run(place, "build", "-q").returncode == 0


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 1}', '{"format": 2}', "\0", '{"format": 1, "config": 5}'])
def test_a_damaged_description_is_an_error(tmp_path: Path, text: str) -> None:
    place = make(tmp_path / "x")
    (place / "build").mkdir()
    (place / built.DESCRIPTION).write_text(text)
    with pytest.raises(built.InstanceError, match="damaged"):
        built.load(str(place))
    assert "OC701" in run(place, "run", "/bin/sh").stderr


def test_commands_outside_an_instance_say_so(tmp_path: Path) -> None:
    for arguments in (["build"], ["run", "x"], ["package"], ["print", "mrsigner"], ["export", "x"]):
        done = run(tmp_path, *arguments)
        assert (done.returncode, "OC701" in done.stderr) == (125, True), (arguments, done.stderr)
    assert run(tmp_path, "new", "x").returncode == 0
    assert "exists already" in run(tmp_path, "new", "x").stderr
    assert "OC704" in run(tmp_path / "x", "init").stderr


def test_a_package_is_the_same_each_time_and_no_debug_enclave(tmp_path: Path) -> None:
    place = make(tmp_path / "x")
    instance.build(place)
    with pytest.raises(BuildError, match="debug enclave"):
        packing.pack(place, tmp_path / "x.tar.gz", debug=False)
    with pytest.raises(BuildError, match="/no/such/x: No such file or directory; name a file that can be written"):
        packing.pack(place, Path("/no/such/x"), debug=True)
    (tmp_path / ".new-full").symlink_to("/dev/full")
    with pytest.raises(BuildError, match="No space left on device; make room on that disk"):
        packing.pack(place, tmp_path / "full", debug=True)
    packing.pack(place, tmp_path / "x.tar.gz", debug=True)
    packing.pack(place, tmp_path / "y.tar.gz", debug=True)
    assert (tmp_path / "x.tar.gz").read_bytes() == (tmp_path / "y.tar.gz").read_bytes()
    (tmp_path / "there").mkdir()
    subprocess.run(["tar", "-xzf", tmp_path / "x.tar.gz"], cwd=tmp_path / "there", check=True)
    assert built.load(str(tmp_path / "there/x")) == built.load(str(place)).__class__(
        **(vars(built.load(str(place))) | {"instance": str(tmp_path / "there/x")})
    )


def test_signatures_belong_to_one_build(tmp_path: Path) -> None:
    place, key = make(tmp_path / "x"), tmp_path / "key.pem"
    signer = run(tmp_path, "gen-sign-key", str(key)).stdout
    instance.build(place)
    done = run(place, "print", "mrsigner")
    assert ("development key" in done.stderr, done.stdout != signer) == (True, True)
    assert instance.build(place, signer=signing.signer(key, None, None)).mrsigner == signer.strip()
    done = run(place, "print", "mrsigner")
    assert (done.stdout, done.stderr) == (signer, "")
    kept = json.loads((place / built.DESCRIPTION).read_text())["signature"]
    (place / "image/etc/more").touch()
    instance.build(place)
    data = json.loads((place / built.DESCRIPTION).read_text())
    (place / built.DESCRIPTION).write_text(json.dumps(data | {"signature": kept}))
    assert "another build" in run(place, "print", "mrsigner").stderr
    assert "OC601" in run(place, "run", "-q", "/bin/sh").stderr
    (place / built.DESCRIPTION).write_text(json.dumps(data | {"signature": ""}))
    assert "OC730" in run(place, "print", "mrsigner").stderr
    assert "OC601" in run(place, "start", "-q").stderr


def test_what_the_signer_opens_is_signed_by_somebody(tmp_path: Path) -> None:
    place, key = make(tmp_path / "x"), tmp_path / "key.pem"
    signing.generate_key(key)
    text = (place / "Occlum.toml").read_text().replace("debuggable = true", "debuggable = false")
    policy = '{ target = "/", type = "sefs", options = { autokey_policy = "mrsigner" } }'
    (place / "Occlum.toml").write_text(text.replace('{ target = "/", type = "ramfs" }', policy))
    with pytest.raises(BuildError, match="development key"):
        instance.build(place)
    instance.build(place, signer=signing.signer(key, None, None))
    assert built.load(str(place)).weaknesses == []


def test_fortanix_reads_and_measures_the_same(tmp_path: Path) -> None:
    place, key = make(tmp_path / "x"), tmp_path / "key.pem"
    signing.generate_key(key)
    text = (place / "Occlum.toml").read_text()
    (place / "Occlum.toml").write_text(text.replace("product_id = 0", "product_id = 513\nenable_kss = true"))
    result = instance.build(place, signer=signing.signer(key, None, None))
    today = signing.read_signature(built.load(str(place))).facts.date
    assert run(place, "export", str(tmp_path / "enclave")).returncode == 0
    command = ["cargo", "run", "--quiet", "-p", "occlum-pal", "--example", "sgxs_check", "--"]
    files = [str(tmp_path / "enclave.sgxs"), str(tmp_path / "enclave.sig")]
    done = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True, check=False)
    facts = f"513 0 86 7 {today}"
    assert done.stdout.splitlines() == [result.mrenclave, result.mrenclave, facts, result.mrsigner], done.stderr


def test_encrypted_images_hide_everything_and_are_the_same_each_time(tmp_path: Path) -> None:
    place, key = make(tmp_path / "x"), tmp_path / "image.key"
    (place / "image/etc/recipe").write_text("a pinch of salt\n" * 1000)
    keys.generate_key(key)
    plain = instance.build(place)
    image = place / f"build/image-{plain.image_root}"
    assert (b"pinch" in image.read_bytes(), b"recipe" in image.read_bytes()) == (True, True)
    first = instance.build(place, image_key=keys.read_key(key))
    image = place / f"build/image-{first.image_root}"
    data = image.read_bytes()
    assert (b"pinch" in data, b"recipe" in data, b"passwd" in data) == (False, False, False)
    assert instance.build(place, image_key=keys.read_key(key)).image_changed is False
    assert instance.build(place, image_key=keys.read_key(key), force=True).mrenclave == first.mrenclave
    assert image.read_bytes() == data
    # Nothing of it stands beside it in the archive.
    packing.pack(place, tmp_path / "x.tar.gz", debug=True)
    names = subprocess.run(["tar", "-tzf", tmp_path / "x.tar.gz"], capture_output=True, text=True, check=True).stdout
    assert ("sbom" in names, "lock" in names, "image-" in names) == (False, False, True)
    with Store(image, keys.read_key(key), read_only=True) as opened:
        assert opened.read_bytes("/etc/recipe").startswith(b"a pinch")
    assert "OC705" in run(place, "run", "-q", "/bin/sh").stderr
    # Another content, or another key: no byte of the streams of before.
    (place / "image/etc/recipe").write_text("a pinch of silk\n" * 1000)
    second = instance.build(place, image_key=keys.read_key(key))
    other = (place / f"build/image-{second.image_root}").read_bytes()
    same = sum(data[at : at + 16] == other[at : at + 16] != bytes(16) for at in range(0, len(data), 16))
    assert same < 16


def test_a_file_that_changes_under_a_build_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = make(tmp_path / "x")
    real = sources.fingerprint

    def then_changed(*arguments: Any) -> str:
        found = real(*arguments)
        (place / "image/etc/hosts").write_text((place / "image/etc/hosts").read_text().swapcase())
        return found

    monkeypatch.setattr(sources, "fingerprint", then_changed)
    with pytest.raises(BuildError, match="changed while it was read"):
        instance.build(place)
    assert not list((place / "build").glob("*image*"))


def test_the_bill_names_packages_and_all_other_files(tmp_path: Path) -> None:
    place = make(tmp_path / "x", include=["/bin/ls"])
    instance.build(place)
    bill = json.loads((place / instance.SBOM).read_text())["components"]
    known = ["dpkg-query", "-W", "-f", "${Version}", "coreutils"]
    version = subprocess.run(known, capture_output=True, text=True, check=True).stdout
    assert {
        "purl": f"pkg:deb/debian/coreutils@{version}",
        "name": "coreutils",
        "version": version,
        "type": "library",
    } in bill
    assert any(item["name"] == "libc6" for item in bill)
    greeting = hashlib.sha256(b"hello\n").hexdigest()
    file = {"type": "file", "name": "/etc/again", "hashes": [{"alg": "SHA-256", "content": greeting}]}
    assert file in bill
    assert not any(item["name"] in ("/bin/ls", "/usr/bin/ls") for item in bill)
    (source, _) = json.loads((place / lockfile.NAME).read_text())["inputs"]
    assert ["coreutils", version] in source["packages"]


def test_locked_builds_only_what_the_lock_file_says(tmp_path: Path) -> None:
    place = make(tmp_path / "x")
    with pytest.raises(BuildError, match=r"there is no Occlum\.lock"):
        instance.build(place, locked=True)
    first = instance.build(place)
    assert instance.build(place, locked=True) == first._replace(image_changed=False)
    assert instance.build(place, locked=True, force=True).mrenclave == first.mrenclave
    description = (place / "build" / "enclave.json").read_bytes()
    (place / "image" / "etc" / "new").write_text("new\n")
    with pytest.raises(BuildError, match=r"not what Occlum\.lock says: .*mrenclave") as caught:
        instance.build(place, locked=True)
    assert caught.value.code == "OC725"
    assert (place / "build" / "enclave.json").read_bytes() == description
    assert instance.build(place).mrenclave != first.mrenclave


def test_differences_of_lock_files_are_named(tmp_path: Path) -> None:
    def lock(*packages: tuple[str, str]) -> lockfile.Lock:
        debian = {"kind": "debian", "suite": "bookworm", "packages": [list(p) for p in packages]}
        return {"format": 1, "image_root": "r", "mrenclave": "m", "runtime": "t", "inputs": [debian]}

    old, new = lock(("libc6", "1"), ("dash", "2")), lock(("libc6", "3"), ("bash", "4"))
    assert lockfile.versions(old, "bookworm") == {"libc6": "1", "dash": "2"}
    assert lockfile.versions(old, "trixie") == lockfile.versions(None, "bookworm") == {}
    lockfile.require_same(old, old)
    with pytest.raises(BuildError, match="bash not there -> 4, dash 2 -> not there, libc6 1 -> 3"):
        lockfile.require_same(old, new)
    lockfile.write(tmp_path, old)
    assert lockfile.read(tmp_path) == old
    for bad in ("", "{}", "[1]", '{"format": 2, "inputs": []}', '{"format": 1, "inputs": 3}'):
        (tmp_path / lockfile.NAME).write_text(bad)
        with pytest.raises(BuildError, match=r"Occlum\.lock is no lock file"):
            lockfile.read(tmp_path)


def test_limits_are_written_where_they_belong(tmp_path: Path) -> None:
    place = make(tmp_path / "x")
    sizing.write_limits(place, {"user_space_size": "96MB", "max_num_of_threads": 12})
    text = (place / "Occlum.toml").read_text()
    assert 'user_space_size = "96MB"       # memory of all programs together' in text
    assert "max_num_of_threads = 12 " in text
    (place / "Occlum.toml").write_text('entry_points = ["/x"]\n')
    sizing.write_limits(place, {"user_space_size": "96MB"})
    assert (
        place / "Occlum.toml"
    ).read_text() == 'entry_points = ["/x"]\n\n[resource_limits]\nuser_space_size = "96MB"\n'
    other = tmp_path / "y"
    other.mkdir()
    instance.create(other, as_json=True)
    sizing.write_limits(other, {"user_space_size": "96MB"})
    assert json.loads((other / "Occlum.json").read_text())["resource_limits"]["user_space_size"] == "96MB"


def test_layers_of_the_build_before_are_told_of(tmp_path: Path) -> None:
    place = make(tmp_path / "x")
    text = (place / "Occlum.toml").read_text()
    (place / "Occlum.toml").write_text(text.replace('type = "ramfs"', 'type = "sefs"'))
    instance.build(place)
    (place / "run/root.layer").touch()
    assert not instance.build(place).foreign_layers
    (place / "image/etc/more").touch()
    assert instance.build(place).foreign_layers
    # What belongs to the signer, or to the image key, is not lost.
    for options in ('{ autokey_policy = ["mrsigner"] }', "{ autokey_policy = 2 }", '{ key = "image" }'):
        layer = f'type = "sefs", options = {options}'
        (place / "Occlum.toml").write_text(text.replace('type = "ramfs"', layer))
        assert not instance.build(place).foreign_layers
    (place / "Occlum.toml").write_text(text.replace('type = "ramfs"', 'type = "sefs"'))
    assert not instance.build(place, force=True).foreign_layers
    assert not (place / "run/root.layer").exists()
