"""`run --auto-size`: limits that fit what a workload used.

Neighbours: `occlum.cli.run`, `built`. The run has as much room as this machine reasonably gives, so that it shows what
it wants; the limits written are that and some reserve.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tempfile
from pathlib import Path

from occlum import _native
from occlum._host import launch
from occlum.config import files, page
from occlum.config.models import MB, format_size
from occlum.image import signing
from occlum.image.built import COUNTER, Built
from occlum.image.tree import write_atomically

_MOST_THREADS = 8000
# More than what was seen: another run is never quite the same.
_RESERVE = 1.25
_STEP = 16 * MB


def run_generously(what: Built, job: launch.Launch) -> tuple[_native.Outcome, dict[str, int | str]]:
    """Runs with generous limits; how it ended, and the limits that would have sufficed."""
    config = page.Config.decode(what.config)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    memory = max(config.memory_bytes, min(machine // 2 // 4096 * 4096, 64 << 30))
    generous = dataclasses.replace(config, memory_bytes=memory, max_tasks=_MOST_THREADS)
    # Another enclave, with keys of its own: what it writes is not kept.
    with tempfile.TemporaryDirectory(prefix="occlum-size-") as folder:
        layers = {row.source for row in config.mounts if row.kind == page.SEALED_LAYER}
        elsewhere = {name: f"{folder}/{at}.layer" for at, name in enumerate(sorted(layers))}
        sources = {**job.sources, **elsewhere, COUNTER: os.urandom(16).hex()}
        outcome = launch.run(_signed_anew(what, generous), dataclasses.replace(job, sources=sources))
    stats = {name: int(value) for name, value in outcome.stats if value.isdecimal()}
    used, heap = stats.get("peak_memory", 0), stats.get("heap_bytes", 0)
    threads = int(stats.get("peak_threads", 0) * _RESERVE) + 8
    wanted: dict[str, int | str] = {
        "user_space_size": format_size(_rounded(used)),
        "kernel_space_heap_size": format_size(max(32 * MB, _rounded(heap))),
        "max_num_of_threads": min(threads, _MOST_THREADS),
    }
    return outcome, wanted


def _signed_anew(what: Built, config: page.Config) -> Built:
    measured = dataclasses.replace(what, config=config.encode())
    facts = signing.facts_of(config, launch.measure(measured))
    return dataclasses.replace(measured, mrenclave=facts.mrenclave.hex(), signature=signing.development(facts))


def _rounded(size: int) -> int:
    return max(_STEP * 2, -(-int(size * _RESERVE) // _STEP) * _STEP)


def write_limits(instance: Path, wanted: dict[str, int | str]) -> str:
    """Puts limits into an instance's configuration, where all else stays as it is; the file's name."""
    path = files.find(instance)
    text = path.read_text()
    if path.suffix == ".json":
        data = json.loads(text)
        data.setdefault("resource_limits", {}).update(wanted)
        text = json.dumps(data, indent=4) + "\n"
    else:
        text = _with_limits(text, wanted)
    write_atomically(path, text)
    return path.name


def _with_limits(text: str, wanted: dict[str, int | str]) -> str:
    """The TOML text with the keys of [resource_limits] set; comments and order stay."""
    head = re.search(r"^\[resource_limits\][^\n]*\n", text, re.MULTILINE)
    if head is None:
        lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in wanted.items())
        return f"{text.rstrip()}\n\n[resource_limits]\n{lines}"
    following = re.compile(r"^\[", re.MULTILINE).search(text, head.end())
    end = following.start() if following else len(text)
    table = text[head.end() : end]
    for key, value in wanted.items():
        line = f"{key} = {json.dumps(value)}"
        table, count = re.subn(rf"^{key}\s*=\s*[^#\n]*?(?=\s*(#|$))", line, table, count=1, flags=re.MULTILINE)
        if not count:
            table = f"{line}\n{table}"
    return text[: head.end()] + table + text[end:]
