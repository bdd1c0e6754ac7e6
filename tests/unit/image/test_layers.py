"""Archives from elsewhere: what layers mean, and that hostile ones are refused before anything of them is used."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from occlum.image import layers, oci
from occlum.image.layers import LayerError
from occlum.image.tree import BuildError, Tree

Entry = tuple[str, dict[str, Any], bytes]


def entry(name: str, content: bytes = b"", **fields: Any) -> Entry:
    """A member of an archive."""
    return name, fields, content


def tar(*entries: Entry) -> bytes:
    """An archive of these members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, fields, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def applied(tmp_path: Path, *archives: bytes) -> Tree:
    """The tree of layers upon each other."""
    tree = Tree()
    for number, data in enumerate(archives):
        path = tmp_path / f"layer{number}.tar"
        path.write_bytes(data)
        layers.apply(tree, path)
    return tree


def content(tree: Tree, path: str) -> bytes:
    """A file's bytes."""
    return b"".join(tree.nodes[path].chunks())


def test_a_layer_replaces_removes_and_hides(tmp_path: Path) -> None:
    below = tar(
        entry("etc/a", b"one"), entry("etc/b", b"two"), entry("opt/x", b"x"), entry("opt/d/y", b"y"),
        entry("bin", type=tarfile.SYMTYPE, linkname="usr/bin"), entry("usr/bin/sh", b"sh", mode=0o755, uid=3),
    )  # fmt: skip
    above = tar(
        entry("etc/a", b"other"), entry("etc/.wh.b"), entry("opt/z", b"z"), entry("opt/.wh..wh..opq"),
        entry("bin/ls", b"ls"), entry("usr/bin/dir", type=tarfile.LNKTYPE, linkname="usr/bin/sh"),
    )  # fmt: skip
    tree = applied(tmp_path, below, above)
    assert content(tree, "/etc/a") == b"other"
    assert "/etc/b" not in tree.nodes
    assert sorted(path for path in tree.nodes if path.startswith("/opt")) == ["/opt", "/opt/z"]
    # /bin is a link to /usr/bin: what is put below it goes there.
    assert content(tree, "/usr/bin/ls") == b"ls"
    assert (tree.nodes["/usr/bin/dir"].kind, tree.nodes["/usr/bin/dir"].target) == ("hard", "/usr/bin/sh")
    assert (tree.nodes["/usr/bin/sh"].mode, tree.nodes["/usr/bin/sh"].uid) == (0o755, 3)


def test_whiteouts_hide_what_is_below_and_nothing_of_their_own_layer(tmp_path: Path) -> None:
    below = tar(entry("opt/a", b"old"), entry("opt/b", b"old"), entry("opt/d/c", b"old"), entry("optional", b"x"))
    above = tar(entry("opt/a", b"new"), entry("opt/.wh.a"), entry("opt/d/e", b"new"), entry("opt/.wh..wh..opq"))
    tree = applied(tmp_path, below, above)
    assert sorted(tree.nodes) == ["/", "/opt", "/opt/a", "/opt/d", "/opt/d/e", "/optional"]
    assert content(tree, "/opt/a") == b"new"


def test_very_many_whiteouts(tmp_path: Path) -> None:
    """Each looks at what it removes, and not at all there is."""
    names = [f"{number % 100}/{number}" for number in range(20_000)]
    below = tar(*(entry(name) for name in names))
    above = tar(*(entry(name.replace("/", "/.wh.")) for name in names), *[entry("new/.wh..wh..opq")] * 1000)
    assert len(applied(tmp_path, below, above).nodes) == 101


