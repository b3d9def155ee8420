"""The one door to bytes: a local directory or a prefix in a bucket, behind the same few verbs.

Nothing half-written is ever visible. Locally a file is written under a hidden temporary name, synced and linked; on S3
an object is one PUT with Content-MD5. (An exception inside `with fs.open(path, "wb")` would commit the partial object.)
`put_new` is won by exactly one writer: `link(2)` locally, `If-None-Match: *` on S3. Where a disk or a server knows
nothing of the kind, one job at a time may write a run (hyperface/run/lease.py).
"""

import os
from urllib.parse import urlsplit

from hyperface import config as configuration
from hyperface.errors import ConfigError, StorageError
from hyperface.storage.local import LocalStore
from hyperface.storage.s3 import PROBE, S3Store
from hyperface.storage.store import LARGEST_OBJECT, Stat, Store

__all__ = [
    "LARGEST_OBJECT",
    "PROBE",
    "LocalStore",
    "S3Store",
    "Stat",
    "StorageError",
    "Store",
    "open_file",
    "open_store",
]


def open_file(path: str, config: configuration.StorageConfig | None = None) -> tuple[Store, str]:
    """Return (the store of a file's folder, the file's name in it), whether there is such a file or not.

    Raises:
        ConfigError: as `open_store`.
    """
    path = configuration.plain_path(path)
    folder, _, name = path.rpartition("/")
    return open_store(folder or ("/" if path.startswith("/") else "."), config), name


def open_store(path: str, config: configuration.StorageConfig | None = None) -> Store:
    """The store behind a path, file:// or s3:// URL.

    Raises:
        ConfigError: another scheme, or as `local_path`.
    """
    config = config or configuration.StorageConfig()
    path = configuration.plain_path(path)
    try:
        parts = urlsplit("" if os.path.isabs(path) else path)
    except ValueError as error:
        raise ConfigError(f"{path}: is no address ({error}); write s3://bucket/prefix") from error
    if parts.scheme == "s3":
        if {"@", ":"} & set(parts.netloc):
            fix = "write s3://bucket/prefix: credentials come from the standard AWS chain only"
            raise ConfigError(f"s3://***: names a user, a password or a port before the bucket; {fix}")
        if not parts.netloc:
            raise ConfigError(f"{path}: names no bucket; write s3://bucket/prefix")
        chosen = (config.endpoint_url, config.region, config.addressing_style, config.patience_s)
        return S3Store("s3" + path.rstrip("/")[2:], *chosen)  # however its letters were written
    if parts.scheme:
        raise ConfigError(f"{path}: scheme {parts.scheme!r} is not supported; use a path, file:// or s3://")
    return LocalStore(configuration.local_path(path))
