"""Sealed stores on the host: `occlum.sealed`, `occlum fs`, and an independent reader of the format."""

from __future__ import annotations

import io
import json
import random
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from framework.sealed_reader import SealedReader, SealedTree
from occlum.cli import main
from occlum.errors import StoreError
from occlum.keys import generate_key, read_key
from occlum.sealed import Store

MEGABYTE = 1 << 20


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "image.key"
    generate_key(path)
    return path


def make_tree(folder: Path, seed: int) -> dict[str, bytes | str | None]:
    """A directory with files, links and directories: what each path has."""
    rng = random.Random(seed)
    made: dict[str, bytes | str | None] = {"/": None}
    folder.mkdir()
    for i in range(12):
        (folder / f"d{i}").mkdir()
        made[f"/d{i}"] = None
        for j in range(rng.randrange(12)):
            content = rng.randbytes(rng.choice([0, 1, 4096, 5000, rng.randrange(200_000)]))
            (folder / f"d{i}" / f"f{j}").write_bytes(content)
            made[f"/d{i}/f{j}"] = content
        target = "x" * rng.randrange(1, 3000)
        (folder / f"d{i}" / "link").symlink_to(target)
        made[f"/d{i}/link"] = target
    return made


def read_independently(file: Path, key: bytes | None) -> dict[str, bytes | str | None]:
    tree = SealedTree(SealedReader(file.read_bytes(), key))
    seen: dict[str, bytes | str | None] = {}
    for path, ino in tree.walk():
        mode = tree.inode(ino).mode
        if stat.S_ISDIR(mode):
            seen[path] = None
        else:
            content = tree.content(ino)
            seen[path] = content.decode() if stat.S_ISLNK(mode) else content
    return seen


@pytest.mark.parametrize("form", ["encrypted", "integrity-only"])
def test_an_independent_reader_agrees(tmp_path: Path, key_file: Path, form: str) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    key = read_key(key_file) if form == "encrypted" else None
    made = make_tree(tmp_path / "tree", seed)
    file = tmp_path / "store"
    with Store.create(file, 64 * MEGABYTE, key) as store:
        store.copy_in(tmp_path / "tree", "/")
    assert read_independently(file, key) == made
    # Commits that are in the journal only.
    store = Store(file, key)
    store.write_from("/late", io.BytesIO(b"late"))
    store.mkdir("/late-dir")
    store.sync()
    store.close(commit=False)
    assert read_independently(file, key) == made | {"/late": b"late", "/late-dir": None}


def test_a_store_without_key_is_pinned_by_its_root(tmp_path: Path) -> None:
    with Store.create(tmp_path / "a", MEGABYTE, None) as store:
        store.mkdir("/x")
    one = (tmp_path / "a").read_bytes()
    with Store(tmp_path / "a", None, read_only=True) as store:
        root = store.figures().root
        assert store.listdir("/") == ["x"]
    assert root in one


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def tool(words: Sequence[str]) -> None:
    """The whole command line, with what it makes of errors."""
    sys.exit(main(words))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(tool, ["fs", *map(str, arguments)])


def test_the_command_line_copies_lists_and_shows(tmp_path: Path, key_file: Path) -> None:
    made = make_tree(tmp_path / "tree", 1)
    store, key = tmp_path / "store", ("--image-key", key_file)
    assert run("mkfs", *key, "--size", "64M", "--from", tmp_path / "tree", store).exit_code == 0
    assert run("ls", *key, store).output.split() == sorted(p[1:] for p in made if p.count("/") == 1 and p != "/")
    assert run("cat", *key, store, "/d3/f1" if "/d3/f1" in made else "/d0/f0").exit_code == 0
    assert run("cp", *key, store, ":/", tmp_path / "out").exit_code == 0
    for path, content in made.items():
        out = tmp_path / "out" / path[1:]
        if isinstance(content, bytes):
            assert out.read_bytes() == content
        elif content is not None:
            assert str(out.readlink()) == content
    assert run("grow", *key, "--size", "128M", store).exit_code == 0
    facts = json.loads(run("stat", *key, "--json", store).output)
    assert facts["size"] == 128 * MEGABYTE
    checked = run("fsck", *key, store)
    assert (checked.exit_code, checked.output.endswith("no problems\n")) == (0, True)
    generate_key(tmp_path / "new.key")
    assert run("rotate", *key, "--new-key", tmp_path / "new.key", store).exit_code == 0
    refused = run("ls", *key, store)
    assert (refused.exit_code, "wrong key" in refused.output) == (125, True)
    assert run("ls", "--image-key", tmp_path / "new.key", store).exit_code == 0


