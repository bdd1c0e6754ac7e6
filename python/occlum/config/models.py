"""What a configuration can say: the models of `Occlum.toml` and `Occlum.json`, which have one vocabulary.

Neighbours: `files` reads text into these, `compile` makes the measured page of them. Names, meaning and sizes are the
original's, except where an attribute says "not the original's"; what the original has and Occlum does without is
accepted, and `notes` says so. Unknown keys are errors.
"""

from __future__ import annotations

import posixpath
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

KB, MB, GB, TB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
_UNITS = {"": 1, "B": 1, "KB": KB, "MB": MB, "GB": GB, "TB": TB, "K": KB, "M": MB, "G": GB, "T": TB}


def parse_size(value: Any) -> Any:
    """Bytes of `300MB` and the like; units are powers of 1024. A bare number is bytes."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = re.fullmatch(r"\s*(\d{1,18})\s*([KMGT]?B?)\s*", str(value), re.IGNORECASE)
    if found is None or isinstance(value, bool):
        raise ValueError(f"{value!r} is not a size; write a whole number and KB, MB, GB or TB, like 300MB")
    return int(found[1]) * _UNITS[found[2].upper()]


def format_size(size: int) -> str:
    """The shortest form that `parse_size` reads back."""
    for name, unit in (("TB", TB), ("GB", GB), ("MB", MB), ("KB", KB)):
        if size and size % unit == 0:
            return f"{size // unit}{name}"
    return f"{size}B"


def _absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise ValueError(f"{path!r} is not an absolute path (without `..`)")
    return posixpath.normpath("/" + path.lstrip("/"))


def _name(name: str) -> str:
    if not name or "=" in name or "\0" in name:
        raise ValueError(f"{name!r} cannot name a variable")
    return name


def _setting(setting: str) -> str:
    name, equals, _ = setting.partition("=")
    if not name or not equals or "\0" in setting:
        raise ValueError(f"{setting!r} is not NAME=VALUE")
    return setting


def _kss_word(value: Any) -> Any:
    """64 bits, as the original writes them: `0x...`."""
    if isinstance(value, str):
        try:
            return int(value, 16)
        except ValueError:
            raise ValueError(f"{value!r} is not a hexadecimal number of 64 bits") from None
    return value


# KEYPOLICY bits (SDM, "Key Request") by the names that a configuration uses.
_POLICY_NAMES = ("mrenclave", "mrsigner", "noisvprodid", "configid", "isvfamilyid", "isvextprodid")
KEY_POLICIES = {name: 1 << bit for bit, name in enumerate(_POLICY_NAMES)}
_OF_ENCLAVE_OR_SIGNER, _OF_KSS = 3, 56


def _key_policy(value: Any) -> Any:
    """Bits of names, or the bits themselves, as the original writes them."""
    if isinstance(value, int) and not isinstance(value, bool):
        bits = value
    else:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list | tuple) or any(name not in KEY_POLICIES for name in names):
            raise ValueError(f"{value!r} is no key policy; name some of {', '.join(KEY_POLICIES)}")
        bits = sum({KEY_POLICIES[name] for name in names})
    if not bits & _OF_ENCLAVE_OR_SIGNER or bits >> len(KEY_POLICIES):
        raise ValueError("a key policy has mrenclave (1) or mrsigner (2) or both, or others could have the key")
    return bits


def _no_mac(value: Any) -> Any:
    if value != "":
        raise ValueError(f'{value!r} would have no effect: the build pins the image; write MAC = ""')
    return value


# Nothing is read into other types: "yes" is a mistake, not a truth.
Flag = Annotated[bool, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
EmptyMac = Annotated[str, BeforeValidator(_no_mac)]
Size = Annotated[int, BeforeValidator(parse_size), Field(ge=0, lt=1 << 63)]
AbsolutePath = Annotated[str, BeforeValidator(lambda value: _absolute(value) if isinstance(value, str) else value)]
VariableName = Annotated[str, BeforeValidator(lambda value: _name(value) if isinstance(value, str) else value)]
Setting = Annotated[str, BeforeValidator(lambda value: _setting(value) if isinstance(value, str) else value)]
KeyPolicy = Annotated[int, BeforeValidator(_key_policy)]
Word64 = Annotated[int, BeforeValidator(_kss_word), Field(ge=0, lt=1 << 64)]


class Model(BaseModel):
    """Base of all parts."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ResourceLimits(Model):
    """What the enclave may use."""

    kernel_space_heap_size: Size = Field(32 * MB, description="memory of the LibOS itself")
    kernel_space_heap_max_size: Size | None = Field(None, description="replaces kernel_space_heap_size if larger")
    kernel_space_stack_size: Size = Field(1 * MB, description="accepted; kernel stacks are fixed")
    user_space_size: Size = Field(300 * MB, description="memory of all programs together")
    user_space_max_size: Size | None = Field(None, description="replaces user_space_size if larger")
    max_num_of_threads: Whole = Field(32, ge=2, le=8000, description="most processes and threads at once")
    init_num_of_threads: Whole | None = Field(
        None, ge=1, description="accepted; threads need no room before they start"
    )
    num_of_cpus: Whole = Field(2, ge=1, le=64, description="host threads that run in the enclave (not the original's)")
    pid_max: Whole = Field(32768, ge=64, le=1 << 22, description="process ids start again here (not the original's)")

    @property
    def memory(self) -> int:
        """Bytes of the enclave."""
        kernel = max(self.kernel_space_heap_size, self.kernel_space_heap_max_size or 0)
        return kernel + max(self.user_space_size, self.user_space_max_size or 0)

    @model_validator(mode="after")
    def _enough(self) -> ResourceLimits:
        if not 64 * MB <= self.memory <= 1 * TB:
            given = format_size(self.memory)
            raise ValueError(
                f"user_space_size and kernel_space_heap_size make {given} together; they must make 64MB to 1TB"
            )
        return self


