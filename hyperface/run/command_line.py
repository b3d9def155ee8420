"""The command line of a job: a configuration file, `key=value` words, and a help text made of the docstrings."""

import ast
import contextlib
import errno
import inspect
import os
import select
import sys
import textwrap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Literal, NoReturn, TextIO, get_args, get_origin

from hyperface.config import Config, StorageConfig, changed, is_override, load
from hyperface.errors import ConfigError
from hyperface.run import Run, existing_run

READER_LEFT = 141
"""Exit code of a program whose reader has left, as a shell has it: 128 + SIGPIPE."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """End the process without a word, with READER_LEFT, where the reader of what it prints leaves (`| head`), and with
    one line, with 1, where that cannot be written, as on a full disk."""
    try:
        try:
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                if stream:  # None where a process was started without
                    stream.flush()  # at the interpreter's end it would be too late for a word
    except OSError as error:
        lost = lost_output(error)
        if not lost:
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in lost:
            os.dup2(nowhere, stream.fileno())  # what is still to be written goes there
        if error.errno == errno.EPIPE:
            raise SystemExit(READER_LEFT) from None
        print(f"error: standard output cannot be written: {error.strerror}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None


def lost_output(error: OSError) -> list[TextIO]:
    """The standard streams of this process that caused an error, and can be written no more."""
    return [stream for stream in (sys.__stdout__, sys.__stderr__) if stream and _is_lost(stream, error)]


def _is_lost(stream: TextIO, error: OSError) -> bool:
    try:
        stream.flush()
        if error.errno in FULL and stream is sys.__stdout__:  # what did not fit is forgotten by now
            os.write(stream.fileno(), b"\n")
    except OSError:
        return True
    ends = select.poll()
    ends.register(stream, 0)
    return error.errno == errno.EPIPE and bool(ends.poll(0))


def _field_docs(section: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, read from its source."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(section))).body[0]
    assert isinstance(tree, ast.ClassDef)
    docs = {}
    for node, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(node, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            docs[ast.unparse(node.target)] = " ".join(str(after.value.value).split())
    return docs


def describe(sections: Collection[str] = ()) -> str:
    """Describe every key of some sections, or of all, with its choices or type, default and meaning."""
    lines = []
    for section in (f for f in fields(Config) if f.name in sections or not sections):
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


def from_command_line(purpose: str, module: str, more: str = "") -> Config:
    """Parse `python -m MODULE CONFIG.yaml|RUN [key=value ...]`; `--help [SECTION ...]` prints the keys and exits 0.

    Args:
        more: rest of the usage: what else the job takes.

    Raises:
        ConfigError: as `load`; there is no such run.
    """
    arguments = sys.argv[1:]
    if not arguments or {"-h", "--help"} & set(arguments):
        usage = " ".join(filter(None, [f"python -m {module} CONFIG.yaml|RUN [key=value ...]", more]))
        _print_help(purpose, usage, arguments)
    source, *overrides = arguments
    if is_override(source):
        return load(None, arguments)
    return load(source, overrides) if is_config(source) else of_run(source, overrides)


def of_run(directory: str, overrides: Sequence[str]) -> Config:
    """Return the configuration that a run recorded, with overrides. Raises ConfigError: there is no such run, or as
    `load`."""
    storage = [override for override in overrides if override.startswith("storage.")]
    return changed(run_of(directory, storage).config, directory, overrides)


def run_of(source: str, overrides: Sequence[str]) -> Run:
    """Open the run of a directory, or of the configuration whose run.dir it is. Raises ConfigError when there is
    none."""
    directory = load(source, overrides).run.dir if is_config(source) else source
    return existing_run(directory, storage_of(source, overrides))


def storage_of(source: str, overrides: Sequence[str]) -> StorageConfig:
    """Return how storage is reached: from the configuration or the command line. Raises ConfigError for any other
    key."""
    if is_config(source):
        return load(source, overrides).storage
    if any(not override.startswith("storage.") for override in overrides):
        odd = next(word for word in overrides if not word.startswith("storage."))
        if odd.startswith("-"):
            raise ConfigError(f"{odd}: is no option of this job; --help lists those that it has")
        raise ConfigError(f"{odd}: only storage.* keys apply to a run that exists")
    return load(None, ["run.dir=.", *overrides]).storage


def to_publish(source: str, overrides: Sequence[str]) -> Run:
    """Open a run as `run_of` does; the section `publish` of its configuration is what it is now, not when the run
    began.

    Raises:
        ConfigError: as `run_of`; there are other keys than storage.* and publish.*.
    """
    if is_config(source):
        run, now = run_of(source, overrides), load(source, overrides)
    else:
        publish = [override for override in overrides if override.startswith("publish.")]
        run = run_of(source, [override for override in overrides if override not in publish])
        now = changed(run.config, str(run), publish) if publish else run.config
    return replace(run, config=replace(run.config, publish=now.publish))


def is_config(source: str) -> bool:
    """Return whether a word names a configuration file, and not a run."""
    return source.endswith((".yaml", ".yml")) or os.path.isfile(os.path.expanduser(source))


def _print_help(purpose: str, usage: str, arguments: Sequence[str]) -> NoReturn:
    """Print the usage and, where they are asked for, the keys: there are hundreds of them."""
    sections = [section.name for section in fields(Config)]
    for word in arguments:
        if word.isidentifier() and word not in sections:
            near = get_close_matches(word, sections, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{word}: is no section; there are {', '.join(sections)}.{hint}")
    print(f"{purpose}\n\nusage: {usage}\n\nRUN: a run.dir, whose recorded configuration is taken.")
    if arguments:
        print(describe([word for word in arguments if word in sections]))
    else:
        advice = f"--help lists every key, --help SECTION ... those of some sections: {', '.join(sections)}"
        print(textwrap.fill(advice, 110))
    raise SystemExit(0 if arguments else 2)
