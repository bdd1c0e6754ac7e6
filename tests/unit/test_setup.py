"""tools/setup.py: the one list of packages, and what a user without root is told."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from framework import ROOT


@pytest.fixture
def setup() -> ModuleType:
    """The script as a module of another name: `setup` alone could be anybody's."""
    spec = importlib.util.spec_from_file_location("occlum_setup", ROOT / "tools" / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_package_list_has_no_doubles(setup: ModuleType) -> None:
    packages = setup.wanted_packages()
    assert len(packages) == len(set(packages)) > 10


def test_user_without_root_is_told_the_command(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(setup.shutil, "which", lambda name: name)
    monkeypatch.setattr(setup, "missing_packages", lambda: ["fish", "dash"])
    with pytest.raises(setup.SetupError, match=r"sudo apt-get install .* fish dash"):
        setup.install_packages()


def test_missing_rust_is_explained(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup.shutil, "which", lambda _: None)
    with pytest.raises(setup.SetupError, match=r"rustup\.rs"):
        setup.check_rust()
