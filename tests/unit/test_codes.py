"""The table of errors: every code that is raised is in it, every code in it is raised; what the tool prints has one."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework import OCCLUM, ROOT
from occlum import cli, codes, errors
from occlum.codes import ERRORS, STATUSES

CODE = re.compile(r"\bOC\d{3}\b")
PACKAGE = ROOT / "python" / "occlum"


def sources() -> Iterator[Path]:
    """All files whose text may carry a code: the package without the table, and what prints from Rust."""
    yield from (path for path in PACKAGE.rglob("*.py") if path != Path(codes.__file__))
    for folder in ("enclave", "host"):
        yield from (ROOT / folder).rglob("*.rs")


def occlum(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the installed command."""
    return subprocess.run([OCCLUM, *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def test_the_table_and_the_sources_know_the_same_codes() -> None:
    # Examples in docstrings and help texts name codes, too; they have to be right as well.
    used = {code for path in sources() for code in CODE.findall(path.read_text())}
    assert used == set(ERRORS)


def error_classes() -> set[str]:
    """Names of all classes of errors that the package defines."""
    found, names = {"OcclumError"}, {"OcclumError"}
    trees = [ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")]
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    while names:
        names = {
            one.name
            for one in classes
            if one.name not in found and any(isinstance(base, ast.Name) and base.id in found for base in one.bases)
        }
        found |= names
    return found


def test_every_class_of_errors_has_a_code() -> None:
    known = error_classes()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and node.name in known:
                inherited = any(isinstance(base, ast.Name) and base.id != "OcclumError" for base in node.bases)
                own = any(isinstance(line, ast.Assign) and "code" in ast.unparse(line.targets[0]) for line in node.body)
                assert own or inherited, f"{path}: {node.name} has no code"


def test_the_base_is_raised_with_a_code_only() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "OcclumError":
                assert len(node.args) == 3 or any(word.arg == "code" for word in node.keywords), f"{path}:{node.lineno}"


@pytest.mark.parametrize("code", ERRORS)
def test_entries_are_whole_sentences(code: str) -> None:
    entry = ERRORS[code]
    assert re.fullmatch(r"OC[1-9]\d\d", code)
    assert entry.title[0].isupper()
    assert not entry.title.endswith(".")
    assert entry.cause.endswith(".")
    assert entry.fix.rstrip(")").endswith((".", "`"))


def test_errors_say_cause_fix_and_code() -> None:
    assert str(errors.OptionError("c", "f")) == "c; f [OC101]"
    assert str(errors.EnclaveError("c", code="OC302")) == "c; see `occlum explain OC302`"
    assert errors.EnclaveError("c").fix == ERRORS["OC300"].fix
    found = errors.EnclaveError.from_native("port 1 cannot [be] had [OC310]")
    assert (found.cause, found.code) == ("port 1 cannot [be] had", "OC310")
    assert (errors.EnclaveError.from_native("text").cause, errors.EnclaveError.from_native("text").code) == (
        "text",
        "OC300",
    )


def test_errors_survive_pickling() -> None:
    import pickle

    error = errors.EnclaveLost("c", "f", "OC307")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.code, str(again)) == (errors.EnclaveLost, "OC307", str(error))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nonsense"], "OC100"),
        (["try", "--nonsense", "ls"], "OC100"),
        (["try", "-m", "1Q", "ls"], "OC101"),
        (["try", "-v", "/no/such/path", "ls"], "OC102"),
        (["try", "-p", "http", "ls"], "OC103"),
        (["exec", "-n", "a/b", "ls"], "OC104"),
        (["exec", "-n", "nobody-started-this", "ls"], "OC302"),
        (["explain", "OC999"], "OC105"),
        (["fs", "ls", "/no/such/store", "/"], "OC900"),
        (["verify", "/etc/passwd"], "OC405"),
    ],
)
def test_what_the_tool_says_has_a_code(arguments: list[str], code: str) -> None:
    done = occlum(*arguments)
    assert done.returncode != 0
    assert CODE.findall(done.stderr)[-1:] == [code], done.stderr


def test_explain_knows_all() -> None:
    everything = occlum("explain").stdout
    assert all(code in everything for code in ERRORS)
    found = occlum("explain", "oc302").stdout
    assert ERRORS["OC302"].title in found
    assert "Fix" in found
    assert "SIGSEGV" in occlum("explain", "139").stdout
    assert "no such program" in occlum("explain", "127").stdout
    table = json.loads(occlum("explain", "--json").stdout)
    assert [row["code"] for row in table["errors"]] == list(ERRORS)
    assert len(table["statuses"]) == len(STATUSES)


def test_every_command_is_in_one_group() -> None:
    grouped = [name for names in cli.GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(cli.COMMANDS)


def test_the_bare_command_shows_what_to_try() -> None:
    done = occlum()
    assert (done.returncode, done.stderr) == (0, "")
    assert sum(line.startswith("  occlum ") for line in done.stdout.splitlines()) == 4
