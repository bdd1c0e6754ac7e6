"""`occlum completion`: a shell that has loaded the script is asked what it would complete."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from framework import OCCLUM

# Loads the script, then does what readline does when Tab is pressed behind the words: calls the function that the
# script registered, with the words in COMP_WORDS.
BASH = """
eval "$(occlum completion bash)"
function=$(complete -p occlum | sed 's/.*-F \\([^ ]*\\).*/\\1/')
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
"$function" occlum "${COMP_WORDS[COMP_CWORD]}" ""
printf '%s\\n' "${COMPREPLY[@]}"
"""


def environment() -> dict[str, str]:
    """With `occlum` in PATH."""
    return os.environ | {"PATH": f"{OCCLUM.parent}:{os.environ['PATH']}"}


def in_bash(*words: str) -> list[str]:
    """What bash offers for the last word."""
    command = ["bash", "--norc", "-c", BASH, "bash", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["occlum", "expl"], ["explain"]),
        (["occlum", "try", "--stat"], ["--stats"]),
        (["occlum", "try", "--network", "out"], ["outbound"]),
        (["occlum", "try", "-q", "python3.1"], ["python3.11"]),
        (["occlum", "explain", "oc30"], [f"OC30{digit}" for digit in range(10)]),
        (["occlum", "completion", "z"], ["zsh"]),
        (["occlum", "print", "mren"], ["mrenclave"]),
    ],
)
def test_bash_completes(words: list[str], offered: list[str]) -> None:
    found = in_bash(*words)
    assert found == offered if len(offered) != 1 else offered[0] in found


def test_bash_completes_names_of_enclaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCCLUM_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    (tmp_path / "web").mkdir(mode=0o700)
    assert in_bash("occlum", "stop", "-n", "w") == ["web"]


def test_fish_completes(tmp_path: Path) -> None:
    script = "occlum completion fish | source; complete --do-complete 'occlum expl'"
    env = environment() | {"HOME": str(tmp_path)}
    done = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.split()[0] == "explain"


def test_zsh_reads_the_script(tmp_path: Path) -> None:
    script = subprocess.run([OCCLUM, "completion", "zsh"], capture_output=True, text=True, check=True).stdout
    (tmp_path / "_occlum").write_text(script)
    load = f"autoload -Uz compinit; compinit -u -D; source {tmp_path}/_occlum; print $_comps[occlum]"
    done = subprocess.run(["zsh", "-f", "-c", load], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "_occlum_completion"