class Process(Model):
    """What each program starts with; `ulimit` inside changes it."""

    default_stack_size: Size = Field(8 * MB, ge=64 * KB, description="stack of the first thread (ulimit -s)")
    default_heap_size: Size | None = Field(None, description="limit of brk (ulimit -d)")
    default_mmap_size: Size | None = Field(None, description="accepted; the original does not use it either")


class Env(Model):
    """Environment of the programs."""

    default: tuple[Setting, ...] = Field(("OCCLUM=yes",), description="NAME=VALUE, measured")
    untrusted: tuple[VariableName, ...] = Field((), description="names whose values the host may set")


class KssId(Model):
    """128 bits in two halves."""

    high: Word64 = Field(0, description="the upper 64 bits, as a number or as 0x...")
    low: Word64 = Field(0, description="the lower 64 bits")

    def to_bytes(self) -> bytes:
        """As they stand in SIGSTRUCT, little-endian."""
        return (self.high << 64 | self.low).to_bytes(16, "little")


class Metadata(Model):
    """What the enclave says it is."""

    product_id: Whole = Field(0, ge=0, lt=1 << 16, description="ISVPRODID")
    version_number: Whole = Field(0, ge=0, lt=1 << 16, description="ISVSVN")
    debuggable: Flag = Field(True, description="a debug enclave: the host may trace, dump and debug it")
    disable_log: Flag | None = Field(None, description="no log of the LibOS; by default so if not debuggable")
    enable_kss: Flag = Field(False, description="key separation and sharing: the two ids below and --config-id count")
    family_id: KssId = KssId()
    ext_prod_id: KssId = KssId()

    @model_validator(mode="after")
    def _ids_need_kss(self) -> Metadata:
        if not self.enable_kss and (self.family_id != KssId() or self.ext_prod_id != KssId()):
            raise ValueError("family_id and ext_prod_id need enable_kss = true")
        return self


class Feature(Model):
    """Switches of the original."""

    amx: Whole = Field(0, ge=0, le=2, description="accepted; AMX is never offered")
    pkru: Whole = Field(0, ge=0, le=2, description="accepted; isolation does not rest on protection keys")
    io_uring: Whole = Field(0, ge=0, le=16, description="accepted; the host's io_uring is not used")
    enable_edmm: Flag = Field(False, description="accepted; memory is populated as it is needed")
    enable_posix_shm: Flag = Field(False, description="accepted; POSIX shared memory is always there")


class Security(Model):
    """Isolation of programs (not the original's)."""

    cfi: Literal["default", "strict", "shadow-stack"] = Field("default", description="control-flow integrity")
    no_alias: Flag = Field(False, description="shared memory as on hardware: no page is in two places at once")


class User(Model):
    """User of the programs (not the original's)."""

    uid: Whole = Field(0, ge=0, lt=1 << 32, description="user id that programs start with")
    gid: Whole = Field(0, ge=0, lt=1 << 32, description="group id that programs start with")


