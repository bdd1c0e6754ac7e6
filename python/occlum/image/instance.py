"""Instances: directories from which enclaves are built and run.

    Occlum.toml   the configuration (or Occlum.json)
    image/        files of the image, the user's to fill
    build/        made by `build`: enclave.json (with the signature), image-ROOT, manifest.json, sbom.json
    run/          what the enclave writes: sealed layers
    Occlum.lock   what the last build was made of
    .occlum/      marks the directory; locks

Neighbours: `tree` and `store` (the image), `occlum.config` (the page), `built` (reads what is left here). Invariant: a
build writes new files, and names them in `enclave.json`, which it replaces last and in one step. Whatever ends a
build before that, the one before it stays whole.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from occlum import _native
from occlum._host.image import read_image
from occlum.config import files, page
from occlum.config.compile import IMAGE, Compiled, compile_config, is_of_signer
from occlum.image import built, lockfile, sources, store
from occlum.image.tree import BuildError, Tree, write_atomically
from occlum.sgx import sigstruct

if TYPE_CHECKING:
    from occlum.image.signing import Signer

MANIFEST, SBOM = "build/manifest.json", "build/sbom.json"
_DIRECTORIES = ("bin", "dev", "etc", "home", "host", "lib", "lib64", "proc", "root", "run", "sys", "tmp", "usr", "var")
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}

# Says what is being done, and how many bytes there will be (0: not known).
Report = Callable[[str, int], store.Progress]


class Result(NamedTuple):
    """What a build did."""

    mrenclave: str
    mrsigner: str
    image_root: str
    image_changed: bool
    nodes: int
    size: int
    # What the enclave of the build before has written: its key is not the new one's.
    foreign_layers: bool = False


def quiet(_: str, __: int) -> store.Progress:
    """A `Report` that says nothing."""
    return lambda _: None


def create(directory: Path, *, as_json: bool = False, settings: dict[str, Any] | None = None) -> None:
    """Makes an instance of an existing directory. `settings` go to the configuration's table `image`."""
    if (directory / built.MARKER).exists() or any((directory / name).exists() for name in built.CONFIGURATIONS):
        raise built.InstanceError(f"{directory} is an instance already", "use it, or take another directory", "OC704")
    try:
        for name in _DIRECTORIES:
            (directory / "image" / name).mkdir(parents=True)
        (directory / "image/tmp").chmod(0o1777)
        for name, text in _FILES.items():
            (directory / "image" / name).write_text(text)
        (directory / "run").mkdir(exist_ok=True)
        template = (Path(files.__file__).parent / "template.toml").read_text()
        text = _fitting(template, settings) if settings else template
        name = files.TOML
        if as_json:
            import tomllib

            name, text = files.JSON, json.dumps(tomllib.loads(text), indent=4) + "\n"
        (directory / name).write_text(text)
        # Last: without it the directory is no instance.
        (directory / built.MARKER).mkdir()
    except OSError as error:
        raise built.InstanceError(f"{error.filename}: {error.strerror}") from None


def _fitting(template: str, settings: dict[str, Any]) -> str:
    """The template for an image that comes from elsewhere."""
    if "oci" in settings:
        # The image says itself what to run, and in which environment.
        template = re.sub(r"^# Programs, or.*\n(entry_points = .*\n)\n", "", template, flags=re.MULTILINE)
        template = re.sub(r"^\[env\]\n(.+\n)*\n", "", template, flags=re.MULTILINE)
    else:
        template = template.replace('["/bin"]', '["/bin", "/usr/bin"]').replace("PATH=/bin", "PATH=/usr/bin:/bin")
    return template + files.image_table(settings)


def build(
    directory: Path,
    *,
    force: bool = False,
    locked: bool = False,
    report: Report = quiet,
    signer: Signer | None = None,
    image_key: bytes | None = None,
) -> Result:
    """Builds an instance. `force`: all of it anew; `locked`: only if it is what the lock file says. `signer`: makes its
    SIGSTRUCT, by default with the development key; `image_key`: encrypts the image. ConfigurationError, BuildError,
    InstanceError, SigningError.
    """
    with built.build_lock(str(directory)):
        try:
            return _Build(directory, force, locked, report, signer, image_key).run()
        except OSError as error:
            raise BuildError(f"{error.filename or directory}: {error.strerror}", "then build again") from None