@pytest.mark.parametrize(
    "hostile",
    [
        entry("../etc/passwd", b"x"),
        entry("/etc/passwd", b"x"),
        entry("a/../../etc/passwd", b"x"),
        entry("a/" * 4000, b"x"),
        entry("dev-like", type=tarfile.CHRTYPE, devmajor=1, devminor=1),
        entry("disk", type=tarfile.BLKTYPE, devmajor=8, devminor=0),
        entry("pipe", type=tarfile.FIFOTYPE),
        entry("name", type=tarfile.LNKTYPE, linkname="../outside"),
        entry("name", type=tarfile.LNKTYPE, linkname="/etc/shadow"),
        entry("name", type=tarfile.LNKTYPE, linkname="missing"),
        entry("x" * 300, b"x"),
        entry("own", b"x", uid=1 << 33),
    ],
    ids=lambda value: f"{value[0][:20]}",
)
def test_what_leads_out_or_is_no_file_is_refused(tmp_path: Path, hostile: Entry) -> None:
    with pytest.raises(BuildError):
        applied(tmp_path, tar(entry("good", b"x"), hostile))


def test_links_out_of_the_tree_stay_inside(tmp_path: Path) -> None:
    # A link may say anything; what is put below it is put inside the tree, or refused.
    link = entry("out", type=tarfile.SYMTYPE, linkname="../../../tmp")
    tree = applied(tmp_path, tar(entry("tmp", type=tarfile.DIRTYPE), link, entry("out/file", b"x")))
    assert content(tree, "/tmp/file") == b"x"
    loop = [entry("a", type=tarfile.SYMTYPE, linkname="b"), entry("b", type=tarfile.SYMTYPE, linkname="a")]
    with pytest.raises(BuildError):
        applied(tmp_path, tar(*loop, entry("a/x", b"x")))


def test_damaged_archives_are_errors(tmp_path: Path, rng: random.Random) -> None:
    good = tar(*(entry(f"f{number}", rng.randbytes(2000)) for number in range(20)))
    for _ in range(60):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        cut = data[: rng.randrange(len(data))] if rng.random() < 0.5 else data
        try:
            tree = applied(tmp_path, bytes(cut))
        except BuildError:
            continue
        for node in tree.nodes.values():
            assert node.offset + node.size <= len(cut)


