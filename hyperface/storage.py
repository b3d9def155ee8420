"""The one door to bytes: a local directory or a prefix in a bucket, behind the same few verbs. Only home of s3fs.

Nothing half-written is ever visible. Locally a file is written under a hidden temporary name, synced and linked; on S3
an object is one PUT with Content-MD5. (An exception inside `with fs.open(path, "wb")` would commit the partial object.)
`put_new` is won by exactly one writer: `link(2)` locally, `If-None-Match: *` on S3.
"""

import base64
import contextlib
import errno
import hashlib
import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from hyperface import config as configuration

_NO_BUCKET = "bucket does not exist"


class StorageError(OSError):
    """Bytes that cannot be listed, read or written. The message names the URI, what happened and the fix."""


@dataclass(frozen=True)
class Store(ABC):
    """A place for named bytes. Names are relative, with forward slashes."""

    url: str
    """Absolute path, or s3://bucket/prefix."""

    def __str__(self) -> str:
        return self.url

    def uri(self, name: str) -> str:
        return f"{self.url}/{name}" if name else self.url

    @abstractmethod
    def list(self, prefix: str = "") -> dict[str, int]:
        """{name: size in bytes} of everything whose name begins with the folder `prefix`, found by one listing."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Bytes under that name; None when there are none."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """A seekable reader. Raises FileNotFoundError."""

    @abstractmethod
    def put_new(self, name: str, data: bytes) -> bool:
        """Write all of `data`, or nothing if the name is taken; whether this call wrote it."""

    @abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Write all of `data` in place of whatever the name held."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove the name if it is there."""

    def read(self, name: str) -> bytes:
        """All bytes. Raises FileNotFoundError."""
        with self.open(name) as file:
            return file.read()

    def exists(self, name: str) -> bool:
        return self.size(name) is not None


