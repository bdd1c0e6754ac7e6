"""OCI images in a file: docker-archive (`docker save`), or an OCI layout as a directory or tar archive.

Neighbours: `layers` (the archives in it). Specifications: OCI image format 1.1 (layout, manifest, configuration),
docker-archive's manifest.json. Everything is checked against its digest, and refused if it is not what it says.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from occlum.image import layers
from occlum.image.layers import LayerError
from occlum.image.tree import Tree

_MOST_JSON = 8 << 20
_MOST_LAYERS = 512
_MOST_NESTING = 4


@dataclass
class Settings:
    """What an image says about running it."""

    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    env: list[str] = field(default_factory=list)
    user: str = ""
    workdir: str = ""


@dataclass
class Image:
    """An image: its files, how to run it, and the digest that names it."""

    tree: Tree
    settings: Settings
    digest: str


def load(path: Path, cache: Path, reference: str | None = None) -> Image:
    """Reads an image. `cache`: where decompressed layers are kept. LayerError."""
    if not path.exists():
        raise LayerError(f"there is no image {path}", "give an archive or a layout directory")
    place = path if path.is_dir() else _extract(path, cache)
    if (place / "index.json").exists():
        return _layout(place, cache, reference)
    if (place / "manifest.json").exists():
        return _docker(place, cache, reference)
    raise LayerError(
        f"{path} is neither an OCI layout nor a docker-archive", "make one: `docker save` or `skopeo copy`"
    )


def _extract(path: Path, cache: Path) -> Path:
    """The files of an archive, in a directory of its digest's name. Their names are checked; they are only files."""
    plain, digest = layers.unpack(path, cache)
    place = cache / f"{digest.replace(':', '-')}.files"
    fresh = cache / f".new-{place.name}-{os.getpid()}"
    try:
        # It is there as a whole or not at all.
        if not place.exists():
            with tarfile.open(plain, "r:") as tar:
                fresh.mkdir()
                for count, member in enumerate(tar):
                    if count > 100_000:
                        raise LayerError(f"{path.name} has too many entries")
                    _extract_member(tar, member, fresh, path)
            fresh.rename(place)
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise LayerError(f"{path.name} is no archive of an image: {error}") from None
    except OSError as error:
        if not place.exists():  # Somebody else was faster.
            raise LayerError(f"{path.name}: {error.strerror or error}") from None
    finally:
        plain.unlink(missing_ok=True)
        shutil.rmtree(fresh, ignore_errors=True)
    return place


def _extract_member(tar: tarfile.TarFile, member: tarfile.TarInfo, place: Path, path: Path) -> None:
    names = [name for name in member.name.split("/") if name not in ("", ".")]
    if member.name.startswith("/") or ".." in names or "\0" in member.name:
        raise LayerError(f"{path.name} has an entry {member.name!r}, which leads out of it")
    target = place.joinpath(*names)
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
    elif member.issym() or member.islnk():
        # Old docker-archives name a layer twice: copy what the link means, if that is inside.
        base = "/".join(names[:-1]) if member.issym() else ""
        source = os.path.normpath(f"/{base}/{member.linkname}").lstrip("/")
        if (place / source).is_file() and not (place / source).is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(place / source, target)
    elif member.isreg():
        target.parent.mkdir(parents=True, exist_ok=True)
        source_file = tar.extractfile(member)
        assert source_file is not None
        with source_file, target.open("xb") as out:
            while chunk := source_file.read(1 << 20):
                out.write(chunk)
    else:
        raise LayerError(f"{path.name} has an entry {member.name!r} that is neither file nor directory")


