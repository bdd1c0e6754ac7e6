"""Translations outlive nothing that they were made of: neither the process that mapped the code, nor a change of it."""

from __future__ import annotations

from pathlib import Path

from framework import cc, same

SOURCES = Path(__file__).parent / "src"


def test_no_code_of_the_last_process_runs() -> None:
    """Lookup tables that a slot keeps for the next process of a program lead only to what this one has mapped, too."""
    same([cc(SOURCES / "keptcode.c", "-static", "-w")])


def test_no_code_runs_that_was_changed_or_unmapped() -> None:
    same([cc(SOURCES / "changedcode.c", "-static", "-w")])


def test_no_page_stays_that_an_older_file_had(tmp_path: Path) -> None:
    program = cc(SOURCES / "keptpage.c", "-static", "-w")
    same([program, "/tmp"])
    same([program, tmp_path], options=["-v", str(tmp_path)])


def test_no_change_of_a_page_stays_for_the_next_process() -> None:
    """Neither in pages that are the file's for it, nor in memory that it has not written yet."""
    program = cc(SOURCES / "keptchanges.c", "-static", "-w")
    same([program])
    same([program], options=["--no-alias"])


def test_code_that_nobody_maps_leaves_room_for_others() -> None:
    """The shared part of the code cache is used again, while a process computes on without a system call."""
    same([cc(SOURCES / "codestorm.c", "-static", "-w"), "110000", "20"], timeout=300)


def test_code_that_is_kept_leaves_room_for_others() -> None:
    """Two processes keep all the shared code that they can have mapped: they go on with their own, and others run."""
    program = cc(SOURCES / "codehoard.c", "-static", "-w")
    result = same([program, "60000", "/bin/true"], timeout=300, options=["--memory", "3G"])
    assert result.text == "hoarders: yy\nnewcomer: 0\n"
