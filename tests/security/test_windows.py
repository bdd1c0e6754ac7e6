"""No page has, for a moment, rights that its mapping does not have: another thread of the process would use them.

A race: where the other thread is not kept out, a store gets through once in some thousand rounds.
"""

from __future__ import annotations

from pathlib import Path

from framework import cc, enclave

SOURCE = Path(__file__).parent / "src" / "window.c"
ROUNDS = 2000


def test_no_store_reaches_a_page_that_is_brought_in_read_only() -> None:
    result = enclave([cc(SOURCE, "-static", "-pthread", "-w"), str(ROUNDS)], options=["--cpus", "2"], timeout=120)
    assert result.returncode == 0
    assert result.text.splitlines() == ["private: 0", "shared: 0"]
