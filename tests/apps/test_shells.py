"""The shell workload, pipelines and job control under four shells."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from framework import ROOT, compiler, enclave, native, same

SHELLS = {
    "busybox": ["busybox", "sh"],
    "dash": ["dash"],
    "bash": ["bash", "--norc", "--noprofile"],
    "fish": ["fish", "--no-config"],
}
ROUNDS = 5
ROUND = ROOT / "examples" / "tst.sh"


def shell(name: str) -> list[str]:
    """The command of a shell, by full path."""
    first, *rest = SHELLS[name]
    return [compiler(first), *rest]


def words(rng: random.Random, lines: int) -> str:
    """Text in which some lines contain "the"."""
    vocabulary = ["apple", "the", "quince", "other", "line", "0", "x" * 30]
    return "".join(f"{rng.randrange(5000)} {' '.join(rng.choices(vocabulary, k=4))}\n" for _ in range(lines))


@pytest.mark.parametrize("name", SHELLS)
def test_workload(name: str, tmp_path: Path, rng: random.Random) -> None:
    """The rounds of examples/tst.sh: the same text for every shell, eight processes a round."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "input").write_text(words(rng, 400))
    script = tmp_path / "script"
    script.write_text(ROUND.read_text() * ROUNDS)
    result = same([*shell(name), script], cwd=work, timeout=60)
    assert result.returncode == 0
    assert len(result.text.splitlines()) == 2 * ROUNDS
    assert [p.name for p in work.iterdir()] == ["input"], "something changed on the host"


@pytest.mark.parametrize("name", ["busybox", "dash", "bash"])
def test_demo(name: str) -> None:
    result = same([*shell(name), ROOT / "examples" / "pipelines.sh", str(ROUNDS)], timeout=60)
    assert f"{ROUNDS * 8} processes" in result.text


def test_demo_in_full() -> None:
    """The demo of `make run`: 800 processes in one enclave."""
    result = same([*shell("busybox"), ROOT / "examples" / "pipelines.sh", "100"], timeout=90)
    assert result.returncode == 0


SCRIPTS = {
    "pipelines": 'echo one two three | tr " " "\\n" | sort -r | head -2 | cat -n; seq 1000 | grep 7 | wc -l',
    "status": "false; echo $?; true; echo $?; (exit 42); echo $?; sh -c 'kill -TERM $$'; echo $?; exit 200",
    "not found": "no-such-command-here; echo $?; /etc/passwd; echo $?; /; echo $?",
    "background": 'sleep 0.1 & a=$!; (exit 3) & b=$!; wait $b; echo $?; wait $a; echo $?; wait; echo "all $?"',
    "many in background": 'for i in 1 2 3 4 5 6 7 8; do (echo "n$i" > /tmp/bg.$$.$i) & done; wait; cat /tmp/bg.$$.*',
    "traps": "trap 'echo exit trap' EXIT; trap 'echo usr1' USR1; kill -USR1 $$; trap '' TERM; kill -TERM $$; echo alive",
    "trap interrupts wait": "trap 'echo alarm' USR1; (sleep 0.1; kill -USR1 $$) & sleep 0.3 & wait $!; echo $(($? > 128))",
    "here documents": "cat <<END\nvalue $((6 * 7))\nEND\ncat <<'END' | tr a-z A-Z\nraw $x\nEND\n",
    "large here document": "x=$(seq 20000); cat <<END | cksum\n$x\nEND\n",
    "substitution": 'x=$(echo $(echo nested) | tr a-z A-Z); echo "$x" `echo back`; y=$(false); echo $?',
    "subshells": "x=1; (x=2; echo $x; cd /; pwd); echo $x; { x=3; echo group; }; echo $x",
    "redirections": (
        "cd /tmp; echo a > r.$$; echo b >> r.$$; cat < r.$$; cat no-such-file 2>/dev/null || echo failed; "
        "{ echo out; echo err >&2; } 2>&1 | sort; exec 5>r.$$; echo five >&5; exec 5>&-; cat r.$$; rm r.$$"
    ),
    "loops": "i=0; while [ $i -lt 300 ]; do i=$((i + 1)); done; echo $i; for f in /etc/host*; do echo ${f##*/}; done",
    "functions": "f() { local x=$1; [ $x -le 0 ] && return 7; f $((x - 1)); }; f 20; echo $?; set -- a 'b c'; echo $# \"$2\"",
    "case and test": 'for x in abc 12 ""; do case $x in [0-9]*) echo number;; "") echo empty;; *) echo word;; esac; done',
    "read loop": "seq 200 | while read n; do [ $((n % 50)) = 0 ] && echo $n; done; echo a:b | { IFS=: read x y; echo $y; }",
    "pipe status": "yes | head -3; set -e; echo before; false; echo not reached",
    "kill a job": "sleep 100 & kill $!; wait $!; echo $?; sleep 100 & kill -9 $!; wait $!; echo $?",
    "umask and files": "cd /tmp; umask 027; d=d.$$; mkdir $d; touch $d/f; stat -c %a $d $d/f; ln -s f $d/l; ls $d; rm -r $d",
    "environment": "export A=1; B=2 sh -c 'echo $A $B $C'; env -i X=y env; unset A; echo ${A-unset}",
    "deep recursion of shells": 'n=${N:-0}; [ $n -ge 15 ] && exit 15; N=$((n + 1)) sh "$0"; echo $n $?; exit $n',
}


