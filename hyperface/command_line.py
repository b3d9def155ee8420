"""The command line of a job: a configuration file, `key=value` words, and a help text made of the docstrings."""

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Literal, NoReturn, get_args, get_origin

from hyperface.config import Config, changed, load
from hyperface.run import existing_run


def _field_docs(section: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, read from its source."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(section))).body[0]
    assert isinstance(tree, ast.ClassDef)
    docs = {}
    for node, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(node, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            docs[ast.unparse(node.target)] = " ".join(str(after.value.value).split())
    return docs


def describe() -> str:
    """Every key with its choices or type, default and meaning."""
    lines = []
    for section in fields(Config):
        defaults = getattr(Config(), section.name)
        cls = type(defaults)
        docs = _field_docs(cls)
        lines.append(f"\n{section.name}")
        for f in fields(cls):
            choices = get_args(f.type) if get_origin(f.type) is Literal else ()
            kind = "|".join(choices) or (f.type.__name__ if isinstance(f.type, type) else str(f.type))
            lines.append(f"  {section.name}.{f.name}={getattr(defaults, f.name)!r}  ({kind})")
            lines.append(textwrap.fill(docs[f.name], 110, initial_indent="      ", subsequent_indent="      "))
    return "\n".join(lines)


def from_command_line(purpose: str, module: str) -> Config:
    """Parse `python -m MODULE CONFIG.yaml|RUN [key=value ...]`; `--help` prints every key and exits 0.

    Raises:
        ConfigError: as `load`; there is no such run.
    """
    arguments = sys.argv[1:]
    if not arguments or {"-h", "--help"} & set(arguments):
        _print_help(purpose, module, 0 if arguments else 2)
    source, *overrides = arguments
    if is_override(source):
        return load(None, arguments)
    return load(source, overrides) if is_config(source) else of_run(source, overrides)


def of_run(directory: str, overrides: Sequence[str]) -> Config:
    """What a run recorded, with overrides. Raises ConfigError: there is no such run, or as `load`."""
    storage = [override for override in overrides if override.startswith("storage.")]
    run = existing_run(directory, load(None, ["run.dir=.", *storage]).storage)
    return changed(run.config, directory, overrides)


def is_override(word: str) -> bool:
    """Whether a word is `key=value`; a path may have a `=` as well."""
    return bool(re.match(r"[A-Za-z_][\w.]*=", word))


def is_config(source: str) -> bool:
    """Whether a word names a configuration file, and not a run."""
    return source.endswith((".yaml", ".yml")) or Path(source).is_file()


def _print_help(purpose: str, module: str, code: int) -> NoReturn:
    print(
        f"{purpose}\n\nusage: python -m {module} CONFIG.yaml|RUN [key=value ...]\n\n"
        f"RUN: a run.dir, whose recorded configuration is taken.\n{describe()}"
    )
    raise SystemExit(code)