def _json(path: Path, digest: str | None = None) -> Any:
    try:
        if path.is_symlink() or path.stat().st_size > _MOST_JSON:
            raise LayerError(f"{path.name} is no description of an image")
        if digest is not None and layers.digest_of(path) != digest:
            raise LayerError(f"{path.name} does not have the digest {digest}", "get the image again")
        return json.loads(path.read_text())
    except OSError as error:
        raise LayerError(f"the image lacks {path.name}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise LayerError(f"{path.name} cannot be read: {error}") from None


def _blob(place: Path, digest: Any) -> Path:
    algorithm, _, value = str(digest).partition(":")
    if algorithm != "sha256" or len(value) != 64 or not all(c in "0123456789abcdef" for c in value):
        raise LayerError(f"{digest!r} is no sha256 digest")
    return place / "blobs" / "sha256" / value


def _layout(place: Path, cache: Path, reference: str | None) -> Image:
    try:
        descriptor = _choose(_json(place / "index.json"), reference)
        for _ in range(_MOST_NESTING):
            data = _json(_blob(place, descriptor["digest"]), descriptor["digest"])
            if "manifests" not in data:
                break
            descriptor = _choose(data, None)
        config = _json(_blob(place, data["config"]["digest"]), data["config"]["digest"])
        blobs = [(_blob(place, layer["digest"]), str(layer["digest"])) for layer in data["layers"]]
        return _assemble(blobs, config, cache, str(descriptor["digest"]))
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise LayerError(f"the image's description lacks {error}") from None


def _choose(index: dict[str, Any], reference: str | None) -> dict[str, Any]:
    """The manifest that is meant: by its name, or the only one for this architecture."""
    fitting: list[dict[str, Any]] = []
    for entry in index["manifests"]:
        platform = entry.get("platform") or {}
        name = (entry.get("annotations") or {}).get("org.opencontainers.image.ref.name")
        if platform.get("architecture", "amd64") == "amd64" and reference in (None, name):
            fitting.append(entry)
    if len(fitting) != 1:
        what = f"named {reference}" if reference else "for x86-64"
        raise LayerError(f"the archive has {len(fitting)} images {what}", "name one: oci_reference")
    return fitting[0]


def _docker(place: Path, cache: Path, reference: str | None) -> Image:
    try:
        entries = [e for e in _json(place / "manifest.json") if reference is None or reference in (e["RepoTags"] or ())]
        if len(entries) != 1:
            raise LayerError(f"the archive has {len(entries)} images that fit", "name one: oci_reference")
        config_path = place / _name(entries[0]["Config"])
        config = _json(config_path)
        blobs: list[tuple[Path, str | None]] = [(place / _name(name), None) for name in entries[0]["Layers"]]
        return _assemble(blobs, config, cache, layers.digest_of(config_path))
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise LayerError(f"the image's description lacks {error}") from None


def _name(name: Any) -> str:
    if not isinstance(name, str) or name.startswith("/") or ".." in name.split("/"):
        raise LayerError(f"the archive names a file {name!r}, which leads out of it")
    return name


def _assemble(blobs: Any, config: dict[str, Any], cache: Path, digest: str) -> Image:
    """Layer upon layer. The uncompressed digests are those that the configuration promises."""
    promised = config["rootfs"]["diff_ids"]
    if len(promised) != len(blobs) or len(blobs) > _MOST_LAYERS:
        raise LayerError(f"the image has {len(blobs)} layers and promises {len(promised)}")
    if config.get("architecture", "amd64") != "amd64":
        raise LayerError(f"the image is for {config['architecture']}", "get the one for amd64")
    tree = Tree()
    for (blob, expected), diff_id in zip(blobs, promised, strict=True):
        if blob.is_symlink() or not blob.is_file():
            raise LayerError(f"the image lacks its layer {blob.name}", "get the image again")
        archive, found = layers.unpack(blob, cache, expected)
        if found != diff_id:
            archive.unlink()
            raise LayerError(f"a layer has the content {found}, not {diff_id}", "get the image again")
        layers.apply(tree, archive)
    return Image(tree, _settings(config.get("config") or {}), digest)


def _settings(data: dict[str, Any]) -> Settings:
    def words(name: str) -> list[str]:
        value = data.get(name) or []
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise LayerError(f"the image's {name} is no list of words")
        return value

    return Settings(
        words("Entrypoint"), words("Cmd"), words("Env"), str(data.get("User") or ""), str(data.get("WorkingDir") or "")
    )
