"""Paths that people write, as the operating system takes them."""

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hyperface.errors import ConfigError

_FILE_URL = re.compile(r"file:", re.IGNORECASE)
_ADDRESS = re.compile(r"[A-Za-z][\w+.-]*://")


def refuse_unwritable(text: str, key: str) -> None:
    """Raise ConfigError for a text that no file can be called, and that no record can hold."""
    if "\0" in text or re.search("[\ud800-\udfff]", text):
        raise ConfigError(f"{key}: must be text in UTF-8 without null bytes; it is {text!a}")


def local_path(path: str) -> str:
    """Return a path or file:// URL made absolute against the directory the user works in; an address such as s3://
    stays.

    A submitted Ray job runs in an unpacked copy of the working directory that Ray deletes later, so a relative path
    is taken from HYPERFACE_BASE_DIR there (`make demo` sets it on the local cluster).

    Raises:
        ConfigError: relative path in a submitted job without HYPERFACE_BASE_DIR; `~` of nobody; a URL that names
            another machine, or more than a path; no text.
    """
    path = plain_path(path)
    if os.path.isabs(path):
        # Through a link, `..` is the folder above what it leads to.
        return os.path.realpath(path) if ".." in path.split("/") else os.path.normpath(path)
    if _ADDRESS.match(path):
        return path
    base = os.environ.get("HYPERFACE_BASE_DIR")
    if base is None and "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        raise ConfigError(f"{path}: a relative path would be lost with this Ray job; use s3:// or an absolute path")
    return str(Path(base or ".", path).resolve())


def plain_path(path: str) -> str:
    """Return a path without `~`, also of a file:// URL; an address such as s3:// stays. Raises ConfigError as
    `local_path`."""
    refuse_unwritable(path, "a path")
    if re.search(r"[\x01-\x1f\x7f]", path):  # messages are one line
        raise ConfigError(f"a path: must have no control characters; it is {path!a}")
    if _FILE_URL.match(path):
        return _of_url(path)
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        fix = "write the path from / on, or ./~ for what is called so"
        raise ConfigError(f"{path}: begins with the home of somebody who is not known here; {fix}")
    return expanded


def _of_url(url: str) -> str:
    rule = "a file:// URL is file:///PATH from / on, with %23 for #, %3F for ? and %25 for %"
    try:
        parts = urlsplit(url)
        path = unquote(parts.path, errors="strict")
    except ValueError as error:
        raise ConfigError(f"{url}: {rule} ({error})") from error
    if "?" in url or "#" in url or not path.startswith("/") or parts.netloc.lower() not in ("", "localhost"):
        raise ConfigError(f"{url}: {rule}; it names another machine, or more or less than a path")
    refuse_unwritable(path, url)
    return path