class _Build:
    """One build of one instance."""

    def __init__(
        self,
        directory: Path,
        force: bool,
        locked: bool,
        report: Report,
        signer: Signer | None,
        image_key: bytes | None,
    ) -> None:
        self.directory = directory
        self.force = force
        self.locked = locked
        self.report = report
        self.signer = signer
        self.image_key = image_key
        self.place = directory / "build"

    def run(self) -> Result:
        """Does it."""
        path = files.find(self.directory)
        digest = built.file_digest(str(path))
        config = files.read(path)
        self.place.mkdir(exist_ok=True)
        self._remove_leftovers()
        if self.force:
            shutil.rmtree(self.directory / "run", ignore_errors=True)
        (self.directory / "run").mkdir(exist_ok=True)
        lock = lockfile.read(self.directory) if self.locked or not self.force else None
        gathered = sources.gather(self.directory, config.image, self.report, lock, anew=self.force)
        config = gathered.apply(config)
        # Programs start in a directory that is there, as container tools see to it.
        for target in ("/sys", config.workdir, *(mount.target for mount in config.mount)):
            gathered.tree.add_mount_point(target)
        written, changed = self._image(gathered.tree)
        compiled = compile_config(config, written.root, self.image_key is not None)
        runtime = read_image()
        try:
            mrenclave = _native.measure(runtime, compiled.config.encode()).hex()
        except _native.NativeError as error:
            raise BuildError(str(error)) from None
        signature = self._sign(compiled.config, bytes.fromhex(mrenclave))
        image = f"image-{written.root.hex()}"
        description = {
            "format": built.FORMAT,
            "mrenclave": mrenclave,
            "image_root": written.root.hex(),
            "config": base64.b64encode(compiled.config.encode()).decode(),
            "sources": {**compiled.sources, IMAGE: f"build/{image}"},
            "weaknesses": files.weaknesses(config, is_signed=self.signer is not None),
            "command": list(config.command),
            "configuration": digest,
            "runtime": hashlib.sha256(runtime).hexdigest(),
            "signature": base64.b64encode(signature).decode(),
            "needs_image_key": any(row.is_image_keyed() for row in compiled.config.mounts),
        }
        before = self._before()
        fresh = {
            "format": lockfile.FORMAT,
            "image_root": description["image_root"],
            "mrenclave": mrenclave,
            "runtime": description["runtime"],
            "inputs": json.loads(json.dumps(gathered.inputs)),
        }
        if self.locked:
            lockfile.require_same(lock, fresh)
        self._finish(description, fresh, image, gathered, written.manifest)
        size = sum(node.size for node in gathered.tree.nodes.values())
        foreign = before not in (None, mrenclave) and self._has_own_layers(compiled)
        mrsigner = sigstruct.verify(signature).mrsigner.hex()
        return Result(mrenclave, mrsigner, written.root.hex(), changed, len(gathered.tree.nodes), size, foreign)

    def _sign(self, config: page.Config, mrenclave: bytes) -> bytes:
        from occlum.image import signing

        if self.signer is None and is_of_signer(config.mounts) and not config.flags & page.DEBUG:
            raise BuildError(
                "the layers of this release enclave are its signer's, and everybody has the development key",
                "sign it: `occlum build --sign-key FILE`",
                "OC730",
            )
        return (self.signer or signing.development)(signing.facts_of(config, mrenclave))

    def _has_own_layers(self, compiled: Compiled) -> bool:
        """Has the enclave of another measurement written something that this one has no key for?"""
        own = [row for row in compiled.config.mounts if row.kind == page.SEALED_LAYER and not is_of_signer([row])]
        return any((self.directory / compiled.sources[row.source]).exists() for row in own)

    def _remove_leftovers(self) -> None:
        """What a build that did not end has left."""
        for path in self.place.glob(".new-*"):
            path.unlink()

    def _image(self, tree: Tree) -> tuple[store.Written, bool]:
        """The image of the tree: the one that is there if nothing changed."""
        content = sources.fingerprint(tree, self.directory / built.MARKER / "digests.json")
        key = content if self.image_key is None else store.keyed_fingerprint(self.image_key, content)
        known = self._known_image(key)
        if known is not None and not self.force:
            return known, False
        progress = self.report("writing the image", sum(node.size for node in tree.nodes.values()))
        fresh = self.place / ".new-image"
        encryption = None if self.image_key is None else store.Encryption(self.image_key, key)
        written = store.write(tree, fresh, progress, encryption)
        if sources.fingerprint_of(written.manifest) != content:
            fresh.unlink()
            raise BuildError("a file of the image changed while it was read", "build again")
        fresh.rename(self.place / f"image-{written.root.hex()}")
        manifest = {"fingerprint": key, "root": written.root.hex(), "nodes": written.manifest}
        write_atomically(self.directory / MANIFEST, json.dumps(manifest, indent=0))
        return written, True

    def _known_image(self, key: str) -> store.Written | None:
        try:
            manifest = json.loads((self.directory / MANIFEST).read_text())
            root = bytes.fromhex(manifest["root"])
            if manifest["fingerprint"] == key and (self.place / f"image-{root.hex()}").is_file():
                return store.Written(root, manifest["nodes"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def _before(self) -> str | None:
        """MRENCLAVE of the build before."""
        with contextlib.suppress(built.InstanceError):
            return built.load(str(self.directory)).mrenclave
        return None

    def _finish(
        self,
        description: dict[str, Any],
        lock: lockfile.Lock,
        image: str,
        gathered: sources.Gathered,
        manifest: sources.Manifest,
    ) -> None:
        sbom = sources.sbom(gathered, self.directory.name, manifest)
        write_atomically(self.directory / SBOM, json.dumps(sbom, indent=1))
        lockfile.write(self.directory, lock)
        write_atomically(self.directory / built.DESCRIPTION, json.dumps(description, indent=1))
        for old in self.place.glob("image-*"):
            if old.name != image:
                old.unlink()
