"""Bars on standard error for what takes more than a second. Only people see them: nothing unless it is a terminal.

rich is imported when there is something to show, never before.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

DELAY_S = 1.0


@contextlib.contextmanager
def counted(total: int, wanted: bool = True) -> Iterator[Callable[[str], None]]:
    """A bar for `total` steps, which the function moves on by one and names."""
    if not wanted or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[name]}"))
    # Lines for a terminal go above the bar; lines for a file must stay on standard output.
    shared = sys.stdout.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=shared) as bar:
        task = bar.add_task("", total=total, name="")
        yield lambda name: bar.update(task, advance=1, name=name[-40:])


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """A moving line, with the time, for what has no known end; it appears if that takes longer than a second."""
    if not sys.stderr.isatty():
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_spin, args=(what, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _spin(what: str, over: threading.Event) -> None:
    if over.wait(DELAY_S):
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns: tuple[Any, ...] = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        bar.add_task(what, total=None)
        over.wait()
