"""How a program starts: every way to link one, its arguments, environment, standard streams and exit status."""

from __future__ import annotations

import random
import string
from pathlib import Path

import pytest

from framework import cc, compiler, same

SOURCES = Path(__file__).parent / "src"

LINKED = {
    "static": ["-static"],
    "static-pie": ["-static-pie", "-fPIE"],
    "dynamic-pie": ["-pie", "-fPIE"],
    "dynamic": ["-no-pie"],
    "bind-now": ["-Wl,-z,now"],
    "lazy": ["-Wl,-z,lazy"],
    "one-segment": ["-static", "-Wl,-z,noseparate-code"],
    "large-pages": ["-static", "-Wl,-z,max-page-size=0x200000"],
    "no-optimisation": ["-O0"],
    "cet": ["-fcf-protection=full"],
}


@pytest.mark.parametrize("kind", LINKED)
def test_hello(kind: str, rng: random.Random) -> None:
    word = "".join(rng.choices(string.printable, k=50)).replace("\0", "")
    program = cc(SOURCES / "hello.c", *LINKED[kind])
    result = same([program, "7", "", word, "é"], input="one\ntwo\n", env={"SOME": "thing"}, compare_stderr=True)
    assert result.returncode == 7
    assert b"exit handler" in result.stdout


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_hello_musl(kind: str) -> None:
    program = cc(SOURCES / "hello.c", *LINKED[kind], program="musl-gcc")
    assert same([program, "9"], input="line\n", compare_stderr=True).returncode == 9


def test_without_a_library() -> None:
    result = same([cc(SOURCES / "bare.S", "-nostdlib", "-static")])
    assert (result.returncode, result.stdout) == (42, b"no library here\n")


def test_cxx_exceptions() -> None:
    result = same([cc(SOURCES / "exceptions.cc", program="g++")], timeout=30)
    assert result.returncode == 128 + 6
    assert b"rethrown text" in result.stdout


def test_cxx_exceptions_static() -> None:
    same([cc(SOURCES / "exceptions.cc", "-static", program="g++")], timeout=30)


def test_shared_library_and_plugin(tmp_path: Path) -> None:
    """A program's own shared library, found by run path, and one that it opens itself."""
    (tmp_path / "part.c").write_text('const char *part(void) { return "from the library"; }\nint part_count = 3;\n')
    (tmp_path / "plugin.c").write_text(
        "#include <stdio.h>\nextern int part_count;\n"
        '__attribute__((constructor)) static void start(void) { printf("plugin starts, %d\\n", part_count); }\n'
        "_Thread_local int own = 5;\nint plugin(int x) { return own += x; }\n"
    )
    (tmp_path / "main.c").write_text(
        "#include <dlfcn.h>\n#include <stdio.h>\nconst char *part(void);\n"
        "int main(int argc, char **argv) {\n  puts(part());\n"
        "  void *h = dlopen(argv[argc - 1], RTLD_NOW);\n  if (!h) { puts(dlerror()); return 1; }\n"
        '  int (*f)(int) = (int (*)(int))dlsym(h, "plugin");\n'
        '  printf("%d %d\\n", f(1), f(2));\n  return dlclose(h);\n}\n'
    )
    library = cc(tmp_path / "part.c", "-shared", "-fPIC")
    plugin = cc([tmp_path / "plugin.c", library], "-shared", "-fPIC", f"-Wl,-rpath,{library.parent}")
    program = cc([tmp_path / "main.c", library], f"-Wl,-rpath,{library.parent}", "-rdynamic")
    result = same([program, plugin])
    assert result.returncode == 0


def test_compilers_are_there() -> None:
    """The skips above must not hide that a tool is missing where the tests count."""
    for name in ("gcc", "g++", "musl-gcc"):
        assert compiler(name)
