"""From a configuration to the measured page, and to where the host finds what the mount table names.

Neighbours: `models` (what comes in), `page` (what goes out), `occlum.image.instance` (builds the image whose root is
pinned here).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from occlum.config import models, page
from occlum.config.files import ConfigurationError

# Sources: how the mount table names the image and the layers above it.
IMAGE = "image"


class Compiled(NamedTuple):
    """The page's content, and for each source its path, relative to the instance."""

    config: page.Config
    sources: dict[str, str]


def compile_config(config: models.Config, image_root: bytes, encrypted: bool = False) -> Compiled:
    """Compiles a configuration. `image_root`: the seal of the image's superblock (28 bytes)."""
    limits, metadata = config.resource_limits, config.metadata
    sources: dict[str, str] = {}
    mounts = tuple(_Mounts(image_root, encrypted, sources).rows(config.mount))
    quiet = not metadata.debuggable if metadata.disable_log is None else metadata.disable_log
    wanted = (
        *((metadata.debuggable, page.DEBUG), (quiet, page.DISABLE_LOG), (metadata.enable_kss, page.KSS)),
        (config.security.no_alias, page.NO_ALIAS),
    )
    flags = sum(bit for is_wanted, bit in wanted if is_wanted)
    compiled = page.Config(
        memory_bytes=-(-limits.memory // 4096) * 4096,
        vcpus=limits.num_of_cpus,
        max_tasks=limits.max_num_of_threads,
        pid_max=limits.pid_max,
        cfi=page.CFI_LEVELS.index(config.security.cfi),
        flags=flags,
        uid=config.user.uid,
        gid=config.user.gid,
        stack_bytes=config.process.default_stack_size,
        data_bytes=config.process.default_heap_size or 0,
        product_id=metadata.product_id,
        svn=metadata.version_number,
        family_id=metadata.family_id.to_bytes(),
        ext_product_id=metadata.ext_prod_id.to_bytes(),
        cwd=config.workdir,
        entry_points=config.entry_points,
        env_default=tuple(_last_of_each(config.env.default)),
        env_untrusted=tuple(sorted(set(config.env.untrusted))),
        mounts=mounts,
    )
    return Compiled(compiled, sources)


def _last_of_each(settings: tuple[str, ...]) -> Iterator[str]:
    """Of settings of one variable the last counts."""
    yield from {setting.partition("=")[0]: setting for setting in settings}.values()


_PLAIN = {"procfs": page.PROCFS, "devfs": page.DEVFS, "sysfs": page.SYSFS}


class _Mounts:
    """Makes rows of mounts."""

    def __init__(self, image_root: bytes, encrypted: bool, sources: dict[str, str]) -> None:
        self._root = image_root.ljust(page.ROOT_SIZE, b"\0")
        self._image_options = page.IMAGE_KEYED if encrypted else ""
        self._sources = sources

    def rows(self, mounts: tuple[models.Mount, ...]) -> list[page.Mount]:
        """The table: the root first, then the others by depth, so that none hides another."""
        if not any(mount.target == "/" for mount in mounts):
            raise ConfigurationError("mount: nothing is mounted at /", "add the root: type unionfs, with its layers")
        targets = [mount.target for mount in mounts]
        if twice := [target for target in targets if targets.count(target) > 1]:
            raise ConfigurationError(f"mount: {twice[0]} is mounted twice", "stack layers in one unionfs")
        if any(mount.type == "procfs" for mount in mounts) and "/sys" not in targets:
            # The original has none; programs of today look there for the number of CPUs.
            mounts = (*mounts, models.Mount(target="/sys", type="sysfs"))
        ordered = sorted(mounts, key=lambda mount: (mount.target != "/", mount.target.count("/")))
        rows = [row for mount in ordered for row in self._of(mount)]
        if sum(row.kind == page.SEALED_IMAGE for row in rows) != 1:
            raise ConfigurationError("mount: one layer has to be the image", 'give one sefs layer the option MAC = ""')
        return rows

    def _of(self, mount: models.Mount) -> list[page.Mount]:
        if mount.type == "unionfs":
            layers = mount.options.layers or ()
            if len(layers) < 2 or any(layer.type == "unionfs" for layer in layers):
                raise ConfigurationError(f"mount {mount.target}: a unionfs has at least two plain layers")
            rows = [self._layer(layer, mount.target) for layer in layers]
            if any(row.kind not in (page.SEALED_IMAGE, page.HOSTFS) for row in rows[:-1]):
                raise ConfigurationError(f"mount {mount.target}: only the last layer can be written")
            return rows
        return [self._layer(mount, mount.target)]

    def _layer(self, mount: models.Mount, target: str) -> page.Mount:
        options = mount.options
        read_only = page.READ_ONLY if options.read_only else 0
        match mount.type:
            case "sefs" if options.MAC is not None:
                self._sources[IMAGE] = "build/image"
                return page.Mount(target, page.SEALED_IMAGE, page.READ_ONLY, IMAGE, self._image_options, self._root)
            case "ramfs" | "tmpfs" | "sefs" | "ext2" if options.temporary or mount.type in ("ramfs", "tmpfs"):
                return page.Mount(target, page.RAMFS, read_only)
            case "sefs" | "ext2":
                return self._sealed_layer(target, options, read_only)
            case "hostfs":
                name = f"host{target}"
                self._sources[name] = mount.source or "."
                return page.Mount(target, page.HOSTFS, read_only, name)
            case kind if kind in _PLAIN:
                return page.Mount(target, _PLAIN[kind], read_only)
        raise ConfigurationError(f"mount {target}: {mount.type} cannot stand here")

    def _sealed_layer(self, target: str, options: models.MountOptions, read_only: int) -> page.Mount:
        name = f"layer{target}"
        self._sources[name] = f"run/{target.strip('/').replace('/', '-') or 'root'}.layer"
        words = [f"size={options.disk_size or DEFAULT_LAYER}"]
        policy = options.autokey_policy
        if options.key == "image":
            words.append(page.IMAGE_KEYED)
            # Of its counter: what outlives a measurement needs one that does, too.
            policy = policy or models.KEY_POLICIES["mrsigner"]
        if policy is not None:
            words.append(f"policy={policy}")
        return page.Mount(target, page.SEALED_LAYER, read_only, name, ",".join(words))


def is_of_signer(rows: Iterable[page.Mount]) -> bool:
    """Does what the enclave writes there, or its freshness, depend on who signed?"""
    policies = [word.removeprefix("policy=") for row in rows for word in row.options.split(",")]
    return any(text.isdecimal() and int(text) & models.KEY_POLICIES["mrsigner"] for text in policies)


# Stores are sparse files: this is room, not use.
DEFAULT_LAYER = 1 << 34
