"""HTTP to an S3 server with bounds: in time, in bytes, and to the server that was asked."""

import asyncio
import functools
import re
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession

from hyperface.reading.one_line import one_line
from hyperface.storage.answers import BadAnswer

SLOWEST_BYTES_S = 500_000
"""Slowest transfer in bytes per second: a slower one is not believed to go on."""
LARGEST_ANSWER = 8 * 2**20
"""Most bytes of an answer that is no object: a page of a listing has 4 MB at most."""
REGION = "x-amz-bucket-region"


@functools.cache
def aws() -> AioSession:
    """The one of this process, with botocore's descriptions of S3 and of all its endpoints: a new one reads them again,
    for a tenth of a second."""
    return AioSession()


class Session(AIOHTTPSession):  # type: ignore[misc] # aiobotocore is untyped
    """A way for aiobotocore to send requests; its own reads whatever comes, as long as a byte comes now and then."""

    def __init__(self, *, timeout: tuple[float, float], **given: Any) -> None:
        super().__init__(timeout=timeout, **given)
        self._connect_s, self._answer_s = timeout

    async def _get_session(self, proxy_url: str | None) -> Any:
        # Followed, a redirect would lose its signature on the way, and take our bytes to another server.
        session = await super()._get_session(proxy_url)
        return SimpleNamespace(request=partial(session.request, allow_redirects=False))

    async def send(self, request: Any) -> Any:
        is_object, request.stream_output = request.stream_output, True  # that is: read nothing yet
        # The time without a byte is not counted while a body is on its way to a server that stopped reading.
        limit = self._connect_s + self._answer_s + int(request.headers.get("Content-Length", 0)) / SLOWEST_BYTES_S
        response = await asyncio.wait_for(super().send(request), limit)
        if not is_object or response.status_code >= 300:
            response._content = await whole(response.raw, self._answer_s, LARGEST_ANSWER)
        if 300 <= response.status_code < 400 and REGION not in response.headers:
            raise BadAnswer(*_elsewhere(response))
        return response


async def whole(response: Any, answer_s: float, at_most: int) -> bytes:
    """The body of an answer of aiohttp.

    Args:
        answer_s: seconds that it may take, besides one for each SLOWEST_BYTES_S that came.

    Raises:
        BadAnswer: it has more bytes.
        TimeoutError: it drips.
    """
    began, size, parts = time.monotonic(), 0, []
    try:
        # HEAD is answered with the length of the object.
        claimed = 0 if response.method == "HEAD" else response.content_length or 0
        if claimed > at_most:
            raise BadAnswer(f"{claimed} bytes where at most {at_most} belong")
        async for part in response.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > at_most:
                raise BadAnswer(f"over {at_most} bytes, without an end")
            if (took := time.monotonic() - began) > answer_s + size / SLOWEST_BYTES_S:
                raise TimeoutError(f"only {size} bytes of the answer came in {took:.0f} s")
    finally:
        response.close()  # read to its end, the connection went back before
    return b"".join(parts)


def _elsewhere(response: Any) -> tuple[str, str]:
    """Return the place that a redirect names, in words, and the fix."""
    named = re.search(rb"<Endpoint>([^<]{1,200})</Endpoint>", response._content)
    place = response.headers.get("location") or (named[1].decode(errors="replace") if named else "")
    towards = f", to {one_line(place)}" if place else ""
    return f"a redirect (HTTP {response.status_code}{towards})", (
        "set storage.region, or storage.endpoint_url, to where the bucket is"
    )
