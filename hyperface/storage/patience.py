"""Which failures of an S3 server pass by themselves, and how long they are waited for."""

import re
import time
from collections.abc import Callable, Iterator
from secrets import SystemRandom
from typing import Any, TypeVar

from hyperface.storage.store import StorageError

FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 5.0
"""Between two attempts; a server that is back is noticed as late as that."""

PASSING_CODES = {
    "SlowDown",
    "RequestTimeout",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "BadDigest",  # damaged on the way: Content-MD5 does not fit
    "XAmzContentSHA256Mismatch",
    "ConditionalRequestConflict",  # two conditional writes of one name at once: the next attempt tells who won
    "OperationAborted",
}
CUT_OFF = {"ConnectionError", "TimeoutError", "HTTPClientError", "ClientError", "ResponseParserError"}
"""By name: of Python, botocore and aiohttp, which have no base class in common."""
TAKEN_CODES = {"PreconditionFailed", "412"}

T = TypeVar("T")


def patiently(uri: str, call: Callable[[], T], seconds: float, unreachable_s: float | None = None) -> T:
    """The result of `call`, tried again while what fails may pass: unreachable, reset, timed out, 5xx, slow down.

    Args:
        seconds: from the first failure to giving up.
        unreachable_s: the same, while no server answers at all.

    Raises:
        StorageError: it did not pass in time; names URI, cause and fix. Any other error of `call` is raised at once.
    """
    began, wait = None, FIRST_WAIT_S
    while True:
        try:
            return call()
        except Exception as error:  # `passes` knows which of the network's many errors to wait for; the others go up
            if not passes(error):
                raise
            now = time.monotonic()
            began = now if began is None else began
            allowed = seconds if response(error) or unreachable_s is None else unreachable_s
            if now - began + wait > allowed:
                raise StorageError(f"{uri}: {_gave_up(error, now - began, allowed)}") from error
        # Shortened at random, so that many workers do not come back in the same instant.
        time.sleep(wait * SystemRandom().uniform(0.5, 1))
        wait = min(2 * wait, LONGEST_WAIT_S)


def passes(error: BaseException) -> bool:
    """Whether a later attempt may succeed."""
    if isinstance(error, StorageError):
        return False
    if response(error):
        status = response(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return code(error) in PASSING_CODES or (status >= 500 and status != 501) or status in (408, 429)
    # A certificate that is refused stays refused, though botocore calls it a broken connection.
    kinds = {kind.__name__ for each in _chain(error) for kind in type(each).__mro__}
    return bool(kinds & CUT_OFF) and "SSLError" not in kinds


def code(error: BaseException) -> str:
    """The S3 error code behind an error that s3fs raises; empty when no server answered."""
    return str(response(error).get("Error", {}).get("Code", ""))


def response(error: BaseException) -> dict[str, Any]:
    """The server's answer behind an error; empty when none came."""
    for each in _chain(error):
        if found := getattr(each, "response", None):
            return dict(found)
    return {}


def advice(error: BaseException) -> str:
    """What happened and what to do, in one line."""
    name, said = type(error).__name__, _said(error)
    if any(type(each).__name__ == "NoCredentialsError" for each in _chain(error)):
        return "no AWS credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role"
    if code(error) == "NoSuchBucket":
        return "the bucket does not exist; create it or correct run.dir"
    if isinstance(error, PermissionError):
        return f"access denied ({said}); check the credentials and the bucket policy"
    if passes(error):
        return f"{_cause(error)}; check storage.endpoint_url and the network"
    return f"{name}: {said}"


def _gave_up(error: BaseException, after: float, allowed: float) -> str:
    fix = "check storage.endpoint_url and the network"
    if allowed > LONGEST_WAIT_S:
        fix += ", or raise storage.patience_s; what is committed stays, and the same command goes on from there"
    return f"{_cause(error)}, and still after {after:.0f} s of trying again; {fix}"


def _cause(error: BaseException) -> str:
    if code(error):
        return f"the object store answers {code(error)} ({_said(error)})"
    return f"the object store cannot be reached ({_said(error)})"


def _said(error: BaseException) -> str:
    """The outermost text in one line, without credentials that somebody wrote into an endpoint."""
    texts = [" ".join(str(each).split()) for each in _chain(error)]
    said = next((text for text in texts if text not in ("", "None")), "")
    if not said:
        return "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
    return re.sub(r"//[^/@\s]*@", "//", said)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__
