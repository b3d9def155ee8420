"""Answers, byte by byte, for `FaultProxy.say` to give in place of an S3 server's."""

from collections import Counter
from collections.abc import Callable, Sequence

from fault_proxy import Request

ENDLESS = b"Transfer-Encoding: chunked\r\n\r\n"
"""The end of headers, before chunks without an end."""
DRIP = b"1\r\n \r\n"
FLOOD = b"10000\r\n" + b" " * 65536 + b"\r\n"
ETAG = 'ETag: "0cc175b9c0f1b6a831c399e269772661"'
HTML = b"<html><body>Please sign in</body></html>"


def http(status: str, body: bytes = b"", *headers: str, sized: bool = True) -> bytes:
    """One answer, after which the connection ends.

    Args:
        sized: whether it says how long it is.
    """
    lines = [f"HTTP/1.1 {status}", *headers, *([f"Content-Length: {len(body)}"] if sized else []), "Connection: close"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def head(*headers: str) -> bytes:
    """An answer to HEAD, which has no body whatever its headers say."""
    return http("200 OK", b"", *headers, sized=False)


def listing(*keys: str, size: object = 1, goes_on: bool = False, token: str = "") -> bytes:
    """A page of a listing of the prefix `run/`."""
    entries = "".join(f"<Contents><Key>{key}</Key><Size>{size}</Size></Contents>" for key in keys)
    more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    told = f"<Name>bucket</Name><Prefix>run/</Prefix><IsTruncated>{str(goes_on).lower()}</IsTruncated>"
    return http("200 OK", f"<ListBucketResult>{told}{more}{entries}</ListBucketResult>".encode())


def error(status: str, code: str, *headers: str, more: str = "") -> bytes:
    """A refusal with its reason."""
    text = f"<Error><Code>{code}</Code><Message>as the test asks</Message>{more}</Error>"
    return http(status, text.encode(), *headers)


def by_method(**answers: bytes) -> Callable[[Request], bytes]:
    """An answer for each method."""
    return lambda request: answers[request.method]


def bucket(names: Sequence[str], data: bytes, asked: Counter[str]) -> Callable[[Request], bytes]:
    """A sound server of many objects with the same bytes, which counts what it is asked for."""

    def answer(request: Request) -> bytes:
        if "list-type" not in request.path:
            asked[request.method] += 1
            return http("200 OK", data, ETAG)
        asked["LIST"] += 1
        at = int(request.path.partition("continuation-token=")[2].partition("&")[0] or 0)
        more = at + 1000
        return listing(*names[at:more], goes_on=more < len(names), token=str(more))

    return answer


def pages(names_each: int, *, same_token: bool = False, same_names: bool = False) -> Callable[[Request], bytes]:
    """A listing that goes on for ever."""
    given = 0

    def page(request: Request) -> bytes:
        nonlocal given
        given += 1
        first = 0 if same_names else given * names_each
        names = [f"run/{at:09d}" for at in range(first, first + names_each)]
        return listing(*names, goes_on=True, token="t" if same_token else f"t{given}")

    return page