def test_fsck_names_the_damaged_file(tmp_path: Path, key_file: Path) -> None:
    key = read_key(key_file)
    file = tmp_path / "store"
    with Store.create(file, 8 * MEGABYTE, key) as store:
        store.mkdir("/dir")
        (tmp_path / "content").write_bytes(b"x" * 3 * MEGABYTE)
        store.copy_in(tmp_path / "content", "/dir/victim")
    raw = bytearray(file.read_bytes())
    tree = SealedTree(SealedReader(bytes(raw), key))
    ino = dict(tree.walk())["/dir/victim"]
    extents = [v for k, v in tree.items.items() if k[:2] == (ino, 4)]
    logical = int.from_bytes(extents[0][:4], "little") + 5
    raw[SealedReader(bytes(raw), key).locate(logical)[0] * 4096 + 7] ^= 1
    file.write_bytes(raw)
    checked = run("fsck", "--image-key", key_file, file)
    assert checked.exit_code == 1
    assert "/dir/victim: damaged" in checked.output


def test_rollback_is_refused_with_marks(tmp_path: Path, key_file: Path) -> None:
    key, file, marks = read_key(key_file), tmp_path / "store", tmp_path / "marks"
    Store.create(file, MEGABYTE, key).close()
    with Store(file, key, insecure_counter=marks) as store:
        store.mkdir("/one")
    old = file.read_bytes()
    with Store(file, key, insecure_counter=marks) as store:
        store.mkdir("/two")
    file.write_bytes(old)
    with pytest.raises(StoreError, match="rolled back") as raised:
        Store(file, key, insecure_counter=marks)
    assert raised.value.code == "OC903"
    # The commands take the same file, which serves one store.
    options = ("--image-key", key_file, "--insecure-counter", marks)
    listed = run("ls", *options, file)
    assert (listed.exit_code, "rolled back" in str(listed.output)) == (125, True)
    assert run("ls", "--image-key", key_file, file).exit_code == 0
    other = tmp_path / "other"
    Store.create(other, MEGABYTE, key).close()
    assert "swapped" in run("ls", *options, other).output
    marks.write_text("nonsense")
    assert run("ls", *options, file).exit_code == 125
    marks.unlink()
    assert run("ls", *options, file).exit_code == 0


def test_bad_input_is_one_line(tmp_path: Path, key_file: Path) -> None:
    store = tmp_path / "store"
    store.write_bytes(b"not a store" * 1000)
    for arguments in (
        ("ls", "--image-key", key_file, store),
        ("ls", "--image-key", key_file, tmp_path / "missing"),
        ("mkfs", "--size", "1K", tmp_path / "small"),
        ("mkfs", "--size", "1M", store),
        ("ls", "--image-key", store, store),
    ):
        result = run(*arguments)
        assert result.exit_code == 125, arguments
        assert result.output.count("\n") == 1, result.output
    assert not (tmp_path / "small").exists()


def test_a_second_writer_is_kept_out(tmp_path: Path, key_file: Path) -> None:
    key, file = read_key(key_file), tmp_path / "store"
    with Store.create(file, MEGABYTE, key), pytest.raises(StoreError, match="in use"):
        Store(file, key)


def test_what_is_missing_is_said(tmp_path: Path, key_file: Path) -> None:
    store, plain = tmp_path / "store", tmp_path / "plain"
    small = run("mkfs", "--size", "1", store).output
    assert small == "occlum: a store of 1 bytes would be too small; give it at least 256K [OC101]\n"
    assert run("mkfs", "--size", "256K", "--image-key", key_file, store).exit_code == 0
    assert run("mkfs", "--size", "256K", plain).exit_code == 0
    assert run("ls", store).output == f"occlum: {store} is encrypted; give its key: --image-key FILE [OC901]\n"
    assert "leave --image-key out" in run("ls", "--image-key", key_file, plain).output
    assert "exists already; name a new file" in run("mkfs", "--size", "256K", store).output
    assert "/no/such/store cannot be made: No such file" in run("mkfs", "--size", "256K", "/no/such/store").output
    counter = ("--image-key", key_file, "--insecure-counter", "/no/such/counter")
    for words in (("ls", *counter, store), ("limit", *counter, store, "none")):
        said = run(*words)
        assert said.exit_code == 125
        assert said.output.startswith("occlum: the counter /no/such/counter cannot be used: No such file")
        assert said.output.endswith("[OC903]\n")


def test_a_limit_below_what_is_in_use_is_told_of(tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert run("mkfs", "--size", "1M", store).exit_code == 0
    assert run("limit", store, "512K").output == ""
    told = run("limit", store, "1K")
    assert (told.exit_code, "in use already" in told.output) == (0, True)
    assert run("limit", store, "none").output == ""


@pytest.mark.parametrize("size", ["8388608T", "999999999999999T"])
def test_sizes_beyond_all_files_are_refused(tmp_path: Path, size: str) -> None:
    store = tmp_path / "store"
    assert run("mkfs", "--size", "1M", store).exit_code == 0
    for words in (("mkfs", "--size", size, tmp_path / "new"), ("grow", "--size", size, store), ("limit", store, size)):
        said = run(*words)
        assert (said.exit_code, "more than any file can have" in said.output) == (125, True)
    assert store.stat().st_size == MEGABYTE
    assert not (tmp_path / "new").exists()
