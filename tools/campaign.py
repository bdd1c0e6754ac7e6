#!/usr/bin/env python3
"""Runs a campaign of hostile input shard by shard, writes its record, and repeats shards of recorded campaigns.

    tools/campaign.py run translator --shards 100 --rounds 200000 --record docs/records/DATE-translator.md
    tools/campaign.py replay docs/records/DATE-translator.md --shard 7

Neighbours: `record` is the format, `CAMPAIGNS` below names what can run: the two SFI crates' fuzzers are test programs
that print counts and a digest; `syscall_fuzz` and `hostile_host` run enclaves, where time has its say, so that their
digests cover what was asked (seeds, calls, fields) and the verdicts, not every count.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import hostile_host
import record
import syscall_fuzz
from record import ROOT, Record, Shard

# Lines that the fuzzers of the SFI crates print.
COUNT = re.compile(r"^\.?count (\S+) (\d+)$", re.MULTILINE)
ROW = re.compile(r"^row (\S+) (.*)$", re.MULTILINE)
DONE = re.compile(r"^shard .*?done (\d+) problems (\d+) digest ([0-9a-f]+)", re.MULTILINE)
ENOUGH = 1000
# A list that is longer is none to be read.
LISTED = 500


@dataclass(frozen=True)
class Campaign:
    """What can run."""

    title: str
    text: str
    # Seed, shard, rounds.
    run: Callable[[int, int, int], Shard]
    # Builds what the shards need, once, before they run at the same time.
    prepare: Callable[[], object]
    rounds: int
    shards: int


@cache
def test_program(package: str, name: str) -> Path:
    """A test of a crate, built with optimisation."""
    command = ["cargo", "test", "--release", "--quiet", "--package", package, "--test", name, "--no-run"]
    done = subprocess.run([*command, "--message-format=json"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return next(Path(m["executable"]) for m in messages if m.get("executable") and m["target"]["name"] == name)


def run_test(package: str, name: str, test: str, settings: tuple[int, int, int]) -> Shard:
    """One shard of a fuzzer that is a test."""
    names = ("OCCLUM_TEST_SEED", "OCCLUM_TEST_SHARD", "OCCLUM_TEST_ROUNDS")
    environment = os.environ | dict(zip(names, map(str, settings), strict=True))
    program = test_program(package, name)
    command = [str(program), "--exact", test, "--nocapture"]
    folder = ROOT / "common" / package.removeprefix("occlum-")
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace")
    counts = Counter({what: int(n) for what, n in COUNT.findall(done.stdout)})
    for row, forms in ROW.findall(done.stdout):
        counts.update({f"{row}/{form}": int(n) for form, n in re.findall(r"(\w+)=(\d+)", forms)})
    last = DONE.search(done.stdout)
    shard = Shard(settings[1], int(last[1]) if last else 0, last[3] if last else "0", counts=counts)
    if done.returncode != 0 or last is None:
        found = re.findall(r"^(?:sequence \d+: |accepted, but |.*died at ).*", done.stdout + done.stderr, re.MULTILINE)
        shard.problems.extend(found or [f"status {done.returncode}"])
        print((done.stdout + done.stderr)[-1500:] if not found else "\n".join(found), file=sys.stderr)
    return shard


def translator(seed: int, shard: int, rounds: int) -> Shard:
    """Sequences on hardware and translated."""
    return run_test("occlum-sfi-translator", "hardware", "sequences_run_like_native", (seed, shard, rounds))


def shadow(seed: int, shard: int, rounds: int) -> Shard:
    """The same with a shadow stack."""
    test = "sequences_with_a_shadow_stack_run_like_native"
    return run_test("occlum-sfi-translator", "hardware", test, (seed, shard, rounds))


def seldom(seed: int, shard: int, rounds: int) -> Shard:
    """Sequences that begin with seldom operands."""
    test = "seldom_operands_run_like_native"
    return run_test("occlum-sfi-translator", "hardware", test, (seed, shard, rounds))


def verifier(seed: int, shard: int, rounds: int) -> Shard:
    """Mutants of accepted code."""
    return run_test("occlum-sfi-verifier", "fuzz", "accepted_mutants_are_harmless", (seed, shard, rounds))


def mutants(seed: int, shard: int, rounds: int) -> Shard:
    """Accepted mutants, executed."""
    test = "accepted_mutants_harm_nothing_but_their_slot"
    return run_test("occlum-sfi-translator", "hardware", test, (seed, shard, rounds))


SEQUENCES = """
Sequences of 1 to 12 instructions by grammar, some with changed bytes, some random bytes, each from random state, run
natively and translated in scratch processes (`common/sfi-translator/tests/hardware`); registers, flags, vectors, x87,
memory, end and fault addresses are compared. *Done*, *Emulated* (up to the instruction that the LibOS does), *Fault*,
*Fetch* (control left for where no code is) and *Loop* agree. *Wild*: the native side used an address above 4 GiB,
which differs by design. *Own*: it hit the test's own memory, or a breakpoint would have changed other code.
*Undefined*: flags that the manual leaves undefined. *ReturnSlot*, *SegmentBase*, *Probe*, *Leave*, *String*,
*Vendor*: differences on purpose, explained in `side.rs` and docs/sfi.md. A line of the table: kind of instruction
(allow-list row by opcode, prefix and operand size), how often it was executed and compared, and the least of its
operand forms. Only instructions before the first branch of a sequence count. The digest covers the sequences and how
they ended.
"""

CAMPAIGNS = {
    "mutants": Campaign(
        "Accepted mutants, executed",
        """
