"""The rules of ARCHITECTURE.md that can be read off the sources: who may depend on whom, where `unsafe` may stand."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from framework import ROOT

# Crate -> the crates of this project it may depend on. Read top to bottom: nobody depends on a later line, and the two
# columns (enclave, host) meet only in common.
ALLOWED: dict[str, set[str]] = {
    "occlum-linux-abi": set(),
    "occlum-enclave-abi": set(),
    "occlum-sgx-arch": set(),
    "occlum-elf": {"occlum-linux-abi"},
    "occlum-sfi-spec": set(),
    "occlum-cfi": set(),
    "occlum-sfi-translator": {"occlum-sfi-spec"},
    "occlum-sfi-verifier": {"occlum-sfi-spec"},
    "occlum-sealed-disk": set(),
    "occlum-sealed-fs": {"occlum-sealed-disk"},
}
COMMON = set(ALLOWED)
ALLOWED |= {
    "occlum-rt": COMMON - {"occlum-sfi-translator", "occlum-cfi"},
    "occlum-libos": COMMON | {"occlum-rt"},
    "occlum-blob": {"occlum-rt", "occlum-libos"},
    "occlum-pal": COMMON - {"occlum-sfi-translator", "occlum-sfi-verifier", "occlum-cfi"},
    "occlum-native": COMMON | {"occlum-pal"},
}
# Beside these only integration tests (a `tests` folder): those of the translator execute what it emits.
MAY_CONTAIN_UNSAFE = ("enclave/rt", "host/pal")
# `unsafe` as a word that is not a lint name, an attribute or part of a longer name.
UNSAFE = re.compile(r"\bunsafe\b(?!_)(?!\s*\()")
SLOW_TO_IMPORT = {"rich", "pydantic", "cryptography", "asyncio", "importlib.metadata", "matplotlib"}


@cache
def packages() -> dict[str, dict[str, object]]:
    """The workspace's crates, from Cargo itself."""
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1", "--offline"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {package["name"]: package for package in json.loads(answer)["packages"]}


def rust_files() -> list[Path]:
    """Every Rust source of the project."""
    return sorted(file for top in ("common", "enclave", "host") for file in (ROOT / top).rglob("*.rs"))


def code_of(file: Path) -> list[tuple[int, str]]:
    """Numbered lines without comments and string contents; good enough for these sources."""
    lines = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', line).split("//")[0]
        lines.append((number, bare))
    return lines


def imported_modules(file: Path) -> set[str]:
    """The modules that a Python file names in import statements, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_crate_is_placed() -> None:
    assert set(packages()) <= set(ALLOWED), "give the new crate a line in ALLOWED and in ARCHITECTURE.md"


@pytest.mark.parametrize("crate", sorted(packages()))
def test_crate_depends_only_downwards(crate: str) -> None:
    dependencies = packages()[crate]["dependencies"]
    assert isinstance(dependencies, list)
    own = {d["name"] for d in dependencies if d["name"].startswith("occlum-") and d["kind"] != "dev"}
    assert own <= ALLOWED.get(crate, set())


def test_unsafe_only_in_the_runtime_crates() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in rust_files()
        if not str(file.relative_to(ROOT)).startswith(MAY_CONTAIN_UNSAFE) and "tests" not in file.parts
        for number, line in code_of(file)
        if UNSAFE.search(line)
    ]
    assert found == []


def test_what_may_fail_is_told_to_the_allocator() -> None:
    """`TryGrow` leaves alone what is for allocations that cannot fail; Rust's own methods do not."""
    for source in (ROOT / "enclave" / "libos" / "src").rglob("*.rs"):
        assert "try_reserve" not in source.read_text(), source


def test_common_crates_are_no_std_and_forbid_unsafe() -> None:
    for root in sorted((ROOT / "common").glob("*/src/lib.rs")):
        text = root.read_text()
        assert re.search(r"#!\[(no_std|cfg_attr\(not\((test|feature = \"std\")\), no_std\))\]", text), root
        assert "#![forbid(unsafe_code)]" in text, root


def test_only_the_cli_imports_the_cli() -> None:
    package = ROOT / "python" / "occlum"
    for file in sorted(package.rglob("*.py")):
        if (package / "cli") not in file.parents and file != package / "__main__.py":
            assert not any(name.startswith("occlum.cli") for name in imported_modules(file)), file


def test_sgx_specification_shares_no_code_with_rust() -> None:
    for file in sorted((ROOT / "python" / "occlum" / "sgx").glob("*.py")):
        assert not any("_native" in name or "_host" in name for name in imported_modules(file)), file


def test_command_line_imports_nothing_slow() -> None:
    script = "import sys, occlum.cli, occlum.cli.try_; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert SLOW_TO_IMPORT.isdisjoint(loaded.split())
