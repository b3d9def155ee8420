"""Reading and writing a configuration: YAML, `key=value` overrides, and the text that a run records."""

import functools
import re
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hyperface.config.config import ADDED, LATER, Config, check, check_packing, flat
from hyperface.config.packing import PackingConfig
from hyperface.config.paths import plain_path, refuse_unwritable
from hyperface.config.plain_yaml import LARGEST, meaning, refuse_odd, without_defaults
from hyperface.config.train import RECIPES
from hyperface.errors import ConfigError

_TRUTHS = ("true", "false", "yes", "no", "on", "off", "y", "n")
_LONGEST_SHOWN = 300
"""Number of characters that a message shows of what it is about."""


def is_override(word: str) -> bool:
    """Return whether a word is `key=value`; a path may have a `=` as well."""
    return bool(re.match(r"[A-Za-z_][\w.]*=", word))


def load(path: str | None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file (None: the defaults), apply `key=value` overrides, check.

    Raises:
        ConfigError: unknown key, wrong type, impossible value or unreadable file.
    """
    try:
        text = "{}"
        if path:
            with Path(plain_path(path)).open() as file:
                text = file.read(LARGEST + 1)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot be read: {why}; give a YAML file, e.g. jobs/configs/toy.yaml") from error
    return _checked(_resolved(text, overrides, path or str(overrides)))


def load_packing(words: Sequence[str]) -> PackingConfig:
    """The section `packing` alone: its defaults and `key=value` words, checked; for a packing outside a run.

    Raises:
        ConfigError: unknown key, wrong type or impossible value.
    """
    packing = _resolved("{}", [f"packing.{word.removeprefix('packing.')}" for word in words], str(words)).packing
    check_packing(packing)
    return packing


def changed(recorded: Config, directory: str, overrides: Sequence[str]) -> Config:
    """Return the configuration that a run recorded, with `key=value` overrides; a new train.recipe replaces all its
    section.

    Args:
        directory: directory of the run, wherever it was when its configuration was recorded.

    Raises:
        ConfigError: as `load`.
    """
    kept = replace(recorded, run=replace(recorded.run, dir=directory))
    renewed = any(override.startswith("train.recipe=") for override in overrides)
    return _checked(_resolved(to_yaml(kept, without="train" if renewed else ""), overrides, directory))


def _resolved(text: str, overrides: Sequence[str], source: str) -> Config:
    """Merge the defaults, then the recipe's, then the text's values, then the overrides."""
    for override in overrides:
        if not is_override(override):
            raise ConfigError(f"{override}: an override is written key=value without spaces, e.g. run.dir=runs/demo")
        refuse_unwritable(override, override.partition("=")[0])
    try:
        given, _ = _read(text, source)
        wanted = _literal(OmegaConf.merge(given, _from_words(overrides)), source)
        _refuse_other_kinds(wanted)
        _refuse_other_shapes(wanted)
        config = _typed(_recipe(wanted), wanted)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: is not YAML: {' '.join(str(error).split())}") from error
    except OmegaConfBaseException as error:
        what = str(error.msg or error).splitlines()[0][:_LONGEST_SHOWN]
        raise ConfigError(f"{error.full_key or source}: {what}{_with_section(error.full_key)}") from error
    for key, value in flat(config).items():
        for each in value if isinstance(value, list) else (value,):
            refuse_unwritable(str(each), key)
    return config


def _checked(config: Config) -> Config:
    check(config)
    return config


def _with_section(key: str | None) -> str:
    """Return advice for a key that lacks its section; empty where no section has such a one."""
    found = [each for each in _defaults() if each.partition(".")[2] == key]
    return f"; write {' or '.join(found)}" if found else ""


@functools.cache
def _schema() -> Any:
    """Return every key with its type and default; made once, as making it takes longer than reading a configuration."""
    return OmegaConf.structured(Config)


@functools.cache
def _defaults() -> dict[str, Any]:
    return flat(Config())


def _typed(*given: Any) -> Config:
    """Merge what is given into the defaults. Only given sections are merged: copying all others took half of the
    time."""
    names, schema = {name for each in given for name in each}, _schema()
    if names <= set(schema):  # or else the whole one says which section it has not
        schema = OmegaConf.masked_copy(schema, list(names))
    return Config(**cast(dict[str, Any], OmegaConf.to_object(OmegaConf.merge(schema, *given))))


def _read(text: str, source: str) -> tuple[Any, set[str]]:
    """Return (what a text sets that is not the default, names of its sections): OmegaConf takes long for each value."""
    refuse_odd(text, source)
    first = yaml.compose(text, Loader=yaml.CSafeLoader)
    if first is None:
        return OmegaConf.create(), set()
    if not isinstance(first, yaml.MappingNode):
        raise ConfigError(f"{source}: must be a YAML mapping of sections, e.g. `run: {{seed: 0}}`")
    try:
        given = OmegaConf.create(yaml.serialize(without_defaults(first, _usual()), Dumper=yaml.CSafeDumper))
    except yaml.YAMLError:
        given = OmegaConf.create(text)  # says where in the text
    return given, {name.value for name, _ in first.value if isinstance(name, yaml.ScalarNode)}


@functools.cache
def _usual() -> dict[Any, dict[Any, Any]]:
    """Return {section: {key: default}} as YAML has them, but of `train`, whose defaults a recipe replaces."""
    sections = yaml.compose(to_yaml(Config()), Loader=yaml.CSafeLoader).value
    return {
        meaning(name): {meaning(key): meaning(value) for key, value in section.value}
        for name, section in sections
        if name.value != "train"
    }


def _literal(given: Any, source: str) -> Any:
    """Return the values given. Raises ConfigError for a value that would be looked up, in the environment for one: it
    is recorded."""
    found = next((line.strip() for line in OmegaConf.to_yaml(given).splitlines() if "${" in line), None)
    if found is not None:
        raise ConfigError(f"{source}: a value must be written out, without ${{...}}; see {found!r}")
    if missing := OmegaConf.missing_keys(given):
        raise ConfigError(f"{min(missing)}: must have a value; OmegaConf leaves out ???")
    return given


def _refuse_other_kinds(given: Any) -> None:
    """Raise ConfigError for what OmegaConf would turn into the kind of value that belongs there, or let pass."""
    for key, default in _defaults().items():
        if key.partition(".")[0] not in given:
            continue
        value = OmegaConf.select(given, key)
        if isinstance(default, str) and isinstance(value, bool | float):
            raise ConfigError(f"{key} must be a text, and {value} is none: write it in quotes")
        items = value if isinstance(default, list) and OmegaConf.is_list(value) else [value]
        numbers = default if isinstance(default, list) else [default]
        if any(isinstance(number, bool | int | float) for number in numbers) and any(map(_is_quoted_number, items)):
            raise ConfigError(
                f"{key}: a number or truth value is written without quotes; it is {str(value)[:_LONGEST_SHOWN]!r}"
            )


def _refuse_other_shapes(given: Any) -> None:
    """Raise ConfigError for a list or a mapping where the other belongs: OmegaConf crashes on them."""
    for key, default in _defaults().items():
        if isinstance(default, dict | list):
            value = OmegaConf.select(given, key)
            shown = str(value)[:_LONGEST_SHOWN]
            if isinstance(default, dict) and not (value is None or OmegaConf.is_dict(value)):
                raise ConfigError(f"{key} must be a mapping, e.g. {key}.NAME=[1,2]; it is {shown!r}")
            deep = OmegaConf.is_list(value) and any(map(OmegaConf.is_config, value))
            if isinstance(default, list) and (deep or OmegaConf.is_dict(value)):
                raise ConfigError(f"{key} must be a list of plain values; it is {shown}")


def _is_quoted_number(value: object) -> bool:
    """Return whether a text would be taken for a number, or for true or false."""
    return isinstance(value, str) and bool(re.search(r"\d", value) or value.strip().lower() in _TRUTHS)


def _recipe(given: Any) -> dict[str, Any]:
    """Return the defaults that the given recipe has; one that does not exist is refused later, like any other wrong
    value."""
    defaults = RECIPES.get(str(OmegaConf.select(given, "train.recipe")))
    return {"train": defaults} if defaults else {}


def _from_words(overrides: Sequence[str]) -> DictConfig:
    """Read the `key=value` words. A text is taken as it stands: as YAML, `run.dir=007` would be the number 7."""
    defaults, given = _defaults(), OmegaConf.create()
    for word in overrides:
        key, _, text = word.partition("=")
        if isinstance(defaults.get(key), str):
            OmegaConf.update(given, key, text)
        else:
            refuse_odd(text, word[:_LONGEST_SHOWN])
            given.merge_with_dotlist([word])
    return given


@functools.lru_cache(maxsize=16)  # a job compares what its run recorded with its own before each stage and part
def from_yaml(text: str) -> Config:
    """Read what `to_yaml` wrote. Raises ConfigError for anything else, and for a text that was cut."""
    try:
        given, sections = _read(text, "it")
        _refuse_other_shapes(_literal(given, "it"))
        config = _typed(given)
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(" ".join(str(error).split())[:_LONGEST_SHOWN]) from error
    needed = [section.name for section in fields(Config) if section.name not in (*LATER, *ADDED)]
    missing = [name for name in needed if name not in sections]
    if missing:
        raise ConfigError(f"the sections {', '.join(missing)} are missing")
    return config


def to_yaml(config: Config, without: str = "") -> str:
    """Return the resolved configuration as YAML, readable by `load` and `from_yaml`; without one section, if it is
    named."""
    plain = Config()
    values = {section.name: getattr(config, section.name) for section in fields(config) if section.name != without}
    return "".join(
        _plain_yaml(name) if value == getattr(plain, name) else _section_yaml(name, value)
        for name, value in values.items()
    )


@functools.cache
def _plain_yaml(name: str) -> str:
    """Return the YAML of a section in which nothing is set; most sections are."""
    return _section_yaml(name, getattr(Config(), name))


def _section_yaml(name: str, section: Any) -> str:
    return OmegaConf.to_yaml(OmegaConf.create({name: asdict(section)}))
