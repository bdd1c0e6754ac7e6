"""BOM files: the original's schema, its exit statuses, and what is refused."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from framework import OCCLUM
from occlum.image import elf

COPY_BOM = OCCLUM.with_name("copy_bom")


def copy_bom(
    text: str, root: Path, *options: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs copy_bom on this text."""
    file = root.parent / "bom.yaml"
    file.write_text(text)
    command = [str(COPY_BOM), "-f", str(file), "--root", str(root), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | (env or {}))


def test_files_directories_links_and_libraries(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "sub/cache").mkdir(parents=True)
    (data / "sub/file").write_text("content")
    (data / "sub/cache/x").write_text("no")
    (tmp_path / "more.yaml").write_text("targets: [{target: /more, mkdirs: [a/b]}]")
    text = f"""
includes: [more.yaml, base.yaml]
excludes: [cache]
targets:
  - target: /bin
    copy:
      - files: [/bin/sh, {{name: /bin/cat, rename: dog}}]
    createlinks:
      - src: /bin/dog
        linkname: cat
  - target: /opt
    copy:
      - from: $PLACE
        dirs: [sub]
  - target: /flat
    copy:
      - dirs: [{data}/sub/]
"""
    root = tmp_path / "root"
    done = copy_bom(text, root, "--include-dir", str(tmp_path), env={"PLACE": str(data)})
    assert done.returncode == 0, done.stderr
    assert (root / "opt/sub/file").read_text() == "content"
    assert (root / "flat/file").read_text() == "content"
    assert not (root / "opt/sub/cache").exists()
    assert (root / "bin/cat").readlink() == Path("/bin/dog")
    assert (root / "more/a/b").is_dir()
    assert (root / "proc").is_dir()
    for library in elf.dependencies("/bin/cat"):
        assert (root / library.lstrip("/")).read_bytes() == Path(library).read_bytes()
    # Again, over what is there: it ends the same.
    assert copy_bom(text, root, "-i", str(tmp_path), env={"PLACE": str(data)}).returncode == 0


def test_libraries_are_those_that_the_loader_finds() -> None:
    loader = "/lib64/ld-linux-x86-64.so.2"
    for program in ("/usr/bin/python3", "/bin/bash", "/usr/bin/sqlite3", "/usr/bin/git"):
        listing = subprocess.run([loader, "--list", program], capture_output=True, text=True, check=True).stdout
        names = {line.split()[0] for line in listing.splitlines() if "=>" in line}
        found = {os.path.basename(path) for path in elf.dependencies(program)} - {os.path.basename(loader)}  # noqa: PTH119
        assert found == names - {os.path.basename(loader)}, program  # noqa: PTH119


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ("targets: [{target: /bin, copy: [{files: [/no/such/file]}]}]", 255, "no file"),
        ("targets: [{target: /bin, copy: [{dirs: [/no/such/dir]}]}]", 255, "no directory"),
        ("includes: [nowhere.yaml]", 255, "nowhere"),
        ("targets: [{target: /bin, copy: [{files: [{name: /bin/sh, hash: '00'}]}]}]", 249, "hash"),
        ("targets: [{target: /bin, copi: []}]", 253, "copi"),
        ("targets: [{target: /../bin}]", 253, "cannot be a path"),
        ("targets: [{target: /bin, copy: [{files: [$NOT_SET/x]}]}]", 253, "not set"),
        ("targets: 5", 253, "targets"),
        ("[1, 2", 253, "no YAML"),
        ("!!python/object/apply:os.system ['false']", 253, "no YAML"),
        ("a: &a [*a, *a]", 253, "bom.yaml"),
    ],
)
def test_mistakes_have_the_originals_statuses(tmp_path: Path, text: str, status: int, said: str) -> None:
    root = tmp_path / "root"
    done = copy_bom(text, root)
    assert (done.returncode, said in done.stderr) == (status, True), (done.returncode, done.stderr)
    assert not root.exists()


def test_a_right_hash_and_a_dry_run(tmp_path: Path) -> None:
    digest = hashlib.sha256(Path("/bin/sh").read_bytes()).hexdigest()
    text = f"targets: [{{target: /bin, copy: [{{files: [{{name: /bin/sh, hash: {digest}, autodep: false}}]}}]}}]"
    done = copy_bom(text, tmp_path / "root", "--dry-run")
    assert "file /bin/sh" in done.stdout
    assert not (tmp_path / "root").exists()
    assert copy_bom(text, tmp_path / "root").returncode == 0
    assert [path.name for path in (tmp_path / "root").rglob("*") if path.is_file()] == ["sh"]


def test_a_missing_library_has_its_status(tmp_path: Path) -> None:
    source = tmp_path / "x.c"
    source.write_text("int f(void); int main(void) { return f(); }")
    (tmp_path / "f.c").write_text("int f(void) { return 0; }")
    library, program = tmp_path / "libgone.so", tmp_path / "x"
    subprocess.run(["gcc", "-shared", "-o", library, tmp_path / "f.c"], check=True)
    subprocess.run(["gcc", "-o", program, source, library, f"-L{tmp_path}"], check=True, cwd=tmp_path)
    text = f"targets: [{{target: /bin, copy: [{{files: [{program}]}}]}}]"
    assert copy_bom(text, tmp_path / "root").returncode in (0, 255)
    library.unlink()
    done = copy_bom(text, tmp_path / "root2")
    assert done.returncode == 248, done.stderr
    assert "libgone.so" in done.stderr


def test_damaged_programs_are_errors(tmp_path: Path) -> None:
    data = bytearray(Path("/bin/cat").read_bytes())
    for at, value in ((32, b"\xff" * 8), (54, b"\x38\0\xff\xff"), (40, b"\xff" * 8)):
        changed = bytearray(data)
        changed[at : at + len(value)] = value
        path = tmp_path / "cat"
        path.write_bytes(bytes(changed))
        text = f"targets: [{{target: /bin, copy: [{{files: [{path}]}}]}}]"
        assert copy_bom(text, tmp_path / "root").returncode in (0, 248)
