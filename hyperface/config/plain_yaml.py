"""YAML that means what it looks like: YAML 1.1 reads `1:30` as 90, `010` as 8 and `on` as true."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from hyperface.errors import ConfigError

DEEPEST = 20
"""Most lists and mappings in each other: the readers call themselves for each, until their stack is full."""
LARGEST = 2**20
"""Most characters of a configuration."""
_LONGEST = 100
"""Most characters of a number: Python takes time for thousands of digits, or refuses them."""
_PLAIN = {
    "tag:yaml.org,2002:int": r"[-+]?(0|[1-9][0-9]*)",
    "tag:yaml.org,2002:float": r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(?i:inf|nan)",
    "tag:yaml.org,2002:bool": r"true|True|TRUE|false|False|FALSE",
}
_RESOLVER = yaml.resolver.Resolver()


def refuse_odd(text: str, source: str) -> None:
    """Raise ConfigError for a number or truth value that is written in no plain way, a tag, and a text made to harm.

    Args:
        source: name of the text in messages.

    Raises:
        yaml.YAMLError: it is no YAML.
    """
    if len(text) > LARGEST:
        raise ConfigError(f"{source}: must have at most {LARGEST} characters; give a configuration")
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        where = f"{source}, line {event.start_mark.line + 1}" if "\n" in text else source
        if getattr(event, "tag", None):
            raise ConfigError(f"{where}: a value must be written without a tag; see {_shown(event.tag)}")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise ConfigError(f"{where}: lists and mappings must be nested at most {DEEPEST} deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.ScalarEvent) and event.implicit[0]:
            _refuse_odd_value(event.value, where)


def without_defaults(sections: Any, defaults: Mapping[Any, Mapping[Any, Any]]) -> Any:
    """Return the node of a configuration without the values that it has anyhow; the same where a key is given twice.

    Args:
        defaults: {section: {key: value}}, each as `meaning` has it.
    """
    kept = []
    for name, section in sections.value:
        usual = defaults.get(meaning(name))
        if usual is not None and isinstance(section, yaml.MappingNode) and _has_each_key_once(section):
            set_ones = [(key, value) for key, value in section.value if usual.get(meaning(key)) != meaning(value)]
            if set_ones:
                kept.append((name, yaml.MappingNode(section.tag, set_ones)))
        else:
            kept.append((name, section))
    return yaml.MappingNode(sections.tag, kept) if _has_each_key_once(sections) else sections


def meaning(node: Any) -> Any:
    """Return what a value, or a list of values, says; anything deeper is only equal to itself."""
    if isinstance(node, yaml.ScalarNode):
        return node.tag, node.value
    if all(isinstance(part, yaml.ScalarNode) for part in node.value):
        return node.tag, tuple((part.tag, part.value) for part in node.value)
    return node


def _has_each_key_once(mapping: Any) -> bool:
    return len({meaning(key) for key, _ in mapping.value}) == len(mapping.value)


def _refuse_odd_value(text: str, where: str) -> None:
    """Refuse a value without quotes that YAML takes for anything but what it looks like."""
    kind = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))
    if kind not in _PLAIN:
        return
    if not re.fullmatch(_PLAIN[kind], text):
        rule = "a number is written with digits and a point (90, 0.5, 1e-3), a truth value as true or false"
        raise ConfigError(f"{where}: {rule}; {_shown(text)} is none: write it so, or a text in quotes")
    if len(text) > _LONGEST:
        raise ConfigError(f"{where}: a number must have at most {_LONGEST} digits; {_shown(text)} has {len(text)}")


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 40 else f"{text[:40]}...")