class MountOptions(Model):
    """Options of a mount."""

    MAC: EmptyMac | None = Field(None, description='"" marks the image\'s layer; the build pins its root')
    layers: tuple[Mount, ...] | None = Field(
        None, description="the file systems of a unionfs, the lowest first, each with the keys of a mount"
    )
    temporary: Flag = Field(False, description="in memory: nothing is left when the enclave ends")
    cache_size: Size | None = Field(None, description="accepted; caches grow as there is memory")
    disk_size: Size | None = Field(None, description="size of a writable layer")
    autokey_policy: KeyPolicy | None = Field(
        None,
        description="whose the key of a writable layer is: mrenclave (the default), mrsigner, ...; names or KEYPOLICY",
    )
    key: Literal["image"] | None = Field(
        None, description="a writable layer opens by the image key, not by one of the CPU's (not the original's)"
    )
    index: Whole | None = Field(None, ge=0, le=1, description="accepted; of the original's mount at run time")
    read_only: Flag = Field(False, description="nothing in it can be changed (not the original's)")


class Image(Model):
    """Where the image's files come from, the lowest first; the directory image/ is above them (not the original's)."""

    oci: str | None = Field(None, description="OCI image: a docker-archive or an OCI layout, as file or directory")
    oci_reference: str | None = Field(None, description="which image of it, if it has several")
    debian: tuple[str, ...] = Field((), description="Debian packages, with what they depend on (mmdebstrap)")
    debian_suite: str = Field("bookworm", pattern=r"^[a-z0-9][a-z0-9-]*$", description="release of Debian")
    debian_mirror: str | None = Field(None, description="where packages come from; mmdebstrap's default")
    debian_variant: Literal["extract", "custom", "essential", "apt", "minbase"] = Field(
        "minbase",
        description="what is installed besides: mmdebstrap's variant (extract and custom: nothing; minbase: the least"
        " that a Debian system is)",
    )
    include: tuple[str, ...] = Field((), description="programs of this machine, with what they need at run time")
    bom: tuple[str, ...] = Field((), description="BOM files, relative to the instance")


class Mount(Model):
    """A file system."""

    target: AbsolutePath = Field(description="where programs see it")
    type: Literal["sefs", "unionfs", "hostfs", "ramfs", "tmpfs", "procfs", "devfs", "sysfs", "ext2"] = Field(
        description="sefs or ext2 (with MAC the image, otherwise a sealed store in run/), unionfs (layers), hostfs (a"
        " directory of the host), ramfs or tmpfs (in memory), procfs, devfs, sysfs"
    )
    source: str | None = Field(
        None, description="of hostfs: the directory, absolute or below the instance; without effect for others"
    )
    options: MountOptions = Field(default_factory=lambda: MountOptions())

    @field_validator("source")
    @classmethod
    def _source_is_text(cls, source: str | None) -> str | None:
        if source is not None and (not source or "\0" in source):
            raise ValueError("a source is a path")
        return source


MountOptions.model_rebuild()

DEFAULT_MOUNTS = (
    Mount(
        target="/",
        type="unionfs",
        options=MountOptions(
            layers=(
                Mount(target="/", type="sefs", source="./build/mount/__ROOT", options=MountOptions(MAC="")),
                Mount(target="/", type="ramfs"),
            )
        ),
    ),
    Mount(target="/proc", type="procfs"),
    Mount(target="/dev", type="devfs"),
)


class Config(Model):
    """A whole configuration."""

    resource_limits: ResourceLimits = ResourceLimits()
    process: Process = Process()
    entry_points: tuple[AbsolutePath, ...] = Field(
        ("/bin",), description="programs, or directories of programs, to run"
    )
    env: Env = Env()
    metadata: Metadata = Metadata()
    feature: Feature = Feature()
    image: Image = Image()
    security: Security = Security()
    user: User = User()
    workdir: AbsolutePath = Field("/", description="where programs start (not the original's)")
    command: tuple[str, ...] = Field((), description="what `occlum run` runs by default (not the original's)")
    mount: tuple[Mount, ...] = DEFAULT_MOUNTS

    @model_validator(mode="after")
    def _policies_need_kss(self) -> Config:
        layers = [layer for mount in self.mount for layer in (mount, *(mount.options.layers or ()))]
        if not self.metadata.enable_kss and any((layer.options.autokey_policy or 0) & _OF_KSS for layer in layers):
            raise ValueError("autokey_policy: configid, isvfamilyid and isvextprodid need metadata.enable_kss = true")
        return self

    @field_validator("entry_points")
    @classmethod
    def _some_entry(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("without an entry point nothing can be run")
        return value