Translations of random sequences with bytes changed; what the verifier still accepts runs in a scratch process
(`common/sfi-translator/tests/hardware/mutants.rs`). A problem is a write outside the slot, control that leaves for
anything but the stubs, a system call, or an address of the slot in a register that the program sees; six pieces of
code that do such things are run first and must be noticed. *Done* left by a stub, *Fault* by a signal, *Loop* not in
time. *done* counts mutants that ran; a shard's rounds are sequences, of each of which twelve mutants are tried.
""",
        mutants,
        lambda: test_program("occlum-sfi-translator", "hardware"),
        20_000,
        20,
    ),
    "translator": Campaign(
        "Translated code against the hardware",
        SEQUENCES,
        translator,
        lambda: test_program("occlum-sfi-translator", "hardware"),
        200_000,
        100,
    ),
    "translator-shadow": Campaign(
        "Translated code with a shadow stack against the hardware",
        SEQUENCES
        + """
With a shadow stack (`--cfi=shadow-stack`): *Refused*: up to a return that goes elsewhere than its call came from, where
the translated side traps. `ret n` is emulated.
""",
        shadow,
        lambda: test_program("occlum-sfi-translator", "hardware"),
        200_000,
        10,
    ),
    "translator-seldom": Campaign(
        "Translated code against the hardware: seldom operands",
        SEQUENCES
        + """
Each sequence begins with a kind of instruction and form of operand that the campaign over all of them compares seldom:
rsp as an operand, and hints (`0F 18`, `0F 1C`, `0F 1F`). Only these are counted.
""",
        seldom,
        lambda: test_program("occlum-sfi-translator", "hardware"),
        100_000,
        10,
    ),
    "verifier": Campaign(
        "Mutants of accepted code before the verifier",
        """
Accepted units (the snippets of `pass/` and fragments of libm) with bytes and whole instructions changed: each mutant
is refused, or the abstract interpreter of `common/sfi-verifier/tests/slow` finds it harmless. *change-*: how they
were changed, *refused-*: by which check. The digest covers the mutants and the verdicts; it depends on the libm of
the machine.
""",
        verifier,
        lambda: test_program("occlum-sfi-verifier", "fuzz"),
        1_000_000,
        100,
    ),
    "syscalls": Campaign(syscall_fuzz.TITLE, syscall_fuzz.TEXT, syscall_fuzz.shard, syscall_fuzz.prepare, 102_000, 100),
    "hostile-host": Campaign(
        hostile_host.TITLE, hostile_host.TEXT, hostile_host.shard, hostile_host.prepare, 6000, 150
    ),
}


def condensed(counts: Counter[str]) -> Counter[str]:
    """Rows of the translator's table as `row:least-form` with their sum, so that a record stays readable."""
    rows: dict[str, Counter[str]] = {}
    out: Counter[str] = Counter()
    for name, n in counts.items():
        row, _, form = name.partition("/")
        if form:
            rows.setdefault(row, Counter())[form] = n
        else:
            out[name] = n
    for row, forms in rows.items():
        form, least = min(forms.items(), key=lambda item: item[1])
        out[f"{row} least {form}={least} of"] = forms.total()
    return out


def rare(counts: Counter[str]) -> str:
    """Forms of rows that were compared too seldom."""
    names = sorted(f"{name} {n}" for name, n in counts.items() if "/" in name and n < ENOUGH)
    listed = ", ".join(names) if len(names) <= LISTED else f"{len(names)} pairs of row and form"
    return (
        f"Compared less than {ENOUGH} times: {listed or 'nothing'}.\n"
        if any("/" in name and n for name, n in counts.items())
        else ""
    )


def write(path: Path, done: Record) -> None:
    """The record as it is so far."""
    campaign = CAMPAIGNS[done.campaign]
    total = done.counts()
    text = campaign.text.strip() + "\n\n" + rare(total)
    page = record.render(
        Record(**{**vars(done), "shards": with_counts(done, condensed(total))}), f"{campaign.title} ({done.date})", text
    )
    path.write_text(page)


