"""What the documentation site is made of is complete. `make docs` builds it."""

from __future__ import annotations

import docs_hooks
from framework import ROOT
from occlum import cli
from occlum.codes import ERRORS, STATUSES


def test_each_crate_in_the_image_has_a_reason() -> None:
    assert {package["name"] for package in docs_hooks.blob_packages()} == set(docs_hooks.reasons())


def test_the_pages_have_all_commands_and_errors() -> None:
    page = docs_hooks.commands_page()
    assert all(f"## occlum {name}\n" in page for name in cli.COMMANDS)
    page = docs_hooks.errors_page()
    assert all(code in page for code in ERRORS)


def test_the_page_of_exit_statuses_is_the_table() -> None:
    text = (ROOT / "docs" / "exit-status.md").read_text()
    assert all(row.status in text for row in STATUSES)
