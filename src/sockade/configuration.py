"""Where settings come from: flags, environment, secret files, `sockade.toml`, defaults, in this order.

Everything that is wrong is found in one reading and raised together. Values out of secret files are never shown,
nor is the value of an unknown key: it may be a secret that was misspelt.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, NestedSecretsSettingsSource
from pydantic_settings.exceptions import SettingsError as SourceError

from sockade.errors import SettingsError
from sockade.exposure import problems
from sockade.settings import ChannelSettings, IssuerSettings, Section, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

PREFIX = "SOCKADE_"
SECRETS_DIR = "SOCKADE_SECRETS_DIR"
BENCH_TOKEN = "SOCKADE_BENCH_TOKEN"  # noqa: S105 - a variable's name
"""Read by `sockade bench`; no setting of a server."""
CONFIG_NAME = "sockade.toml"

# Tables of tables, one for each name that the operator chose.
NAMED: dict[str, type[Section]] = {"issuers": IssuerSettings, "channels": ChannelSettings}
NAMED_PATHS = ("keys_file", "secret_file", "schema_file")
TABLES: dict[str, tuple[str, ...]] = {
    table: tuple(info.annotation.model_fields)  # type: ignore[union-attr]  # every other field is a Section
    for table, info in Settings.model_fields.items()
    if table not in NAMED
}
KEYS = tuple(f"{table}.{key}" for table, keys in TABLES.items() for key in keys)
ALL_TABLES = (*TABLES, *NAMED)
# How a key is written by who forgets its table, or what parts them; where two have one name, the first is meant.
TABLE_FORMS = {table: f"[{table}]" for table in ALL_TABLES}
FORMS = {
    **{key.partition(".")[2]: key for key in reversed(KEYS)},
    **{key.replace(".", "_"): key for key in KEYS},
    **TABLE_FORMS,
}
KEY = re.compile(r"\A[a-z_]+(?:\.[\w-]+)+")

# What a relative path in the file starts from is the file, so that a service may run from anywhere.
PATHS = (
    "server.data_dir",
    "tls.certificate",
    "tls.key",
    "tls.client_ca",
    "addresses.allow_file",
    "addresses.deny_file",
    "admin.api_key_file",
)


def load(config: Path | None = None, flags: Mapping[str, object] | None = None) -> Settings:
    """Read the settings from everywhere.

    `config` names the TOML file; without it `sockade.toml` in the working directory is read if it is there. `flags`
    maps dotted keys to values (`{"server.port": 9443}`); None means not given.

    Raises SettingsError with one sentence for each problem. Settings whose single values are right may still be
    refused together: ask `sockade.exposure.problems`.
    """
    return _read(config, flags).finish()


def judge(config: Path | None = None, flags: Mapping[str, object] | None = None) -> tuple[list[str], Settings | None]:
    """Return one sentence for each problem, of single values and of what is refused together, with where it stands.

    The settings come along unless a value is wrong.
    """
    reading = _read(config, flags)
    try:
        settings = reading.finish()
    except SettingsError as error:
        return list(error.problems), None
    return reading.placed(problems(settings)), settings


def _read(config: Path | None, flags: Mapping[str, object] | None) -> _Reading:
    reading = _Reading()
    reading.add_toml(config)
    reading.add_secret_files()
    reading.add_environment()
    reading.add_flags(flags or {})
    return reading


class _Text:
    """Decode text to lists: JSON, or parts between commas."""

    def decode_complex_value(self, _name: str, _info: FieldInfo, value: Any) -> Any:
        try:
            return json.loads(value)
        except ValueError:
            # Text in the place of a whole table becomes a list too, and its model refuses that.
            return [part.strip() for part in str(value).split(",") if part.strip()]


class _Environment(_Text, EnvSettingsSource):
    pass


class _SecretFiles(_Text, NestedSecretsSettingsSource):
    pass


class _Known(Settings, BaseSettings):  # type: ignore[misc]  # never built: it only tells the sources the keys
    pass


@dataclass(slots=True)
class _Reading:
    """What was found so far, and where."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    """Where the value of a dotted key, or of a table, came from."""
    secret: set[str] = field(default_factory=set)
    found: list[str] = field(default_factory=list)

    def add_toml(self, config: Path | None) -> None:
        path = config or Path(CONFIG_NAME)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if config is not None:
                self.found.append(f"{path} does not exist: name another file with --config.")
            return
        except OSError as error:
            self.found.append(f"{path} cannot be read ({error.strerror}).")
            return
        except ValueError as error:
            self.found.append(f"{path} is not valid TOML: {error}.")
            return
        for key in PATHS:
            table, _, name = key.partition(".")
            section = values.get(table)
            if isinstance(section, dict) and _is_path(section.get(name)):
                section[name] = path.parent / section[name]
        for section in (named for table in NAMED for named in _tables(values.get(table))):
            section |= {name: path.parent / section[name] for name in NAMED_PATHS if _is_path(section.get(name))}
        self._merge(values, lambda key: f"{path}: {key}")

    def add_secret_files(self) -> None:
        folder = os.environ.get(SECRETS_DIR)
        if folder is None:
            return
        if not folder:
            # To Python that is the working directory, with whatever is in it.
            self.found.append(f"{SECRETS_DIR} is empty: name a folder of files, or leave it out.")
            return
        try:
            source = _SecretFiles(
                _Known,  # type: ignore[arg-type]  # documented to work
                secrets_dir=folder,
                secrets_dir_missing="error",
                secrets_prefix="",
                secrets_nested_delimiter="__",
            )
            values = source()
            names = [name.name for name in Path(folder).iterdir() if not name.name.startswith(".")]
        except (SourceError, OSError, ValueError) as error:
            self.found.append(f"{SECRETS_DIR} ({folder}) cannot be read ({error}): name a folder of files.")
            return
        self._report_unknown(names, "", lambda name: str(Path(folder) / name))
        self.secret |= {f"{table}.{key}" for table, keys in values.items() for key in _names(keys)}
        self._merge(values, lambda key: f"{Path(folder) / key.replace('.', '__')} ({key})")

    def add_environment(self) -> None:
        source = _Environment(_Known, env_prefix=PREFIX, env_nested_delimiter="__")
        names = [n for n in os.environ if n.upper().startswith(PREFIX) and n.upper() not in (SECRETS_DIR, BENCH_TOKEN)]
        self._report_unknown(names, PREFIX, str)
        self._merge(source(), lambda key: f"{PREFIX}{key.replace('.', '__').upper()} ({key})")

    def add_flags(self, flags: Mapping[str, object]) -> None:
        nested: dict[str, Any] = {}
        for key, value in flags.items():
            if value is not None:
                table, _, name = key.partition(".")
                nested.setdefault(table, {})[name] = value
        self._merge(nested, lambda key: f"--{key.rpartition('.')[2].replace('_', '-')} ({key})")

    def finish(self) -> Settings:
        try:
            settings = Settings.model_validate(self.values)
        except ValidationError as error:
            broken = self._translate(error)
            self.found += self.placed(problems(Settings.model_validate(self._without(broken)), broken=broken))
        else:
            if not self.found:
                return settings
            self.found += self.placed(problems(settings))
        raise SettingsError(self.found)

    def placed(self, sentences: list[str]) -> list[str]:
        """Return sentences that begin with a key so that they say where it was set; a default was set nowhere."""
        return [KEY.sub(lambda match: self.places.get(match[0], match[0]), sentence) for sentence in sentences]

    def _merge(self, values: Mapping[str, Any], place: Any) -> None:
        for table, keys in values.items():
            if not isinstance(keys, dict):
                self.values[table] = keys
                self.places[table] = place(table)
                continue
            known = self.values.get(table)
            self.values[table] = _joined(known, keys) if isinstance(known, dict) else dict(keys)
            self.places.setdefault(table, place(table))
            for key, value in keys.items():
                self.places[f"{table}.{key}"] = place(f"{table}.{key}")
                if table in NAMED:
                    self.places |= {f"{table}.{key}.{name}": place(f"{table}.{key}.{name}") for name in _names(value)}

    def _report_unknown(self, names: list[str], prefix: str, shown: Any) -> None:
        # Unknown keys of a known table are found by the model; a source does not even hand on unknown tables.
        for name in names:
            table, _, key = name[len(prefix) :].lower().partition("__")
            if table not in ALL_TABLES:
                nearest = _nearest(f"{table}.{key}" if key else table)
                self.found.append(f"{shown(name)} is not a setting: did you mean {prefix}{_spelt(nearest, prefix)}?")

    def _without(self, broken: set[str]) -> dict[str, Any]:
        """Return the values that are known and not broken, so that they are judged all the same."""
        rest: dict[str, Any] = {}
        for table, keys in self.values.items():
            if table not in ALL_TABLES or table in broken:
                continue
            rest[table] = (
                keys
                if table in NAMED
                else {
                    key: value for key, value in keys.items() if key in TABLES[table] and f"{table}.{key}" not in broken
                }
            )
        return rest

    def _translate(self, error: ValidationError) -> set[str]:
        """Write down each problem once; return the keys that are wrong, or their tables.

        In the place of an unknown key stands the nearest one that is known: it was probably meant.
        """
        allowed: dict[tuple[str, ...], list[ErrorDetails]] = {}
        for detail in error.errors(include_url=False):
            # What stands behind the index of a list names members of a union: one entry, one problem.
            depth = 4 if detail["loc"][0] in NAMED else 3
            where = tuple(str(part) for part in detail["loc"][:depth] if part != "[key]")
            allowed.setdefault(where, []).append(detail)
        self.found += [self._sentence(where, details) for where, details in allowed.items()]
        return {self._broken(where, details[0]) for where, details in allowed.items()}

    def _broken(self, where: tuple[str, ...], detail: ErrorDetails) -> str:
        if where[0] in NAMED or len(where) == 1:
            return where[0]
        key = ".".join(where[:2])
        return _nearest(key) if detail["type"] == "extra_forbidden" else key

    def _sentence(self, where: tuple[str, ...], details: list[ErrorDetails]) -> str:
        key = ".".join(where[: 3 if where[0] in NAMED else 2])
        place = self.places.get(key, self.places.get(where[0], key))
        first = details[0]
        if first["type"] == "extra_forbidden":
            if len(where) == 1 and isinstance(first["input"], dict):
                return f"{place} is not a table of settings: did you mean {_nearest(key, TABLE_FORMS)}?"
            return f"{place} is not a setting: did you mean {_nearest(key)}?"
        shown = "***" if key in self.secret else _shown(first["input"])
        return f"{place} is {shown}, but {_allowed(details)}."


def _is_path(value: object) -> bool:
    """Tell whether a value is a text that names something, and not what is refused where it stands."""
    return isinstance(value, str) and value != ""


def _names(keys: Any) -> Iterator[str]:
    return iter(keys) if isinstance(keys, dict) else iter(())


def _tables(value: Any) -> Iterator[dict[str, Any]]:
    return (table for table in value.values() if isinstance(table, dict)) if isinstance(value, dict) else iter(())


def _joined(known: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Return both, tables within tables joined as well; where both have a value the second counts."""
    both = {
        key: _joined(known[key], value) if isinstance(known.get(key), dict) and isinstance(value, dict) else value
        for key, value in more.items()
    }
    return {**known, **both}