@pytest.mark.parametrize("name", ["busybox", "dash", "bash"])
@pytest.mark.parametrize("title", SCRIPTS)
def test_script(name: str, title: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(SCRIPTS[title] + "\n")
    same([*shell(name), script], timeout=30)


BASH = {
    "pipefail": "set -o pipefail; false | true; echo $? ${PIPESTATUS[@]}; true | false | true; echo ${PIPESTATUS[@]}",
    "process substitution": "diff <(seq 5) <(seq 6) ; cat <(echo a) <(echo b); tee >(wc -l) < /etc/passwd | wc -c | sort",
    "arrays": 'declare -A m; m[a]=1; m[b]=2; for k in a b; do echo $k ${m[$k]}; done; a=(x "y z"); echo ${#a[@]} "${a[1]}"',
    "coprocess": 'coproc P { read x; echo "got $x"; }; echo hello >&"${P[1]}"; read y <&"${P[0]}"; echo "$y"',
    "here string and regex": 'read a b <<< "one two"; [[ $b =~ ^t(.*)o$ ]] && echo ${BASH_REMATCH[1]}; printf -v x %05d 42; echo $x',
    "wait -n": "sleep 5 & (exit 4) & wait -n; echo $?; kill %1",
    "job control": "set -m; sleep 0.05 & fg >/dev/null; echo $?; jobs | wc -l",
    "mapfile": "mapfile -t lines < <(seq 100); echo ${#lines[@]} ${lines[99]}",
}


@pytest.mark.parametrize("title", BASH)
def test_bash(title: str) -> None:
    same([*shell("bash"), "-c", BASH[title]], timeout=30)


FISH = {
    "loops": "for i in (seq 3); echo $i; end; set x 1; while test $x -lt 50; set x (math $x + 7); end; echo $x",
    "pipelines": "seq 100 | string match -r '.*7$' | sort -rn | head -3; echo $status $pipestatus",
    "functions": "function f; echo $argv[2]; return 5; end; f a b; echo $status",
    "substitution": "echo (echo a; echo b)-x; if not false; echo yes; end; switch abc; case 'a*'; echo match; end",
}


@pytest.mark.parametrize("title", FISH)
def test_fish(title: str) -> None:
    same([*shell("fish"), "-c", FISH[title]], timeout=30)


def test_find_sort_head() -> None:
    command = (
        "find /usr/share /etc -xdev -type f -name '*.conf' 2>/dev/null | sort | head -40; find /usr/bin -xdev | wc -l"
    )
    same(["bash", "-c", command], timeout=60)


def test_tar_gzip_checksum(tmp_path: Path, rng: random.Random) -> None:
    tree = tmp_path / "tree"
    for i in range(20):
        folder = tree / f"d{i % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{i}").write_bytes(rng.randbytes(rng.randrange(20000)))
    (tree / "link").symlink_to("d0")
    pack = "tar c --sort=name tree | gzip -n | sha256sum"
    same(["bash", "-c", pack], cwd=tmp_path)
    there_and_back = (
        "tar c tree | gzip | gunzip | tar x -C /tmp -f - && diff -r tree /tmp/tree && ls -R /tmp/tree; rm -r /tmp/tree"
    )
    result = same(["bash", "-c", there_and_back], cwd=tmp_path)
    assert result.returncode == 0


def test_standard_input_and_script_from_it(rng: random.Random) -> None:
    text = words(rng, 2000)
    same(["sort", "-n"], input=text)
    same(["bash", "-s", "one"], input="echo $1; read x\nignored\necho [$x]\n")


def test_writes_stay_inside(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    mark.write_text("as before")
    script = f"echo changed > {mark}; cat {mark}; rm {mark}; mkdir {tmp_path}/new; ls {tmp_path}"
    assert enclave(["sh", "-c", script]).text == "changed\nnew\n"
    assert mark.read_text() == "as before"
    assert not (tmp_path / "new").exists()
    assert native(["cat", mark]).text == "as before"
