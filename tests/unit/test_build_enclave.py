"""How the image is built: cargo has to see what its flags and the wrapper around rustc say."""

from __future__ import annotations

from pathlib import Path

import pytest

import build_enclave
import rustc_enclave
from framework import ROOT


def test_cargo_sees_edits_of_the_wrapper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its flags change, so it builds again; only one of them does, and that names nothing the code asks for."""
    before = build_enclave.rustflags().split("\x1f")
    edited = tmp_path / "rustc_enclave.py"
    edited.write_bytes(build_enclave.WRAPPER.read_bytes() + b"# edited\n")
    monkeypatch.setattr(build_enclave, "WRAPPER", edited)
    changed = set(before) ^ set(build_enclave.rustflags().split("\x1f"))
    assert len(changed) == 2
    assert all(flag.startswith("--cfg=compiled_by=") for flag in changed)
    sources = [*(ROOT / "enclave").rglob("*.rs"), *(ROOT / "common").rglob("*.rs")]
    assert not any("compiled_by" in source.read_text() for source in sources)


def test_the_wrapper_names_crates_that_are_there() -> None:
    lock = (ROOT / "Cargo.lock").read_text()
    for crate in rustc_enclave.WITH_AVX:
        assert f'name = "{crate.replace("_", "-")}"' in lock
