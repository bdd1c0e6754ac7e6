"""Sources of Debian packages, fetched once through apt from the archives that this machine knows.

apt checks the signatures; its lists and files are kept in .cache/sources: it needs no rights and changes nothing of the
machine's own. Neighbours: `suites` and tests/apps build and run what is in them.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".cache" / "sources"


class SourceError(Exception):
    """A source could not be had; the message says why."""


def source_lists(etc: Path) -> str:
    """What apt's configuration in `etc` says of Debian's own archive, asking for sources instead of programs."""
    lines = []
    for path in sorted([etc / "sources.list", *(etc / "sources.list.d").glob("*.list")]):
        if path.exists():
            found = re.findall(r"^deb (.*/debian/? .*)$", path.read_text(), re.MULTILINE)
            lines += [f"deb-src {line}" for line in found]
    for path in sorted((etc / "sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text()):
            fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", stanza, re.MULTILINE))
            if fields.get("URIs", "").rstrip("/").endswith("/debian"):
                key = f"[signed-by={fields['Signed-By']}] " if "Signed-By" in fields else ""
                lines += [
                    f"deb-src {key}{fields['URIs']} {suite} {fields.get('Components', 'main')}"
                    for suite in fields.get("Suites", "").split()
                ]
    return "".join(f"{line}\n" for line in lines)


def apt(folder: Path, *words: str, cwd: Path) -> None:
    """apt-get with all its state in `folder`."""
    settings = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    done = subprocess.run(
        ["apt-get", "--quiet=2", *options, *words], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode != 0:
        raise SourceError(f"apt-get {' '.join(words)}: {done.stderr.strip()[-500:]}")


def fetch(package: str) -> Path:
    """The upstream source of a package of this machine's release, unpacked.

    Raises:
        SourceError: there is no archive that has it, or it cannot be reached.
    """
    target = FOLDER / package
    done = target / ".complete"
    if not done.exists():
        lists = source_lists(Path("/etc/apt"))
        if not lists:
            raise SourceError("apt's configuration names no Debian archive")
        state = FOLDER / "apt"
        for folder in (state / "lists" / "partial", state / "cache" / "archives" / "partial", target):
            folder.mkdir(parents=True, exist_ok=True)
        (state / "sources.list").write_text(lists)
        apt(state, "update", cwd=target)
        apt(state, "source", "--download-only", package, cwd=target)
        archive = next(target.glob("*.orig.tar.*[!c]"))
        subprocess.run(["tar", "-xf", archive, "--strip-components=1", "-C", target], check=True)
        done.touch()
    return target
