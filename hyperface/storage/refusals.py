"""Translation of the refusals of an S3 server, or of the way to it: in one line, with the fix."""

from collections.abc import Iterator
from typing import Any

from hyperface.reading.one_line import one_line

GOES_ON = "what is committed stays, and the same command goes on from there"
NUMBERS_ONLY = {"301", "307", "400", "403"}
"""Codes that botocore makes of an answer without a body, as HEAD's are: another request may show why."""

_EXPIRED = ("refuses the credentials, which may have expired or been taken back", f"renew them: {GOES_ON}")
_ELSEWHERE = ("says that the bucket is elsewhere", "set storage.region, or storage.endpoint_url, to where it is")
MEANT = {
    "RequestTimeTooSkewed": ("finds the clock of this machine wrong", "set it"),
    **dict.fromkeys(
        (
            *("401", "Unauthorized", "AuthFailure", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSecurity"),
            *("ExpiredToken", "ExpiredTokenException", "InvalidToken", "RequestExpired", "TokenRefreshRequired"),
            "UserSuspended",  # of Ceph's gateway
        ),
        _EXPIRED,
    ),
    **dict.fromkeys(
        ("301", "307", "AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect"), _ELSEWHERE
    ),
}
"""Meaning of the code of an answer: what the server does, and the fix."""
WITHOUT_ANSWER = {
    "NoCredentialsError": (
        "no AWS credentials found",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role",
    ),
    **dict.fromkeys(
        (
            *("CredentialRetrievalError", "PartialCredentialsError", "RefreshWithMFAUnsupportedError"),
            *("SSOError", "TokenRetrievalError"),
        ),
        ("no AWS credentials can be had", f"renew them: {GOES_ON}"),
    ),
}
"""Cause and fix, by the name of botocore's error."""


def advice(error: BaseException) -> str:
    """The cause in words, and the fix."""
    given = code(error)
    for kind in kinds(error) & WITHOUT_ANSWER.keys():
        what, fix = WITHOUT_ANSWER[kind]
        return f"{what} ({_said(error)}); {fix}" if kind != "NoCredentialsError" else f"{what}; {fix}"
    if given in MEANT:
        what, fix = MEANT[given]
        return f"the object store {what} ({_quoted(error)}); {fix}"
    if given == "NoSuchBucket":
        return "the bucket does not exist; create it or correct its name"
    if isinstance(error, PermissionError):
        return f"access denied ({_said(error)}); check the credentials and the bucket policy"
    if response(error):
        return f"{cause(error)}; check storage.endpoint_url, and the proxies before it"
    return f"{type(error).__name__}: {_said(error)}; is storage.endpoint_url that of an S3 server?"


def cause(error: BaseException) -> str:
    """The cause in words."""
    if response(error):
        return f"the object store answers {_quoted(error)}"
    if type(error).__name__ == "HTTPClientError":  # what aiobotocore makes of an answer that cannot be read
        return f"the object store answers no sound HTTP ({_said(error)})"
    return f"the object store cannot be reached ({_said(error)})"


def code(error: BaseException) -> str:
    """The S3 error code behind an error that s3fs raises; empty when no server answered."""
    return str(response(error).get("Error", {}).get("Code", ""))


def status(error: BaseException) -> int:
    """The number of the server's answer; 0 when none came."""
    return int(response(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def response(error: BaseException) -> dict[str, Any]:
    """The server's answer behind an error; empty when none came."""
    for each in _chain(error):
        if found := getattr(each, "response", None):
            return dict(found)
    return {}


def kinds(error: BaseException) -> set[str]:
    """The names of the classes of an error and of what lies behind it."""
    return {kind.__name__ for each in _chain(error) for kind in type(each).__mro__}


def _quoted(error: BaseException) -> str:
    """The server's code and words, and the region that it names."""
    answer = response(error)
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = headers.get("x-amz-bucket-region") or answer.get("Error", {}).get("Region", "")
    words = ", ".join(word for word in (str(answer.get("Error", {}).get("Message") or ""), str(region)) if word)
    name = one_line(code(error) or f"HTTP {status(error)}")
    return f"{name} ({one_line(words)})" if words else name


def _said(error: BaseException) -> str:
    """The server's words, or the outermost text that says something."""
    texts = [response(error).get("Error", {}).get("Message", ""), *_chain(error)]
    said = next((each for each in texts if str(each).strip() not in ("", "None")), None)
    return one_line(said or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__
