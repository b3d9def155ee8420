"""Patience with the failures of an S3 server that pass by themselves: which they are, and how long they are waited
for."""

import time
from collections.abc import Callable
from secrets import SystemRandom
from typing import TypeVar

from hyperface.errors import StorageError
from hyperface.storage import refusals

FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 5.0
"""Longest time between two attempts, in seconds; a server that is back is noticed as late as that."""

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
"""Names of errors of Python, botocore and aiohttp, which have no base class in common."""
TAKEN_CODES = {"PreconditionFailed", "412"}

T = TypeVar("T")


def patiently(uri: str, call: Callable[[], T], seconds: float, unreachable_s: float | None = None) -> T:
    """The result of `call`, tried again while what fails may pass: unreachable, reset, timed out, 5xx, slow down.

    Args:
        seconds: time from the first failure to giving up.
        unreachable_s: time to giving up while no server answers at all.

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
            allowed = seconds if refusals.response(error) or unreachable_s is None else unreachable_s
            if now - began + wait > allowed:
                raise StorageError(f"{uri}: {_gave_up(error, now - began, allowed)}") from error
        # Shortened at random, so that many workers do not come back in the same instant.
        time.sleep(wait * SystemRandom().uniform(0.5, 1))
        wait = min(2 * wait, LONGEST_WAIT_S)


def passes(error: BaseException) -> bool:
    """Return whether a later attempt may succeed."""
    if isinstance(error, StorageError):
        return False
    if refusals.response(error):
        status = refusals.status(error)
        return refusals.code(error) in PASSING_CODES or (status >= 500 and status != 501) or status in (408, 429)
    # A certificate that is refused stays refused, though botocore calls it a broken connection.
    kinds = refusals.kinds(error)
    return bool(kinds & CUT_OFF) and "SSLError" not in kinds


def _gave_up(error: BaseException, after: float, allowed: float) -> str:
    fix = "check storage.endpoint_url and the network"
    if allowed > LONGEST_WAIT_S:
        fix += f", or raise storage.patience_s; {refusals.GOES_ON}"
    return f"{refusals.cause(error)}, and still after {after:.0f} s of trying again; {fix}"