def with_counts(done: Record, counts: Counter[str]) -> list[Shard]:
    """The shards, with all counts in the first."""
    shards = [Shard(s.number, s.done, s.digest, s.problems) for s in done.shards]
    if shards:
        shards[0].counts = counts
    return shards


def run(options: argparse.Namespace) -> int:
    """Runs shards, and writes the record after each."""
    campaign = CAMPAIGNS[options.campaign]
    tested = record.commit()
    if options.record and tested.endswith("-dirty"):
        print("a record needs a commit: commit your changes first", file=sys.stderr)
        return 2
    rounds, begin = options.rounds or campaign.rounds, time.monotonic()
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    done = Record(options.campaign, tested, options.seed, rounds, record.machine(), date, 0)
    print(f"{options.campaign}: seed {options.seed}, commit {tested}", flush=True)
    numbers = options.only or range(options.first, options.first + (options.shards or campaign.shards))

    campaign.prepare()

    def one(number: int) -> Shard | None:
        late = options.seconds is not None and time.monotonic() - begin > options.seconds
        return None if late else campaign.run(options.seed, number, rounds)

    with ThreadPoolExecutor(options.jobs) as pool:
        for future in as_completed([pool.submit(one, number) for number in numbers]):
            if (shard := future.result()) is None:
                continue
            done.shards = sorted([*done.shards, shard], key=lambda s: s.number)
            done.minutes = (time.monotonic() - begin) / 60
            print(f"shard {shard.number}: {shard.done} done, digest {shard.digest} {shard.problems or ''}", flush=True)
            if options.record:
                write(options.record, done)
    return 1 if done.problems() else 0


def replay(options: argparse.Namespace) -> int:
    """Runs a shard of a record again, at the commit of the record; 0 if it gives the same digest."""
    old = record.parse(options.record.read_text())
    wanted = next((s for s in old.shards if options.shard in (None, s.number)), None)
    if wanted is None:
        print(f"the record has no shard {options.shard}", file=sys.stderr)
        return 2
    if not options.here and record.commit() != old.commit:
        return replay_elsewhere(options.record, wanted.number, old)
    if record.machine() != old.machine:
        print(f"recorded on {old.machine}; this is {record.machine()}")
    shard = CAMPAIGNS[old.campaign].run(old.seed, wanted.number, old.rounds)
    # Inputs that show a problem are not in the digest: a record that names one can be repeated, too.
    same = shard.digest == wanted.digest
    for problem in shard.problems:
        print(f"problem: {problem}")
    print(f"shard {shard.number}: {shard.done} done, digest {shard.digest}, recorded {wanted.digest}")
    print("the same" if same else "NOT the same")
    return 0 if same else 1


def replay_elsewhere(page: Path, shard: int, old: Record) -> int:
    """The same in a checkout of the record's commit."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        if subprocess.run([*git, "add", "--quiet", "--detach", tree, old.commit], check=False).returncode:
            print(f"commit {old.commit} is not here; --here runs what is", file=sys.stderr)
            return 2
        print(f"at commit {old.commit}", flush=True)
        try:
            command = [sys.executable, "tools/campaign.py", "replay", "--here", "--shard", str(shard)]
            target = {"CARGO_TARGET_DIR": str(ROOT / "target" / "replay")}
            return subprocess.run(
                [*command, str(page.resolve())], cwd=tree, env=os.environ | target, check=False
            ).returncode
        finally:
            subprocess.run([*git, "remove", "--force", tree], check=False)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    runner = commands.add_parser("run", help="run a campaign")
    runner.add_argument("campaign", choices=CAMPAIGNS)
    runner.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)), help="default: random")
    runner.add_argument("--shards", type=int, help="how many")
    runner.add_argument("--first", type=int, default=0, help="number of the first shard")
    runner.add_argument("--only", type=int, nargs="+", metavar="N", help="these shards")
    runner.add_argument("--rounds", type=int, help="size of a shard")
    runner.add_argument("--seconds", type=float, help="start no shard later than this")
    runner.add_argument("--jobs", type=int, default=1, help="shards at a time")
    runner.add_argument("--record", type=Path, metavar="FILE", help="write the record there")
    runner.set_defaults(act=run)
    again = commands.add_parser("replay", help="repeat a shard of a record")
    again.add_argument("record", type=Path)
    again.add_argument("--shard", type=int, help="default: the first")
    again.add_argument("--here", action="store_true", help="in this tree, whatever its commit")
    again.set_defaults(act=replay)
    options = parser.parse_args()
    return int(options.act(options))


if __name__ == "__main__":
    raise SystemExit(main())
