"""A prefix in a bucket of any S3 server. Only home of s3fs, which lists and reads; a write is one PUT.

Endpoint, region and credentials that the configuration does not give come from the standard AWS chain; credentials
come from nowhere else, and are never seen by this code.
"""

import base64
import contextlib
import errno
import hashlib
import io
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, BinaryIO, Self, TypeVar, cast

from hyperface.errors import StorageError
from hyperface.storage import answers, patience, refusals
from hyperface.storage.store import LARGEST_OBJECT, LARGEST_TEXT, NAMES, Stat, Store

T = TypeVar("T")

CONNECT_S = 5.0
FIRST_CONTACT_S = 4.0
"""Seconds for which a job asks a server that does not answer; afterwards `storage.patience_s` counts."""
READ_BUFFER_BYTES = 4 * 2**20
PROBE = "_probe-"
"""Beginning of the names that are written to find out what a server can do."""
PROBE_LASTS_S = 3600.0
"""Seconds, more than a probe may still be in use by another job that begins."""
NO_CONDITIONS = {400, 405, 501}
"""Status codes with which servers answer a header If-None-Match that they do not know."""


@dataclass(frozen=True)
class S3Store(Store):
    endpoint_url: str = ""
    region: str = ""
    addressing_style: str = "auto"
    patience_s: float = 120.0
    """Seconds for which a request is tried again while the server is away or answers with an error of its own."""
    answer_s: float = 60.0
    """Seconds without a byte, and seconds of an answer that only drips, after which a request is believed lost."""
    conditional: bool = True
    """True where the server honours `If-None-Match: *`; see `prepared`."""

    @cached_property
    def _fs(self) -> Any:
        import s3fs  # a second of import that local runs do not need

        from hyperface.storage.bounded import Session, aws

        # Gateways other than AWS's refuse the checksum trailers that botocore sends unasked.
        os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "WHEN_REQUIRED")
        # botocore itself knows AWS_DEFAULT_REGION, but not the name that AWS's other tools use.
        region = self.region or os.environ.get("AWS_REGION", "")
        client = {k: v for k, v in {"endpoint_url": self.endpoint_url, "region_name": region}.items() if v}
        settings = {
            "s3": {"addressing_style": self.addressing_style},
            "connect_timeout": CONNECT_S,
            "read_timeout": self.answer_s,
            # `patience` tries again, and nothing beneath it: attempts within attempts would multiply.
            "retries": {"mode": "standard", "total_max_attempts": 1},
            "http_session_cls": Session,
        }
        fs = s3fs.S3FileSystem(
            session=aws(), client_kwargs=client, config_kwargs=settings, use_listings_cache=False, max_concurrency=1
        )
        fs.retries = 1
        return fs

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_fs"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def list(self, prefix: str = "") -> dict[str, int]:
        folder = f"{self._key(prefix)}/".lstrip("/")

        def ask(token: str) -> answers.Answer:
            more = {"ContinuationToken": token} if token else {}
            return self._patiently(prefix, lambda: self._page(folder, **more))

        with self._named(prefix):
            found = answers.listing(ask, folder)
        sizes = {f"{prefix}/{key}" if prefix else key: size for key, size in sorted(found.items())}
        # Consoles make an empty object `folder/` for a folder.
        return {name: size for name, size in sizes.items() if name and not name.endswith("/")}

    def names(self) -> tuple[str, ...]:
        found = self._patiently("", lambda: self._page(self._folder, Delimiter="/", MaxKeys=NAMES))
        keys = [entry["Key"] for entry in found.get("Contents", [])]
        keys += [entry["Prefix"] for entry in found.get("CommonPrefixes", [])]
        return tuple(sorted(name for key in keys if (name := key.removeprefix(self._folder))))

    def stat(self, name: str) -> Stat | None:
        try:
            head = self._head(name)
        except FileNotFoundError:
            # The answer to HEAD has no body: a bucket that is gone looks like an object that is not there.
            self._patiently(name, self._glance)
            return None
        with self._named(name):
            return answers.stat(head)

    def open(self, name: str) -> BinaryIO:
        found = self.stat(name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "no such object", self.uri(name))
        return cast(BinaryIO, io.BufferedReader(_Ranges(self, name, found), READ_BUFFER_BYTES))

    def read(self, name: str) -> bytes:
        return self._looked_at(name, lambda: self._get(name))[0]

    def read_range(self, name: str, start: int, end: int, etag: str) -> bytes:
        """The bytes from `start` to before `end` of what was seen as an object with that ETag."""
        data, now = self._looked_at(name, lambda: self._get(name, start, end))
        if now != etag:
            fix = "two jobs may be writing it; give the command again"
            raise StorageError(f"{self.uri(name)}: was replaced while it was read; {fix}")
        return data

    def put_new(self, name: str, data: bytes) -> bool:
        if not self.conditional:
            if self.exists(name):
                return False
            self.put(name, data)
            return self.holds(name, data)
        # Whose object it is that refuses ours: an earlier attempt, also one of the network library's own, may have
        # written it and lost the answer.
        writer = {"writer": uuid.uuid4().hex}

        def attempt() -> bool:
            try:
                self._put(name, data, IfNoneMatch="*", Metadata=writer)
            except OSError as error:
                if refusals.code(error) not in patience.TAKEN_CODES:
                    raise
                return bool(self._head(name)["Metadata"] == writer)
            return True

        for _ in range(2):  # it may have been removed between the two requests
            with contextlib.suppress(FileNotFoundError):
                return self._patiently(name, attempt)
        raise StorageError(f"{self.uri(name)}: {answers.BadAnswer('that the name is taken, and that it is not there')}")

    def put(self, name: str, data: bytes) -> None:
        self._patiently(name, lambda: self._put(name, data))

    def delete(self, name: str) -> None:
        self._patiently(name, lambda: answers.removed(self._call("delete_object", name)))

    def holds(self, name: str, data: bytes) -> bool:
        found = self.stat(name)
        if found is None or found.bytes != len(data):
            return False
        # An ETag is the MD5 of what one PUT wrote, but not on every server and not with every encryption.
        same = found.etag == hashlib.md5(data, usedforsecurity=False).hexdigest()
        return same or self.read(name) == data

    def reach(self) -> None:
        self._patiently("", lambda: self._glance(FIRST_CONTACT_S), unreachable_s=FIRST_CONTACT_S)

    def hasty(self, patience_s: float, answer_s: float) -> Self:
        """See `Store.hasty`."""
        return replace(self, patience_s=min(self.patience_s, patience_s), answer_s=min(self.answer_s, answer_s))

    def prepared(self) -> Self:
        """See `Store.prepared`. Two writes of one name tell whether the server lets the first one win."""
        self.reach()
        self._advise_on_uploads()
        for left in self._probes():  # of a job that was killed
            self.delete(left)
        name = f"{PROBE}{uuid.uuid4().hex}"
        try:
            try:
                honoured = self.put_new(name, b"1") and not self.put_new(name, b"2")
            except StorageError as error:
                status = refusals.status(error)
                if status not in NO_CONDITIONS:
                    raise
                self.put(name, b"1")
                honoured = False
        finally:
            self.delete(name)
        if honoured:
            return self
        print(f"storage: {self.url} does not honour If-None-Match: one job at a time may write this run", flush=True)
        return replace(self, conditional=False)

    @property
    def one_writer_wins(self) -> bool:
        return self.conditional

    @property
    def _bucket(self) -> str:
        return self.url.removeprefix("s3://").partition("/")[0]

    @property
    def _folder(self) -> str:
        """Return the beginning of the keys of everything in here."""
        return f"{self._key('')}/".lstrip("/")

    def _key(self, name: str) -> str:
        return self.uri(name).removeprefix("s3://").partition("/")[2]

    def _call(self, method: str, name: str, **arguments: Any) -> Any:
        return self._fs.call_s3(method, Bucket=self._bucket, Key=self._key(name), **arguments)

    def _glance(self, seconds: float | None = None) -> None:
        """Send the smallest request that shows whether the bucket is there; in the prefix, for narrow policies."""
        self._page(self._folder, MaxKeys=1, timeout=seconds)

    def _page(self, prefix: str, **more: Any) -> answers.Answer:
        """The first names of those that begin with the prefix, or those after a token."""
        found = self._fs.call_s3("list_objects_v2", Bucket=self._bucket, Prefix=prefix, **more)
        return answers.page(found, prefix)

    def _probes(self) -> Iterable[str]:
        """The names of probes that nobody uses any more."""
        found = self._patiently("", lambda: self._page(f"{self._folder}{PROBE}"))
        now = datetime.now(UTC)
        for entry in found.get("Contents", []):
            age = now - entry.get("LastModified", now)
            if age.total_seconds() > PROBE_LASTS_S:
                yield entry["Key"].removeprefix(self._folder)

    def _head(self, name: str) -> Any:
        return self._looked_at(name, lambda: self._call("head_object", name))

    def _looked_at(self, name: str, call: Callable[[], T]) -> T:
        """Do what `_patiently` does, for requests that read one object.

        An answer to HEAD has no body, and may say no more than a number: the listing shows what it stands for. AWS
        answers that access is denied, where there is no such object, to those who may list a prefix only.
        """
        try:
            return self._patiently(name, call)
        except StorageError as error:
            cause = error.__cause__
            is_denied = isinstance(cause, PermissionError)
            is_bare = cause is not None and refusals.code(cause) in refusals.NUMBERS_ONLY
            if (is_denied or is_bare) and not self._is_listed(name) and is_denied:
                raise FileNotFoundError(errno.ENOENT, "no such object", self.uri(name)) from error
            raise

    def _is_listed(self, name: str) -> bool:
        key = self._key(name)
        found = self._patiently(name, lambda: self._page(key, MaxKeys=1))
        return any(entry["Key"] == key for entry in found.get("Contents", []))

    def _get(self, name: str, start: int = 0, end: int | None = None) -> tuple[bytes, str]:
        """Return (bytes, ETag) of an object, or of a part of it."""
        from fsspec.asyn import sync

        from hyperface.storage.bounded import whole

        part = {} if end is None else {"Range": f"bytes={start}-{end - 1}"}

        async def ask() -> tuple[bytes, str]:
            found = await self._fs._call_s3("get_object", Bucket=self._bucket, Key=self._key(name), **part)
            length = found.get("ContentLength")
            most = LARGEST_TEXT if length is None else length
            with contextlib.closing(found["Body"]) as body:
                self.refuse_large(name, length or 0)
                data = await whole(body.raw_stream, self.answer_s, most if end is None else end - start)
            return answers.body(found, data, start, end), answers.etag(found)

        return cast(tuple[bytes, str], sync(self._fs.loop, ask))

    def _put(self, name: str, data: bytes, **condition: Any) -> None:
        if len(data) > LARGEST_OBJECT:
            raise StorageError(
                f"{self.uri(name)}: has {len(data)} bytes; S3 takes {LARGEST_OBJECT} in one PUT; write smaller files"
            )
        md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        try:
            answers.written(self._call("put_object", name, Body=data, ContentMD5=md5, **condition))
        except FileNotFoundError as error:
            if refusals.code(error) == "NoSuchBucket":
                raise
            fix = "check that storage.endpoint_url is an S3 endpoint and that the bucket exists"
            raise StorageError(f"{self.uri(name)}: the endpoint answers 404 to a write; {fix}") from error

    def _patiently(self, name: str, call: Callable[[], T], unreachable_s: float | None = None) -> T:
        """Call, be patient, and make what s3fs and botocore raise one line with the URI.

        A missing object stays FileNotFoundError.
        """
        try:
            return patience.patiently(self.uri(name), call, self.patience_s, unreachable_s)
        except StorageError:
            raise
        except answers.BadAnswer as error:
            raise StorageError(f"{self.uri(name)}: {error}") from error
        except Exception as error:  # botocore's errors share no base class with the network's
            if isinstance(error, FileNotFoundError) and refusals.code(error) != "NoSuchBucket":
                raise FileNotFoundError(errno.ENOENT, "no such object", self.uri(name)) from error
            raise StorageError(f"{self.uri(name)}: {refusals.advice(error)}") from error

    @contextlib.contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """Name the object in an error about an answer that came."""
        try:
            yield
        except answers.BadAnswer as error:
            raise StorageError(f"{self.uri(name)}: {error}") from error

    def _advise_on_uploads(self) -> None:
        """Print one line when parts of uploads that never ended lie under the prefix: paid for, and in no listing.

        Ours are single PUTs: they come from other tools, or from another version of this one.
        """
        try:
            found = self._fs.call_s3("list_multipart_uploads", Bucket=self._bucket, Prefix=self._folder)
        except Exception:  # many stores forbid it, each with an error of its own; lost is one line of advice
            return
        if uploads := found.get("Uploads"):
            print(
                f"storage: {self.url} has {len(uploads)} unfinished multipart uploads, whose parts are stored and paid "
                "for; a lifecycle rule that aborts them is in infra/README.md",
                flush=True,
            )


class _Ranges(io.RawIOBase):
    """An object as a seekable file; each read is a request of its own, with the store's patience."""

    def __init__(self, store: S3Store, name: str, found: Stat) -> None:
        super().__init__()
        self._store, self._name, self._found, self._at = store, name, found, 0

    @property
    def _size(self) -> int:
        return self._found.bytes

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readall(self) -> bytes:
        """Read the rest in one request; Python's own would ask for 8 KB at a time."""
        data = self._read(self._size) if self._at < self._size else b""
        self._at += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        end = min(self._at + len(view), self._size)
        if self._at >= end:
            return 0
        data = self._read(end)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _read(self, end: int) -> bytes:
        return self._store.read_range(self._name, self._at, end, self._found.etag)