def test_bombs_are_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb"
    bomb.write_bytes(gzip.compress(bytes(100 << 20), 9))
    with pytest.raises(LayerError, match="grows"):
        layers.unpack(bomb, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("how", ["plain", "gzip", "xz", "zstd"])
def test_a_layer_is_decompressed_to_its_end_or_refused(tmp_path: Path, how: str, rng: random.Random) -> None:
    data = tar(entry("x", rng.randbytes(3 << 20)))
    command = {"plain": ["cat"]}.get(how, [how, "-qc"])
    packed = subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout
    archive = tmp_path / "layer"
    archive.write_bytes(packed)
    place, digest = layers.unpack(archive, tmp_path / "cache")
    assert place.read_bytes() == data
    assert digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    if how != "plain":
        archive.write_bytes(packed[: rng.randrange(6, len(packed))])
        with pytest.raises(LayerError, match="cannot be decompressed"):
            layers.unpack(archive, tmp_path / "cache")


def blob(place: Path, data: bytes) -> dict[str, Any]:
    """Writes a blob of a layout; its descriptor."""
    digest = hashlib.sha256(data).hexdigest()
    (place / "blobs/sha256").mkdir(parents=True, exist_ok=True)
    (place / "blobs/sha256" / digest).write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


def layout(place: Path, archives: list[bytes], settings: dict[str, Any] | None = None) -> Path:
    """An OCI layout of gzipped layers."""
    diff_ids = [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in archives]
    config = {"architecture": "amd64", "config": settings or {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    manifest = {
        "schemaVersion": 2,
        "config": blob(place, json.dumps(config).encode()),
        "layers": [blob(place, gzip.compress(data, mtime=0)) for data in archives],
    }
    index = {"schemaVersion": 2, "manifests": [blob(place, json.dumps(manifest).encode())]}
    (place / "index.json").write_text(json.dumps(index))
    (place / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return place


SETTINGS = {"Entrypoint": ["/bin/sh"], "Cmd": ["-c", "true"], "Env": ["A=b"], "User": "7:8", "WorkingDir": "/srv"}


def test_a_layout_is_read_as_directory_and_as_archive(tmp_path: Path) -> None:
    place = layout(tmp_path / "image", [tar(entry("bin/sh", b"sh")), tar(entry("etc/x", b"x"))], SETTINGS)
    archive = tmp_path / "image.tar"
    with tarfile.open(archive, "w") as file:
        file.add(place, ".")
    for path in (place, archive):
        image = oci.load(path, tmp_path / "cache")
        assert content(image.tree, "/etc/x") == b"x"
        assert image.settings == oci.Settings(["/bin/sh"], ["-c", "true"], ["A=b"], "7:8", "/srv")


def test_a_docker_archive_is_read(tmp_path: Path) -> None:
    layer = tar(entry("bin/sh", b"sh"))
    diff_id = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    config = {"config": SETTINGS, "rootfs": {"diff_ids": [diff_id]}}
    manifest = [{"Config": "config.json", "RepoTags": ["x:latest"], "Layers": ["one/layer.tar"]}]
    archive = tmp_path / "image.tar"
    archive.write_bytes(
        tar(
            entry("one/layer.tar", layer),
            entry("config.json", json.dumps(config).encode()),
            entry("manifest.json", json.dumps(manifest).encode()),
        )
    )
    assert content(oci.load(archive, tmp_path / "cache").tree, "/bin/sh") == b"sh"
    with pytest.raises(LayerError, match="0 images"):
        oci.load(archive, tmp_path / "cache", "other")


def test_an_archive_that_broke_off_is_extracted_anew(tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    archive.write_bytes(tar(entry("index.json", b"{}"), entry("a/pipe", type=tarfile.FIFOTYPE)))
    for _ in range(2):
        with pytest.raises(LayerError, match="neither file nor directory"):
            oci.load(archive, tmp_path / "cache")
        assert list((tmp_path / "cache").iterdir()) == []


def test_wrong_digests_are_refused(tmp_path: Path) -> None:
    for number, victim in enumerate(("layer", "config", "manifest")):
        place = layout(tmp_path / victim, [tar(entry("bin/sh", b"sh"))], SETTINGS)
        blobs = sorted((place / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
        assert len(blobs) == 3
        target = next(path for path in blobs if _is(victim, path))
        data = bytearray(target.read_bytes())
        data[len(data) // 2] ^= 1
        target.write_bytes(bytes(data))
        with pytest.raises(LayerError):
            oci.load(place, tmp_path / f"cache{number}")


def _is(what: str, path: Path) -> bool:
    data = path.read_bytes()
    return {"layer": data[:2] == b"\x1f\x8b", "config": b"rootfs" in data, "manifest": b"layers" in data[:400]}[what]


@pytest.mark.parametrize("place", ["index.json", "config", "manifest"])
def test_hostile_descriptions_are_errors(tmp_path: Path, place: str, rng: random.Random) -> None:
    values: list[Any] = [None, 5, [], {}, "x", {"manifests": 3}, {"manifests": [{"digest": "sha256:../../etc/passwd"}]}]
    values += [{"manifests": [{"digest": 7}]}, {"layers": None, "config": {}}, [[]], {"rootfs": {"diff_ids": [1]}}]
    for number, value in enumerate(values):
        where = layout(tmp_path / str(number), [tar(entry("a", b"a"))])
        text = json.dumps(value).encode()
        if place == "index.json":
            (where / "index.json").write_bytes(text)
        else:
            hostile = blob(where, text)
            index = {"manifests": [hostile]}
            if place == "config":
                manifest = {"config": hostile, "layers": []}
                index = {"manifests": [blob(where, json.dumps(manifest).encode())]}
            (where / "index.json").write_text(json.dumps(index))
        with pytest.raises(BuildError):
            oci.load(where, tmp_path / f"cache{number}{rng.random()}")
