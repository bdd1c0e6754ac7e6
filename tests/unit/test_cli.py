"""The command line, without starting an enclave: options, messages, exit statuses."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

from framework import OCCLUM
from occlum import cli
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
    assert occlum("version").stdout.startswith("occlum ")


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
        (["try", "-m", "1M", "ls"], "at least 64M"),
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


def test_flags_say_which_streams_are_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    terminals = {0, 2}
    monkeypatch.setattr(os, "isatty", lambda descriptor: descriptor in terminals)
    job = launch.Launch(argv=["ls"], stats=True)
    assert job.flags() == 2 | 8 | 32


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
