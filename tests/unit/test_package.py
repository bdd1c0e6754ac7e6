"""The wheel alone gives a working command, with the enclave image inside, on a machine without Rust."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from framework import OCCLUM, ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that `pip wheel .` builds."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_wheel_carries_the_image(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        image = archive.read("occlum/_data/occlum-libos.elf")
        assert {"occlum/_native.pyi", "occlum/py.typed"} <= set(archive.namelist())
    # One wheel for every Python from 3.11 on.
    assert "-cp311-abi3-" in wheel.name
    assert image == (ROOT / "build" / "enclave" / "occlum-libos.elf").read_bytes()


class Machine:
    """What a user has who has only the wheel: Python, a home, and nothing of this tree or of Rust."""

    def __init__(self, wheel: Path, place: Path) -> None:
        self.place = place
        binaries = place / "venv/bin"
        (place / "home").mkdir(parents=True)
        (place / "run").mkdir(mode=0o700)
        self.env = {"PATH": f"{binaries}:/usr/bin:/bin", "HOME": str(place / "home"), "LANG": "C.UTF-8"}
        self.env["OCCLUM_RUNTIME_DIR"] = str(place / "run")
        assert shutil.which("cargo", path=self.env["PATH"]) is None
        venv.create(place / "venv", with_pip=True)
        self.says(place, "python", "-m", "pip", "install", "--quiet", str(wheel))

    def says(self, directory: Path, *command: str) -> str:
        """What a command prints there; it has to succeed."""
        path = shutil.which(command[0], path=self.env["PATH"]) or command[0]
        done = subprocess.run(
            [path, *command[1:]], cwd=directory, env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout


@pytest.fixture(scope="module")
def machine(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """One on which the wheel was installed."""
    return Machine(wheel, tmp_path_factory.mktemp("machine"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_wheel_alone_works(machine: Machine) -> None:
    measured = subprocess.run([OCCLUM, "print", "mrenclave"], capture_output=True, text=True, check=True).stdout
    assert machine.says(machine.place, "occlum", "print", "mrenclave") == measured
    assert machine.says(machine.place, "occlum", "try", "-q", "busybox", "echo", "hello") == "hello\n"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_instance_from_the_wheel_and_its_package_where_nothing_else_is(machine: Machine, tmp_path: Path) -> None:
    place = machine.place / "instance"
    machine.says(machine.place, "occlum", "new", "instance")
    bom = "includes: [base.yaml]\ntargets:\n  - target: /bin\n    copy:\n      - files: [/bin/busybox, /bin/date]\n"
    (machine.place / "app.yaml").write_text(bom)
    machine.says(machine.place, "copy_bom", "-f", "app.yaml", "--root", "instance/image")
    for name in ("sign.pem", "image.key"):
        machine.says(machine.place, "occlum", "gen-sign-key" if name == "sign.pem" else "gen-image-key", name)
    machine.says(place, "occlum", "build", "-q", "--sign-key", "../sign.pem", "--image-key", "../image.key")
    run = ("occlum", "run", "-q", "--image-key", str(machine.place / "image.key"))
    assert machine.says(place, *run, "/bin/busybox", "cat", "/etc/hosts").startswith("127.0.0.1 localhost\n")
    assert machine.says(place, *run, "/bin/date", "-u", "-d", "@0", "+%Y") == "1970\n"
    machine.says(place, "occlum", "package", "--debug", str(tmp_path / "p.tar.gz"))
    # Another machine: another home and directory, and only what was packed.
    shutil.rmtree(machine.place / "home")
    (machine.place / "home").mkdir()
    kept = machine.says(place, "occlum", "print", "mrenclave"), machine.says(place, "occlum", "print", "mrsigner")
    shutil.rmtree(place)
    machine.says(tmp_path, "tar", "-xzf", "p.tar.gz")
    place = tmp_path / "instance"
    assert machine.says(place, *run, "/bin/date", "-u", "-d", "@0", "+%Y") == "1970\n"
    found = machine.says(place, "occlum", "print", "mrenclave"), machine.says(place, "occlum", "print", "mrsigner")
    assert found == kept
    machine.says(place, "occlum", "start", "-q", "--image-key", str(machine.place / "image.key"))
    assert machine.says(place, "occlum", "exec", "/bin/busybox", "echo", "stays") == "stays\n"
    machine.says(place, "occlum", "stop")
    script = "import occlum; print(occlum.check_output(['busybox', 'echo', 'sdk'], text=True), end='')"
    assert machine.says(tmp_path, "python", "-c", script) == "sdk\n"
