"""The table of errors: every code that is raised is in it, every code in it is raised; what the tool prints has one."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
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
    assert str(errors.EnclaveError("c", code="OC302")) == "c; see `occlum explain OC302` [OC302]"
    assert errors.EnclaveError("c").fix == ERRORS["OC300"].fix
    found = errors.EnclaveError.from_native("port 1 cannot [be] had [OC310]")
    assert (found.cause, found.code) == ("port 1 cannot [be] had", "OC310")
    fixed = errors.EnclaveError.from_native("port 1; it is in use; name another [OC310]")
    assert (fixed.cause, fixed.fix, fixed.code) == ("port 1; it is in use", "name another", "OC310")
    assert str(fixed) == "port 1; it is in use; name another [OC310]"
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
        (["fs", "gen-key", "/no/such/key"], "OC106"),
        (["fs", "gen-key", "/etc/passwd"], "OC106"),
        (["verify", "/etc/passwd"], "OC405"),
    ],
)
def test_what_the_tool_says_has_a_code(arguments: list[str], code: str) -> None:
    done = occlum(*arguments)
    assert done.returncode != 0
    assert done.stderr.rstrip().endswith(f"[{code}]"), done.stderr


@pytest.mark.parametrize(
    "words",
    [
        "try true",
        "exec true",
        "run true",
        "init",
        "build",
        "package x",
        "export x",
        "print mrenclave",
        "print config",
        "config check",
        "diff a b",
        "start -n never-started -v .",
    ],
)
def test_a_working_directory_that_was_removed_is_an_error_like_others(tmp_path: Path, words: str) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f'cd "{gone}" && rmdir "{gone}" && exec "{OCCLUM}" {words}'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 125
    assert "Traceback" not in done.stderr
    assert re.search(r" \[OC\d{3}\]$", done.stderr), done.stderr


def test_what_the_system_refuses_names_the_file_and_what_the_system_said(tmp_path: Path) -> None:
    config = tmp_path / "Occlum.json"
    config.write_text("{}")
    done = occlum("config", "migrate", "-o", "/no/such/place", str(config))
    assert (done.returncode, done.stderr) == (125, "occlum: /no/such/place: No such file or directory [OC106]\n")
    assert errors.refused(OSError(13, "Permission denied", b"/a")) == "/a: Permission denied"
    assert errors.refused(OSError(28, "No space left on device")) == "No space left on device"
    assert errors.refused(OSError("words only")) == "words only"


def test_copying_a_file_that_is_not_there(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    assert occlum("fs", "mkfs", "--size", "1M", store).returncode == 0
    done = occlum("fs", "cp", store, "/no/such/file", ":/x")
    assert done.returncode == 125
    assert done.stderr.startswith("occlum: /no/such/file: No such file or directory; ")
    assert done.stderr.endswith(" [OC404]\n")


def test_copy_bom_has_codes_too(tmp_path: Path) -> None:
    bom = tmp_path / "bom.yaml"
    for text, words, status, code in (
        ("targets:\n  - target: /\n    copy:\n      - files: [/no/such]\n", [], 255, "OC721"),
        ("targets:\n  - target: /\n    mkdirs: [x]\n", ["--root", "/dev/null/x"], 252, "OC721"),
        ("targets: []\n", ["--nonsense"], 125, "OC100"),
    ):
        bom.write_text(text)
        command = [str(OCCLUM.with_name("copy_bom")), "-f", str(bom), "--root", str(tmp_path / "root"), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == status
        assert done.stderr.rstrip().endswith(f"[{code}]"), done.stderr


def named_commands() -> Iterator[tuple[Path, str]]:
    """All that stands in backquotes and begins with `occlum`, in texts that people read."""
    pages = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *(ROOT / "docs").rglob("*.md")]
    rust = [path for folder in ("enclave", "host") for path in (ROOT / folder).rglob("*.rs")]
    for path in (*PACKAGE.rglob("*.py"), *rust, *(page for page in pages if "records" not in page.parts)):
        # Strings that go on in the next line.
        text = re.sub(r'"\n\s*f?"', "", path.read_text())
        for found in re.findall(r"`occlum ([^`\n]+)`", text):
            yield path, found


def parse(words: list[str]) -> None:
    """As the command line does, as far as it needs no files; UsageError if it cannot."""
    command: click.Command = cli.occlum
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        context = click.Context(command)
        found = command.get_command(context, words[0])
        if found is None:
            raise click.UsageError(f"no command {words[0]}")
        command, words = found, words[1:]
    context = command.context_class(command, **command.context_settings)
    _, rest, _ = command.make_parser(context).parse_args(words)
    if rest and not isinstance(command, click.Group):
        raise click.UsageError(f"too many words: {rest}")


def test_the_commands_that_texts_name_are_commands() -> None:
    for path, found in named_commands():
        if re.search(r"\bv1\b", found) or found.startswith("COMMAND"):
            # Domain separators of keys; the placeholder.
            continue
        one = re.sub(r"\{[^}]*\}", "NAME", found).replace("...", "").split("|")[0]
        try:
            parse(shlex.split(one))
        except click.BadOptionUsage:
            # The option is there; the text leaves its value out.
            continue
        except click.UsageError as error:
            pytest.fail(f"{path}: `occlum {found}`: {error.format_message()}")


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
