"""Every command that README, tutorial, guides and the other pages show does what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

import doc_commands as docs
from framework import OCCLUM, ROOT

WITH_STEPS = [page for page in docs.pages() if docs.steps(page.read_text())]


@pytest.mark.parametrize("page", WITH_STEPS, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_the_page_shows_is_so(page: Path, tmp_path: Path) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    (home / "run").mkdir(parents=True, mode=0o700)
    work.mkdir()
    env = docs.environment(OCCLUM.parent, home)
    complaints = docs.run_page(page.relative_to(ROOT), page.read_text(), work, env, fresh_clone=False)
    assert complaints == [], "\n\n".join(complaints)
    assert list((home / "run").iterdir()) == [], "the page leaves an enclave running"


@pytest.mark.parametrize("page", docs.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_what_is_not_run_says_why(page: Path) -> None:
    assert docs.untold(page.read_text()) == []


PAGE = """
```console
$ echo one
one
$ printf 'a\\nb\\nc\\n'
a
...
$ exit_with() { return 7; }; exit_with
# exit status 7
$ cat << END
> text
> END
text
```
```text title="file"
content
```
```console
$ cat file
cont...
```
"""


def run(text: str, tmp_path: Path) -> list[str]:
    """The complaints about a page."""
    (tmp_path / "home").mkdir(exist_ok=True)
    return docs.run_page(
        tmp_path, text, tmp_path, docs.environment(OCCLUM.parent, tmp_path / "home"), fresh_clone=False
    )


def test_true_pages_pass(tmp_path: Path) -> None:
    assert run(PAGE, tmp_path) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("\none\n", "\ntwo\n"),
        ("# exit status 7", "# exit status 0"),
        ("cont...", "text..."),
        ("$ cat file", "$ cat none"),
    ],
)
def test_pages_that_are_not_true_are_found(right: str, wrong: str, tmp_path: Path) -> None:
    assert PAGE.count(right) == 1
    assert len(run(PAGE.replace(right, wrong), tmp_path)) == 1


def test_a_syntax_error_is_that_steps_alone(tmp_path: Path) -> None:
    (complaint,) = run("```console\n$ echo (\n$ echo fine\nfine\n```\n", tmp_path)
    assert "echo (" in complaint