def _spelt(key: str, prefix: str) -> str:
    name = key.strip("[]").replace(".", "__")
    return name.upper() if prefix else name


def _nearest(key: str, forms: Mapping[str, str] = FORMS) -> str:
    """Return the known key or table that looks most like this one; `forms` say what one without a dot may be."""
    if "." not in key:
        return forms[difflib.get_close_matches(key, forms, 1, 0)[0]]
    table, _, name = key.partition(".")
    if table in NAMED:
        chosen, _, inner = name.partition(".")
        return f"{table}.{chosen}.{difflib.get_close_matches(inner, NAMED[table].model_fields, 1, 0)[0]}"
    near = difflib.get_close_matches(name, TABLES.get(table, ()), 1, 0.6)
    return f"{table}.{near[0]}" if near else difflib.get_close_matches(key, KEYS, 1, 0)[0]


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _allowed(details: list[ErrorDetails]) -> str:
    kinds = {detail["type"] for detail in details}
    if any(kind.startswith("ip_") for kind in kinds):
        return "must be a network such as 10.0.0.0/8 or 2001:db8::/32"
    if kinds & {"model_type", "model_attributes_type"}:
        return "must be a table"
    told = (re.sub(r"\A(Input|String) should", "must", detail["msg"]) for detail in details)
    return " or ".join(dict.fromkeys(told))
