"""`occlum verify`: files and trees, the report, the exit status; hostile files."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from click.testing import CliRunner

from framework import OCCLUM
from occlum import _native
from occlum.cli import verify

PROGRAM = Path("/bin/true")
LIBRARY = Path("/lib64/ld-linux-x86-64.so.2")


def occlum(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs the installed command."""
    command = [OCCLUM, "verify", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A program under three names, a library, and files that are not for the verifier."""
    (tmp_path / "sub").mkdir()
    shutil.copy(PROGRAM, tmp_path / "program")
    os.link(tmp_path / "program", tmp_path / "sub" / "again")
    (tmp_path / "sub" / "link").symlink_to(tmp_path / "program")
    shutil.copy(LIBRARY, tmp_path / "sub" / "library.so")
    (tmp_path / "text").write_text("no code\n")
    (tmp_path / "empty").write_bytes(b"")
    foreign = bytearray((tmp_path / "program").read_bytes())
    foreign[18] = 183  # AArch64
    (tmp_path / "foreign").write_bytes(foreign)
    relocatable = bytearray(foreign)
    relocatable[16:20] = b"\x01\x00\x3e\x00"
    (tmp_path / "object.o").write_bytes(relocatable)
    return tmp_path


def test_a_program_is_accepted() -> None:
    done = occlum(PROGRAM)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"accepted   {PROGRAM} (")
    assert lines[1].startswith("1 accepted, 0 refused, 0 skipped; ")


def test_a_tree_is_searched_and_each_file_counted_once(tree: Path) -> None:
    done = occlum("--json", tree)
    assert done.returncode == 0
    report = json.loads(done.stdout)
    statuses = {Path(entry["path"]).name: entry["status"] for entry in report["files"]}
    accepted, skipped = "accepted", "skipped"
    assert statuses == {
        "empty": skipped,
        "foreign": skipped,
        "object.o": skipped,
        "program": accepted,
        "text": skipped,
        "library.so": accepted,
    }
    totals = report["totals"]
    assert (totals["accepted"], totals["refused"], totals["skipped"], totals["unreadable"]) == (2, 0, 4, 0)
    assert totals["skipped_because"] == {
        "not an ELF file": 2,
        "not for x86-64": 1,
        "neither a program nor a shared object": 1,
    }
    for name in ("fragments", "source_bytes", "code_bytes"):
        assert totals[name] == sum(entry.get(name, 0) for entry in report["files"]) > 0


def test_the_order_does_not_depend_on_the_threads(tree: Path) -> None:
    one, many = (json.loads(occlum("--json", "-j", jobs, tree).stdout) for jobs in ("1", "8"))
    assert one == many


def test_quiet_leaves_only_the_summary(tree: Path) -> None:
    done = occlum("-q", tree)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    assert done.stdout.startswith("2 accepted, 0 refused, 4 skipped; ")


def test_nothing_to_verify_is_a_failure(tree: Path) -> None:
    done = occlum(tree / "text")
    assert done.returncode == verify.EXIT_REFUSED
    assert f"skipped    {tree / 'text'}: not an ELF file" in done.stdout
    assert done.stderr == "occlum: no ELF file for x86-64 with code among them [OC405]\n"


def test_a_path_that_is_not_there_is_named() -> None:
    done = occlum("/nowhere/at/all")
    assert done.returncode == 125
    assert "/nowhere/at/all" in done.stderr


def test_a_file_that_vanishes_is_unreadable() -> None:
    result = verify.verify_one("/nowhere/at/all")
    assert (result.kind, result.error) == ("unreadable", "No such file or directory")


def test_help_teaches() -> None:
    text = occlum("--help").stdout
    assert all(word in text for word in ("--json", "occlum verify /usr/bin", "exit status", "V1 to V14"))


REFUSED = SimpleNamespace(
    kind="refused",
    reason="",
    fragments=3,
    source_bytes=100,
    code_bytes=200,
    violation=SimpleNamespace(
        offset=0x1234,
        address=0x40000010,
        code=b"\x0f\x05",
        disassembly="syscall",
        check="Rule",
        invariant="V1",
        reason="no rule of the allow-list names this encoding",
    ),
)


def refusing(path: str, **_: bool) -> verify.Result:
    """A verifier that refuses every file but PROGRAM."""
    if path == str(PROGRAM):
        return verify.Result(path, _native.verify_file(path))
    return verify.Result(path, cast(_native.Verified, REFUSED))


def test_a_refused_file_is_reported_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "verify_one", refusing)
    arguments = ["-q", str(PROGRAM), str(LIBRARY)]
    done = CliRunner().invoke(verify.command, arguments, standalone_mode=False)
    assert done.return_value == verify.EXIT_REFUSED
    refused, place, why, summary = done.output.splitlines()
    assert refused == f"refused    {LIBRARY}"
    assert place == "  code at 0x1234, translated to 0x40000010: syscall"
    assert why == "  [0f 05] V1, Rule: no rule of the allow-list names this encoding"
    assert summary.startswith("1 accepted, 1 refused, 0 skipped; ")


def test_a_refused_file_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "verify_one", refusing)
    done = CliRunner().invoke(verify.command, ["--json", str(LIBRARY)], standalone_mode=False)
    assert done.return_value == verify.EXIT_REFUSED
    (entry,) = json.loads(done.output)["files"]
    assert entry["status"] == "refused"
    assert entry["violation"] == {
        "offset": 0x1234,
        "address": 0x40000010,
        "bytes": "0f05",
        "disassembly": "syscall",
        "check": "Rule",
        "invariant": "V1",
        "reason": "no rule of the allow-list names this encoding",
    }


def test_hostile_files_give_a_report(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    whole = PROGRAM.read_bytes()
    file = tmp_path / "file"
    for round_ in range(300):
        bad = bytearray(whole)
        if round_ % 3 == 0:
            del bad[chance.randrange(len(bad)) :]
        for _ in range(chance.randrange(1, 40)):
            if bad:
                # Mostly the header and the tables, whose fields are places, sizes and counts.
                near = chance.choice((64, 1024, len(bad)))
                bad[-1 - chance.randrange(len(bad)) if near == 1024 else chance.randrange(min(near, len(bad)))] = (
                    chance.choice((0, 1, 0x7F, 0xFF, chance.randrange(256)))
                )
        bad[0:4] = b"\x7fELF"
        file.write_bytes(bad)
        result = _native.verify_file(file)
        assert result.kind in ("accepted", "skipped"), result.violation


def test_targets_are_counted_at_each_level() -> None:
    done = occlum("--json", "--cfi", PROGRAM, LIBRARY)
    assert done.returncode == 0
    report = json.loads(done.stdout)
    for counts in (*(entry["cfi"] for entry in report["files"]), report["totals"]["cfi"]):
        assert counts["branches"] == counts["boundaries"]
        assert 0 < counts["returns"] < counts["boundaries"] / 5
        assert 0 < counts["strict_branches"] < counts["boundaries"] / 5
    assert report["totals"]["cfi"]["returns"] == sum(entry["cfi"]["returns"] for entry in report["files"])
    assert "strict" in occlum("--cfi", PROGRAM).stdout
    assert "cfi" not in json.loads(occlum("--json", PROGRAM).stdout)["files"][0]


def test_counting_survives_any_bytes(rng: random.Random, tmp_path: Path) -> None:
    good = PROGRAM.read_bytes()
    counted = 0
    for _ in range(60):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 30)):
            # The headers, the dynamic section and the tables of the unwinder are where readers trip.
            at = rng.randrange(0x400) if rng.random() < 0.5 else rng.randrange(len(data))
            data[at] = rng.choice((0, 0xFF, 0x7F, rng.randrange(256)))
        file = tmp_path / "mutant"
        file.write_bytes(data[: rng.randrange(64, len(data))] if rng.random() < 0.2 else data)
        counted += _native.count_targets(file) is not None
    assert counted > 5, "most mutants still have code"
