"""Reads and writes configuration files: `Occlum.toml`, or the original's `Occlum.json`.

Neighbours: `models` (what they can say). Every error names the file, the key and, where one is near, what was meant.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from occlum.config import models
from occlum.errors import OcclumError

TOML, JSON = "Occlum.toml", "Occlum.json"
# No configuration is as long as this; what is, is not one.
_LONGEST = 1 << 20


class ConfigurationError(OcclumError):
    """A configuration file is missing, cannot be read, or says what cannot be."""

    code = "OC700"


def find(directory: Path) -> Path:
    """The configuration file of an instance."""
    found = [path for name in (TOML, JSON) if (path := directory / name).exists()]
    if not found:
        raise ConfigurationError(f"{directory} has no {TOML} and no {JSON}", "make an instance with `occlum new PATH`")
    if len(found) > 1:
        raise ConfigurationError(f"{directory} has both {TOML} and {JSON}", "remove the one that does not count")
    return found[0]


def read(path: Path) -> models.Config:
    """The configuration in a file."""
    data = parse(path)
    try:
        return models.Config.model_validate(data)
    except ValidationError as error:
        problems = [_problem(item) for item in error.errors()]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ConfigurationError(f"{path.name}: {problems[0]}{more}", "`occlum config check` lists all") from None


def parse(path: Path) -> dict[str, Any]:
    """The file's table, unchecked."""
    try:
        if path.stat().st_size > _LONGEST:
            raise ConfigurationError(
                f"{path.name} is longer than {_LONGEST} bytes", "look whether it is the right file"
            )
        text = path.read_text()
        data = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path.name} is no text (UTF-8)", "look whether it is the right file") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path.name} cannot be read: {error}", "look at that place of the file") from None
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path.name} has no table at the top", "write keys and values")
    return data


def problems(path: Path) -> list[str]:
    """Everything that is wrong with a file, one line each."""
    try:
        models.Config.model_validate(parse(path))
    except ConfigurationError as error:
        return [str(error)]
    except ValidationError as error:
        return [_problem(item) for item in error.errors()]
    return []


def _problem(item: Any) -> str:
    """One finding of pydantic's, in the project's words."""
    place = item["loc"]
    where = ".".join(str(part) for part in place) or "the whole"
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(place[-1]), _names_at(place[:-1]), 1)
        return f"{where}: unknown key" + (f"; did you mean {near[0]}?" if near else "")
    if item["type"] == "missing":
        return f"{where}: missing"
    return f"{where}: {item['msg'].removeprefix('Value error, ')}"


def _names_at(place: tuple[Any, ...]) -> list[str]:
    """The keys that may stand there."""
    model: type[BaseModel] | None = models.Config
    for part in place:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(str(part)) if model else None
        model = next(models_in(field.annotation), None) if field else None
    return list(model.model_fields) if model else []


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a field's type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from models_in(part)


def notes(config: models.Config) -> list[str]:
    """What is accepted and does nothing, for `occlum config check`."""
    feature, limits = config.feature, config.resource_limits
    ignored = {
        "feature.amx": feature.amx,
        "feature.pkru": feature.pkru,
        "feature.io_uring": feature.io_uring,
        "feature.enable_edmm": feature.enable_edmm,
        "resource_limits.init_num_of_threads": limits.init_num_of_threads,
        "process.default_mmap_size": config.process.default_mmap_size,
    }
    return [f"{name} has no effect" for name, value in ignored.items() if value]


def weaknesses(config: models.Config, *, is_signed: bool = True) -> list[str]:
    """What weakens the protection, for the banner at the start."""
    found = ["debug enclave (metadata.debuggable)"] if config.metadata.debuggable else []
    # A debug enclave's signature protects nothing anyway.
    found += ["signed by the development key, which everybody has"] if not is_signed and not found else []
    found += [f"{mount.target} is the host's (hostfs)" for mount in config.mount if mount.type == "hostfs"]
    return found


def to_toml(config: models.Config) -> str:
    """The native form: what differs from the defaults, and the tables everybody looks for."""
    data = config.model_dump(mode="json", exclude_defaults=True)
    return "\n".join(_toml_table(data, "")).strip() + "\n"


def image_table(settings: dict[str, Any]) -> str:
    """The table `image` with these settings."""
    return "\n[image]\n" + "".join(f"{key} = {_toml_value(value)}\n" for key, value in settings.items())


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml_value(item)}" for key, item in value.items()) + " }"
    # A JSON string is a TOML string but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml_table(table: dict[str, Any], name: str) -> Iterator[str]:
    """A table's lines: plain values first, then the tables in it."""
    nested = {key: value for key, value in table.items() if isinstance(value, dict)}
    for key, value in table.items():
        if key in nested or (key == "mount" and not name):
            continue
        yield f"{key} = {_toml_value(_sized(key, value))}"
    for key, value in nested.items():
        yield f"\n[{name}{key}]"
        yield from _toml_table(value, f"{name}{key}.")
    for mount in table.get("mount", ()) if not name else ():
        yield "\n[[mount]]"
        yield from (f"{key} = {_toml_value(value)}" for key, value in _clean(mount).items())


def _sized(key: str, value: Any) -> Any:
    return models.format_size(value) if key.endswith("_size") and isinstance(value, int) else value


def _clean(mount: dict[str, Any]) -> dict[str, Any]:
    """A mount without what is at its default."""
    kept = {key: value for key, value in mount.items() if value not in (None, {}, [], False)}
    if isinstance(options := kept.get("options"), dict):
        options = {key: _sized(key, value) for key, value in options.items() if value not in (None, False)}
        if isinstance(layers := options.get("layers"), list | tuple):
            options["layers"] = [_clean(layer) for layer in layers]
        kept["options"] = options
    return kept