@dataclass(frozen=True)
class LocalStore(Store):
    def _path(self, name: str) -> Path:
        path = Path(os.path.normpath(Path(self.url, name)))
        if not path.is_relative_to(self.url):
            raise StorageError(f"{self.url}: {name!r} leaves the directory; give a name inside it")
        return path

    def list(self, prefix: str = "") -> dict[str, int]:
        root, found = self._path(prefix), {}
        for folder, _, files in os.walk(root):
            for file in files:
                if not file.startswith("."):
                    path = Path(folder, file)
                    with contextlib.suppress(FileNotFoundError):
                        found[path.relative_to(self.url).as_posix()] = path.stat().st_size
        return dict(sorted(found.items()))

    def size(self, name: str) -> int | None:
        try:
            return self._path(name).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def open(self, name: str) -> BinaryIO:
        return self._path(name).open("rb")

    def put_new(self, name: str, data: bytes) -> bool:
        with self._written(name, data) as (temporary, path):
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
        return True

    def put(self, name: str, data: bytes) -> None:
        with self._written(name, data) as (temporary, path):
            temporary.replace(path)

    def delete(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _written(self, name: str, data: bytes) -> Iterator[tuple[Path, Path]]:
        """The data, synced under a hidden name beside its final one; the hidden name is gone afterwards."""
        path = self._path(name)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary, path
        except OSError as error:
            fix = (
                "free space or choose another run.dir" if error.errno == errno.ENOSPC else "check path and permissions"
            )
            raise StorageError(f"{self.uri(name)}: cannot be written: {error.strerror}; {fix}") from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class S3Store(Store):
    endpoint_url: str = ""
    region: str = ""
    addressing_style: str = "auto"

    @cached_property
    def _fs(self) -> Any:
        import s3fs  # a second of import that local runs do not need

        # Gateways other than AWS's refuse the checksum trailers that botocore sends unasked.
        os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "WHEN_REQUIRED")
        client = {k: v for k, v in {"endpoint_url": self.endpoint_url, "region_name": self.region}.items() if v}
        settings = {
            "s3": {"addressing_style": self.addressing_style},
            "retries": {"mode": "standard", "max_attempts": 5},
        }
        return s3fs.S3FileSystem(client_kwargs=client, config_kwargs=settings, use_listings_cache=False)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_fs"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def list(self, prefix: str = "") -> dict[str, int]:
        with self._named(prefix):
            found = self._fs.find(self.uri(prefix), detail=True, withdirs=False)
            root = len(self.url.removeprefix("s3://")) + 1
            return {path[root:]: entry["size"] for path, entry in sorted(found.items())}

    def size(self, name: str) -> int | None:
        with self._named(name):
            try:
                return int(self._fs.info(self.uri(name))["size"])
            except FileNotFoundError:
                return None

    def open(self, name: str) -> BinaryIO:
        with self._named(name):
            return cast(BinaryIO, self._fs.open(self.uri(name), "rb"))

    def read(self, name: str) -> bytes:
        with self._named(name):
            return cast(bytes, self._fs.cat_file(self.uri(name)))

    def put_new(self, name: str, data: bytes) -> bool:
        with self._named(name):
            try:
                self._put(name, data, IfNoneMatch="*")
            except OSError as error:
                if _s3_code(error) in ("PreconditionFailed", "412"):
                    return False
                if _s3_code(error) in ("ConditionalRequestConflict", "409"):
                    return not self.exists(name) and self.put_new(name, data)
                raise
        return True

    def put(self, name: str, data: bytes) -> None:
        with self._named(name):
            self._put(name, data)

    def delete(self, name: str) -> None:
        with self._named(name), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self.uri(name))

    def _put(self, name: str, data: bytes, **condition: str) -> None:
        bucket, _, key = self.uri(name).removeprefix("s3://").partition("/")
        md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        try:
            self._fs.call_s3("put_object", Bucket=bucket, Key=key, Body=data, ContentMD5=md5, **condition)
        except FileNotFoundError as error:
            if _NO_BUCKET in str(error):
                raise
            fix = "check that storage.endpoint_url is an S3 endpoint and that the bucket exists"
            raise StorageError(f"{self.uri(name)}: the endpoint answers 404 to a write; {fix}") from error

    @contextlib.contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """Turn what s3fs and botocore raise into one line with the URI; a missing object stays FileNotFoundError."""
        try:
            yield
        except StorageError:
            raise
        except Exception as error:  # botocore's errors share no base class with the network's
            if isinstance(error, FileNotFoundError) and _NO_BUCKET not in str(error):
                raise FileNotFoundError(errno.ENOENT, "no such object", self.uri(name)) from error
            raise StorageError(f"{self.uri(name)}: {_s3_advice(error)}") from error


def _s3_code(error: BaseException) -> str:
    """The S3 error code behind the OSError that s3fs raises."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _s3_advice(error: Exception) -> str:
    name, text = type(error).__name__, " ".join(str(error).split())
    if name == "NoCredentialsError":
        return "no AWS credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role"
    if isinstance(error, FileNotFoundError):
        return "the bucket does not exist; create it or correct run.dir"
    if isinstance(error, PermissionError):
        return f"access denied ({text}); check the credentials and the bucket policy"
    if name in ("EndpointConnectionError", "ConnectTimeoutError", "ClientConnectorError"):
        return f"the object store cannot be reached ({text}); check storage.endpoint_url and the network"
    return f"{name}: {text}"


def open_store(path: str, config: configuration.StorageConfig | None = None) -> Store:
    """The store behind a path, file:// or s3:// URL.

    Raises:
        ConfigError: another scheme, or a relative path inside a submitted Ray job.
    """
    config = config or configuration.StorageConfig()
    parts = urlsplit(path)
    if parts.scheme == "s3":
        if not parts.netloc:
            raise configuration.ConfigError(f"{path}: names no bucket; write s3://bucket/prefix")
        return S3Store(path.rstrip("/"), config.endpoint_url, config.region, config.addressing_style)
    if parts.scheme not in ("", "file"):
        raise configuration.ConfigError(
            f"{path}: scheme {parts.scheme!r} is not supported; use a path, file:// or s3://"
        )
    return LocalStore(configuration.local_path(parts.path if parts.scheme else path))
