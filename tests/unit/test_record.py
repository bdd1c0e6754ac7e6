"""Records of campaigns: what is written can be read back, and says what was not enough."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import pytest

import campaign
import record


def sample() -> record.Record:
    shards = [
        record.Shard(0, 20, "00ff", counts=Counter({"Done": 15, "Add_rm8_r8/Base": 1200, "Add_rm8_r8/Rip": 7})),
        record.Shard(1, 21, "a0", ["it | fell"], Counter({"Done": 21})),
    ]
    return record.Record("translator", "abc123", 7, 20, "a CPU", "2026-01-02", 1.5, shards)


def test_a_record_reads_back() -> None:
    old = sample()
    new = record.parse(record.render(old, "Title", "Text."))
    assert (new.campaign, new.commit, new.seed, new.rounds) == ("translator", "abc123", 7, 20)
    assert [(s.number, s.done, s.digest) for s in new.shards] == [(0, 20, "00ff"), (1, 21, "a0")]


def test_a_record_shows_problems_and_sums() -> None:
    page = record.render(sample(), "Title", "Text.")
    assert "| done | 41 |" in page
    assert "| problems | 1 |" in page
    assert "- shard 1: it | fell" in page
    assert "Done 36" in page


def test_another_page_is_no_record() -> None:
    with pytest.raises(ValueError, match="no record"):
        record.parse("# Title\n\n| commit | abc |\n")


def test_rows_are_condensed_and_rare_forms_named() -> None:
    counts = sample().counts()
    assert campaign.condensed(counts)["Add_rm8_r8 least Rip=7 of"] == 1207
    assert "Add_rm8_r8/Rip 7" in campaign.rare(counts)
    assert "Base" not in campaign.rare(counts)
    assert campaign.rare(Counter({"Done": 1})) == ""


@pytest.mark.parametrize(("digest", "problems", "status"), [("00ff", [], 0), ("00fe", [], 1), ("00ff", ["x"], 0)])
def test_a_replay_compares(
    digest: str, problems: list[str], status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(seed: int, number: int, rounds: int) -> record.Shard:
        assert (seed, number, rounds) == (7, 0, 20)
        return record.Shard(number, rounds, digest, problems)

    kind = campaign.Campaign("", "", run, lambda: None, 1, 1)
    monkeypatch.setitem(campaign.CAMPAIGNS, "translator", kind)
    page = tmp_path / "record.md"
    page.write_text(record.render(sample(), "Title", "Text."))
    assert campaign.replay(argparse.Namespace(record=page, shard=0, here=True)) == status
    assert campaign.replay(argparse.Namespace(record=page, shard=5, here=True)) == 2
