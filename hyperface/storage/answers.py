"""Answers that S3 servers may give. Anything else is refused: believed, an empty page would be a folder of nobody."""

from collections.abc import Callable, Mapping
from typing import Any

from hyperface.storage.store import Stat

MOST_NAMES = 20_000_000
"""Most names in one listing."""
SPARSE_PAGES, FEWEST_NAMES = 1000, 10
"""Short pages that a server may give, which passes over what it keeps for itself, and the names that every further page
must add on average."""

Answer = Mapping[str, Any]
"""An answer as botocore reads it."""


class BadAnswer(Exception):
    """An answer that no S3 server gives. The message says what came, and the fix."""

    def __init__(self, what: str, fix: str = "check storage.endpoint_url, and the proxies before it") -> None:
        super().__init__(f"the object store answers {what}; {fix}")


def listing(ask: Callable[[str], Answer], folder: str) -> dict[str, int]:
    """Return {key after the folder: size} of all pages.

    Args:
        ask: returns the page that begins at a token, as `page` gives it; the first token is empty.
    """
    sizes: dict[str, int] = {}
    tokens = {""}
    token = ""
    while True:
        found = ask(token)
        for entry in found.get("Contents", []):
            key = entry["Key"].removeprefix(folder)
            if key in sizes:
                raise BadAnswer(f"a listing that names {key!r} twice")
            sizes[key] = entry["Size"]
        if not found["IsTruncated"]:
            return sizes
        token = found.get("NextContinuationToken", "")
        if token in tokens:
            raise BadAnswer("a listing that does not say how it goes on, or comes back to where it was")
        tokens.add(token)
        if len(sizes) < FEWEST_NAMES * (len(tokens) - SPARSE_PAGES):
            raise BadAnswer(f"a listing without end: {len(tokens) - 1} pages of only {len(sizes)} names")
        if len(sizes) > MOST_NAMES:
            raise BadAnswer(f"a listing of over {MOST_NAMES} names", "choose a narrower prefix, or pack files together")


def page(found: Answer, prefix: str) -> Answer:
    """One page of a listing, which says whether it is the last: an empty or a foreign text does not."""
    if "IsTruncated" not in found:
        raise BadAnswer(f"no listing ({_kind(found)})")
    for entry in found.get("Contents", []):
        key, size = entry.get("Key"), entry.get("Size", -1)
        if key is None or not key.startswith(prefix):
            raise BadAnswer(f"a listing of {prefix!r} that names {key!r}")
        if size < 0:
            raise BadAnswer(f"a listing that gives {key!r} no size" + (f" but {size}" if "Size" in entry else ""))
    for folder in found.get("CommonPrefixes", []):
        if not folder.get("Prefix", "").startswith(prefix):
            raise BadAnswer(f"a listing of {prefix!r} that names the folder {folder.get('Prefix')!r}")
    return found


def stat(found: Answer) -> Stat:
    """The size and the ETag of an object, from the answer to HEAD."""
    for field in ("ETag", "ContentLength"):
        if field not in found:
            raise BadAnswer(f"no {field} to HEAD ({_kind(found)})")
    return Stat(int(found["ContentLength"]), etag(found))


def etag(found: Answer) -> str:
    """The ETag of an answer that was seen to have one, without its quotes."""
    return str(found["ETag"]).strip('"')


def body(found: Answer, data: bytes, start: int, end: int | None) -> bytes:
    """The bytes of GET, from `start` to before `end`: all of them, and no others."""
    if "ETag" not in found:
        raise BadAnswer(f"no object ({_kind(found)})")
    length = found.get("ContentLength")
    if length is None and "chunked" not in _headers(found).get("transfer-encoding", ""):
        raise BadAnswer(f"an object without its length ({_kind(found)})")
    wanted = length if end is None else end - start
    if wanted is not None and len(data) != wanted:
        raise BadAnswer(f"{len(data)} of {wanted} bytes", "it was replaced meanwhile, or the server is damaged")
    place = found.get("ContentRange", "")
    if start and not place.startswith(f"bytes {start}-"):
        raise BadAnswer(f"{place or 'all'} where bytes {start} to {end} were asked for")
    return data


def written(found: Answer) -> None:
    """Check the answer to PUT, which has the ETag of what is kept."""
    if "ETag" not in found:
        raise BadAnswer(f"no ETag to PUT ({_kind(found)}): nothing says that it keeps the bytes")


def removed(found: Answer) -> None:
    """Check the answer to DELETE, which is empty."""
    if _status(found) != 204 and _headers(found).get("content-length") != "0":
        raise BadAnswer(f"a text to DELETE ({_kind(found)})")


def _kind(found: Answer) -> str:
    kind = _headers(found).get("content-type") or ("a text" if found.get("ContentLength") else "nothing more")
    return f"HTTP {_status(found)}, {kind[:80]}"


def _status(found: Answer) -> int:
    return int(found.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _headers(found: Answer) -> dict[str, str]:
    return dict(found.get("ResponseMetadata", {}).get("HTTPHeaders", {}))
