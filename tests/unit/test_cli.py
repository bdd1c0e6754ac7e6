"""The command line, without starting an enclave: options, messages, exit statuses."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

from framework import OCCLUM
from occlum import cli, keys
from occlum._host import launch
from occlum.cli import environment_of, try_


def occlum(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the installed command."""
    return subprocess.run([OCCLUM, *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def parsed(*arguments: str) -> dict[str, object]:
    """The parameters of `occlum try` for these words."""
    return try_.command.make_context("try", list(arguments)).params


def test_help_lists_every_command() -> None:
    text = occlum("--help").stdout
    assert all(name in text for name in cli.COMMANDS)


def test_version() -> None:
    said = occlum("version").stdout
    assert said.startswith("occlum ")
    assert occlum("--version").stdout == occlum("-V").stdout == said


def test_every_listed_command_loads() -> None:
    group = cli.LazyGroup("occlum")
    context = click.Context(group)
    for name in cli.COMMANDS:
        loaded = group.get_command(context, name)
        assert loaded is not None
        assert loaded.name == name


def test_options_end_at_the_program() -> None:
    parameters = parsed("-q", "ls", "-q", "--diff", "--", "-x")
    assert parameters["program"] == "ls"
    assert parameters["arguments"] == ("-q", "--diff", "--", "-x")
    assert parameters["diff"] is False


def test_double_dash_ends_the_options() -> None:
    parameters = parsed("--", "--odd-name", "-q")
    assert (parameters["program"], parameters["arguments"]) == ("--odd-name", ("-q",))


@pytest.mark.parametrize(
    ("words", "strace", "program"),
    [
        (["--strace", "ls"], "-", "ls"),
        (["--strace=file", "ls"], "file", "ls"),
        (["-e", "--strace", "ls"], None, "ls"),
        (["-eA=1", "--strace", "--", "ls"], "-", "ls"),
        (["-m512M", "-q", "--strace", "ls", "--strace"], "-", "ls"),
        (["ls", "--strace"], None, "ls"),
    ],
)
def test_strace_takes_its_file_after_an_equals_sign_only(words: list[str], strace: str | None, program: str) -> None:
    parameters = parsed(*words)
    assert (parameters["strace"], parameters["program"]) == (strace, program)


def test_environment_passes_through_and_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_CALLER", "1")
    env = environment_of(["A=b=c", "EMPTY=", "FROM_CALLER"])
    assert (env["FROM_CALLER"], env["A"], env["EMPTY"]) == ("1", "b=c", "")


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["try"], "Missing argument"),
        (["try", "--nonsense", "ls"], "No such option"),
        (["try", "-m", "1Q", "ls"], "is not a size"),
        (["try", "-m", "1M", "ls"], "1M of memory; give at least 64M and at most 1T [OC101]"),
        (["try", "-m", "99999G", "ls"], "99999G of memory; give at least 64M and at most 1T [OC101]"),
        (["try", "-m", "9" * 400, "ls"], "is not a size"),
        (["try", "--timeout", "9" * 400, "ls"], "is not a duration"),
        (["try", "--stats-file", "/no/such/dir/file", "ls"], "--stats-file /no/such/dir/file: No such file"),
        (["try", "--core", "/no/such/dir/file", "ls"], "--core /no/such/dir/file: No such file"),
        (["try", "--core", "/etc/passwd/core", "ls"], "--core /etc/passwd/core: Not a directory"),
        (["try", "--keep", "/etc/passwd", "ls"], "--keep /etc/passwd is no directory; name a new directory [OC101]"),
        (["run", "--image-key", "/no/such/key", "ls"], "the key /no/such/key cannot be read: No such file"),
        (["try", "--timeout", "soon", "ls"], "is not a duration"),
        (["try", "-v", "/no/such/path", "ls"], "does not exist"),
        (["try", "-e", "=x", "ls"], "has no name"),
        (["try", "--cpus", "0", "ls"], "--cpus"),
        (["try", "--strace=/no/such/dir/file", "ls"], "No such file"),
        (["nonsense"], "No such command"),
    ],
)
def test_bad_usage_is_status_125_and_one_line_with_the_cause(arguments: list[str], cause: str) -> None:
    done = occlum(*arguments)
    assert done.returncode == 125
    assert cause in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert len(re.findall(r"\[OC\d{3}\]", done.stderr)) == 1


@pytest.mark.parametrize(
    "content", [b"", b"zz\n", b"ab" * 31, b"ab" * 33, bytes(range(200, 232)), b"12-34-", bytes(64)]
)
def test_what_is_no_key_is_told_what_a_key_is(tmp_path: Path, content: bytes) -> None:
    key, store = tmp_path / "key", tmp_path / "store"
    key.write_bytes(content)
    store.touch()
    option = ("--image-key", str(key))
    for words in (("fs", "ls", *option, str(store)), ("try", "--sealed", f"{store}:/data", *option, "ls")):
        done = occlum(*words)
        assert done.returncode == 125
        assert f"{key} is no image key: {keys.FORMS}; " in done.stderr
        assert done.stderr.endswith(" [OC901]\n")
        assert done.stderr.count("OC") == 1


def test_keys_of_both_forms_are_read(tmp_path: Path) -> None:
    key = tmp_path / "key"
    for text in ("Ab" * 32, "ab" * 32 + "\n", "ab" * 30 + "\n" + "ab" * 2 + "\n"):
        key.write_text(text)
        assert keys.read_key(key) == b"\xab" * 32
    key.write_text("-".join(["ab"] * 16) + "\n")
    assert len(keys.read_key(key)) == 32


def test_flags_say_which_streams_are_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    terminals = {0, 2}
    monkeypatch.setattr(os, "isatty", lambda descriptor: descriptor in terminals)
    job = launch.Launch(argv=["ls"], cwd="/", stats=True)
    assert job.flags() == 2 | 8 | 32
    assert launch.Launch(argv=["ls"], stats=True).flags() == 2 | 8 | 32 | 512


def test_discarded_changes_are_named_on_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    changed: Sequence[bytes] = [b"/a", b"/b", b"/c", b"/d", b"/e"]
    try_._report_changes(changed, diff=False, quiet=False)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    try_._report_changes(changed, diff=False, quiet=False)
    line = capsys.readouterr().err
    assert "/a, /b, /c, /d and 1 more" in line
    assert "-v" in line
    try_._report_changes(changed, diff=True, quiet=True)
    assert capsys.readouterr().err.splitlines() == ["/a", "/b", "/c", "/d", "/e"]


def test_mrenclave_depends_on_the_measured_options_only(tmp_path: Path) -> None:
    first = occlum("print", "mrenclave").stdout
    assert len(bytes.fromhex(first)) == 32
    again = subprocess.run(
        [OCCLUM, "print", "mrenclave"], capture_output=True, text=True, check=True, cwd=tmp_path, env={"X": "y"}
    )
    assert again.stdout == first
    assert occlum("print", "mrenclave", "-m", "512M").stdout != first
