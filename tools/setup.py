"""Installs what this machine lacks: Debian packages, the Python environment; checks the Rust toolchain.

Run by make. As root on Debian it installs the missing packages of tools/debian-packages.txt; otherwise it
prints exactly what to install and stops. Only the standard library may be imported here: this runs before anything
is installed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ROOT / "tools" / "debian-packages.txt"
REQUIREMENTS = ROOT / "tools" / "requirements-dev.txt"
VENV = ROOT / ".venv"
OLDEST_PYTHON = (3, 11)
OLDEST_RUST = (1, 88)


class SetupError(Exception):
    """Something is missing that cannot be installed here; the message says what to do."""


def wanted_packages() -> list[str]:
    """The list in the tree, comments removed."""
    lines = (line.split("#")[0].strip() for line in PACKAGES.read_text().splitlines())
    return [line for line in lines if line]


def missing_packages() -> list[str]:
    """Those that dpkg does not report as installed."""
    wanted = wanted_packages()
    query = ["dpkg-query", "-W", "-f=${Package} ${db:Status-Status}\n", *wanted]
    listing = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    installed = {line.split()[0] for line in listing.splitlines() if line.endswith(" installed")}
    return [package for package in wanted if package not in installed]


def install_packages() -> None:
    """Installs the missing Debian packages, or says how to."""
    if shutil.which("dpkg-query") is None:
        names = " ".join(wanted_packages())
        print(f"setup: not a Debian machine; make sure that it has the likes of: {names}")
        return
    missing = missing_packages()
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if os.geteuid() != 0:
        raise SetupError(f"Debian packages are missing. Run:\n  sudo {' '.join(command)}")
    print(f"setup: installing {' '.join(missing)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    subprocess.run(["apt-get", "-qq", "update"], check=True, env=environment, **quiet)  # type: ignore[call-overload]
    subprocess.run(command, check=True, env=environment, **quiet)  # type: ignore[call-overload]


def check_rust() -> None:
    """The Rust toolchain cannot come from Debian stable: it is too old there."""
    how = (
        "Install Rust stable with rustfmt and clippy (https://rustup.rs):\n"
        "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y -c rustfmt -c clippy\n"
        "then open a new shell, or put ~/.cargo/bin on PATH."
    )
    cargo = shutil.which("cargo")
    if cargo is None:
        raise SetupError(f"cargo is not on PATH. {how}")
    answer = subprocess.run([cargo, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"(\d+)\.(\d+)", answer)
    if version is None or (int(version[1]), int(version[2])) < OLDEST_RUST:
        oldest = ".".join(map(str, OLDEST_RUST))
        raise SetupError(f"Rust {oldest} or newer is needed, this is: {answer.strip()}. {how}")


def make_venv() -> None:
    """Creates .venv and installs the requirements, unless they are those it already has."""
    stamp = VENV / "requirements.sha256"
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    print("setup: creating .venv", flush=True)
    venv.create(VENV, with_pip=True, clear=True)
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--requirement", str(REQUIREMENTS)], check=True, stdin=subprocess.DEVNULL)
    stamp.write_text(digest)


def main() -> int:
    """Sets the machine up; 1 with a message if it cannot."""
    if sys.version_info < OLDEST_PYTHON:
        print(f"setup: Python 3.11 or newer is needed, this is {sys.version.split()[0]}", file=sys.stderr)
        return 1
    try:
        install_packages()
        check_rust()
        make_venv()
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"setup: {' '.join(map(str, error.cmd))} failed with status {error.returncode}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
