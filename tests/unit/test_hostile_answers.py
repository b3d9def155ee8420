"""An S3 server, or what answers in its place, that says nonsense, too little, too much or for ever."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fault_proxy import FaultProxy, Request, fault_proxy
from hostile_s3 import DRIP, ENDLESS, ETAG, FLOOD, HTML, by_method, error, head, http, listing, pages
from object_store import CREDENTIALS

from hyperface.config import StorageConfig
from hyperface.errors import StorageError
from hyperface.storage import LocalStore, S3Store, answers, bounded, open_store, s3
from hyperface.storage import store as places

NOBODY = "http://127.0.0.1:1"
REGION = "x-amz-bucket-region: eu-west-1"


@pytest.fixture(scope="module")
def hostile() -> Iterator[tuple[FaultProxy, S3Store]]:
    """Everything is said by the test; the store is made once, as its client takes half a second."""
    with pytest.MonkeyPatch.context() as patch, fault_proxy(NOBODY) as proxy:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield proxy, S3Store("s3://bucket/run", proxy.url, addressing_style="path", patience_s=0, answer_s=0.3)


@pytest.fixture
def proxy(hostile: tuple[FaultProxy, S3Store]) -> FaultProxy:
    hostile[0].heal()
    return hostile[0]


@pytest.fixture
def store(hostile: tuple[FaultProxy, S3Store]) -> S3Store:
    return hostile[1]


VERBS: dict[str, Callable[[S3Store], Any]] = {
    "list": lambda store: store.list(),
    "names": lambda store: store.names(),
    "stat": lambda store: store.stat("x"),
    "read": lambda store: store.read("x"),
    "open": lambda store: store.open("x").read(),
    "put": lambda store: store.put("x", b"1"),
    "put_new": lambda store: store.put_new("x", b"1"),
    "delete": lambda store: store.delete("x"),
    "reach": lambda store: store.reach(),
    "prepared": lambda store: store.prepared(),
    "holds": lambda store: store.holds("x", b"1234567890"),
}
ALL = tuple(VERBS)


def every(request: Request) -> bool:
    return True


def refused(store: S3Store, verb: str) -> str:
    """The one line, with the place and something to do, in which a verb ends."""
    with pytest.raises(StorageError) as error:
        VERBS[verb](store)
    said = str(error.value)
    assert "\n" not in said
    assert said.isprintable()
    assert len(said) < 700
    assert said.startswith("s3://bucket/run")
    assert ";" in said
    return said


@pytest.mark.parametrize("verb", ["list", "names", "reach", "prepared"])
@pytest.mark.parametrize(
    "answer",
    [
        http("200 OK"),
        http("200 OK", HTML, "Content-Type: text/html"),
        http("200 OK", b"<ListAllMyBucketsResult><Buckets/></ListAllMyBucketsResult>"),
        http("202 Accepted"),
        http("204 No Content", sized=False),
    ],
)
def test_what_is_no_listing_is_not_an_empty_one(proxy: FaultProxy, store: S3Store, verb: str, answer: bytes):
    proxy.say(answer, when=every)
    assert "answers no listing (HTTP 20" in refused(store, verb)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (listing("other/secret"), r"a listing of 'run/' that names 'other/secret'"),
        (listing("run"), r"that names 'run'"),
        (listing("run/a", size=-5), r"gives 'run/a' no size but -5"),
        (listing("run/a", size="abc"), r"invalid literal"),
        (listing("run/a", size="9" * 5000), r"digits"),
        (listing("run/a").replace(b"<Size>1</Size>", b" " * 14), r"gives 'run/a' no size;"),
        (listing("run/a").replace(b"<Key>run/a</Key>", b" " * 16), r"names None"),
        (listing("run/a", "run/a"), r"names 'a' twice"),
        (listing("run/a", goes_on=True), r"does not say how it goes on"),
        (listing("run/a", goes_on=True, token="t"), r"names 'a' twice"),
        (listing("run/a", "run/b")[:250], r"answers|reached"),
    ],
)
def test_a_damaged_listing_is_refused(proxy: FaultProxy, store: S3Store, answer: bytes, said: str):
    proxy.say(answer, when=every)
    assert re.search(said, refused(store, "list"))


def test_a_folder_outside_of_the_one_that_is_listed_is_refused(proxy: FaultProxy, store: S3Store):
    folder = b"<CommonPrefixes><Prefix>other/</Prefix></CommonPrefixes></ListBucketResult>"
    answer = listing("run/a").partition(b"\r\n\r\n")[2].replace(b"</ListBucketResult>", folder)
    proxy.say(http("200 OK", answer), when=every)
    assert "names the folder 'other/'" in refused(store, "names")


@pytest.mark.parametrize(
    ("endless", "said"),
    [
        (pages(3, same_token=True), "comes back to where it was"),
        (pages(0), "a listing without end: 30 pages of only 0 names"),
        (pages(1), "a listing without end: 33 pages of only 33 names"),
        (pages(3, same_names=True), "twice"),
        (pages(20), "a listing of over 500 names"),
    ],
)
def test_a_listing_without_end_ends(
    proxy: FaultProxy,
    store: S3Store,
    monkeypatch: pytest.MonkeyPatch,
    endless: Callable[[Request], bytes],
    said: str,
):
    monkeypatch.setattr(answers, "SPARSE_PAGES", 30)
    monkeypatch.setattr(answers, "MOST_NAMES", 500)
    proxy.say(endless, when=every)
    assert said in refused(store, "list")


def test_a_listing_of_pages_is_whole_and_its_names_are_those_of_the_store(proxy: FaultProxy, store: S3Store):
    """Each page is asked for after the one before; a short and an empty one are none the last."""
    pages = {
        "": listing("run/sub/a", "run/sub/b", goes_on=True, token="1"),
        "1": listing(goes_on=True, token="2"),
        "2": listing("run/sub/", "run/sub/c"),
    }
    proxy.say(lambda asked: pages[asked.path.partition("continuation-token=")[2][:1]], when=every)
    assert store.list("sub") == {"sub/a": 1, "sub/b": 1, "sub/c": 1}


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        (["Content-Length: 5"], "no ETag to HEAD"),
        ([ETAG], "no ContentLength to HEAD"),
        ([ETAG, "Content-Length: -5"], "Content-Length"),
        ([ETAG, "Content-Length: 1e3"], "Content-Length"),
        (["Content-Type: text/html", "Content-Length: 40"], "no ETag to HEAD (HTTP 200, text/html)"),
    ],
)
@pytest.mark.parametrize("verb", ["stat", "open", "holds"])
def test_a_head_that_says_too_little_is_refused(
    proxy: FaultProxy, store: S3Store, verb: str, headers: list[str], said: str
):
    proxy.say(head(*headers), when=every)
    assert said in refused(store, verb)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http("200 OK", HTML, "Content-Type: text/html"), "no object (HTTP 200, text/html)"),
        (http("200 OK", b"12", ETAG, sized=False), "an object without its length"),
        (http("200 OK", b"12", ETAG, "Content-Length: 10", sized=False), "received 2 of 10 bytes"),
        (http("204 No Content", sized=False), "no object (HTTP 204"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "no object (HTTP 101"),
        (b"\x00\xff" * 300, "answers no sound HTTP"),
        (b"HTTP/1.1 99999 OK\r\n\r\n", "answers no sound HTTP"),
    ],
)
def test_what_is_no_object_is_not_read_as_one(proxy: FaultProxy, store: S3Store, answer: bytes, said: str):
    proxy.say(answer, when=every)
    assert said in refused(store, "read")


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (http("206 Partial Content", b"12345", ETAG, "Content-Range: bytes 0-4/5"), "answers 5 of 10 bytes"),
        (http("200 OK", b"12345", ETAG), "answers 5 of 10 bytes"),
        (http("200 OK", b"1" * 5000, ETAG), "answers 5000 bytes where at most 10 belong"),
        (http("206 Partial Content", b"1" * 10, 'ETag: "other"'), "was replaced while it was read; two jobs may"),
    ],
)
def test_a_part_of_a_file_that_is_another_than_was_asked_for_is_refused(
    proxy: FaultProxy, store: S3Store, part: bytes, said: str
):
    proxy.say(by_method(HEAD=head(ETAG, "Content-Length: 10"), GET=part), when=every)
    assert said in refused(store, "open")


def test_a_part_from_the_middle_says_where_it_is_from(proxy: FaultProxy, store: S3Store):
    def ask(place: str) -> bytes:
        proxy.heal()
        part = http("206 Partial Content", b"67890", ETAG, *([f"Content-Range: {place}"] if place else []))
        proxy.say(by_method(HEAD=head(ETAG, "Content-Length: 10"), GET=part), when=every)
        with store.open("x") as file:
            file.seek(5)
            return file.read()

    assert ask("bytes 5-9/10") == b"67890"
    for place, said in (
        ("bytes 0-4/10", "answers bytes 0-4/10 where bytes 5 to 10"),
        ("", "answers all where bytes 5"),
    ):
        with pytest.raises(StorageError, match=said):
            ask(place)


def test_a_write_is_believed_only_when_the_answer_is_a_servers(proxy: FaultProxy, store: S3Store):
    proxy.say(http("200 OK", HTML, "Content-Type: text/html"), when=every)
    for verb in ("put", "put_new"):
        assert "answers no ETag to PUT (HTTP 200, text/html): nothing says that it keeps the bytes" in refused(
            store, verb
        )
    assert "answers a text to DELETE (HTTP 200, text/html)" in refused(store, "delete")


def test_a_name_that_is_taken_and_not_there_is_one_line(proxy: FaultProxy, store: S3Store):
    gone = by_method(
        PUT=error("412 Precondition Failed", "PreconditionFailed"),
        HEAD=head().replace(b"200 OK", b"404 No"),
        GET=listing(),
    )
    proxy.say(gone, when=every)
    assert "answers that the name is taken, and that it is not there" in refused(store, "put_new")


def test_a_name_that_was_removed_between_two_requests_is_written(proxy: FaultProxy, store: S3Store):
    proxy.say(error("412 Precondition Failed", "PreconditionFailed"), when=lambda asked: asked.method == "PUT", times=1)
    proxy.say(http("200 OK", b"", ETAG), when=lambda asked: asked.method == "PUT")
    proxy.say(http("404 Not Found"), when=lambda asked: asked.method == "HEAD")
    assert store.put_new("x", b"1")


@pytest.mark.parametrize("verb", ALL)
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http("301 Moved Permanently"), "a redirect (HTTP 301)"),
        (
            http("302 Found", b"", "Location: https://login.example/"),
            "a redirect (HTTP 302, to https://login.example/)",
        ),
        (http("307 Temporary Redirect", b"", "Location: /bucket/run/x"), "a redirect (HTTP 307, to /bucket/run/x)"),
        (http("301 Moved Permanently", b"", REGION), "the bucket is elsewhere (301 (Moved Permanently, eu-west-1)"),
    ],
)
def test_a_redirect_is_said_and_not_followed(proxy: FaultProxy, store: S3Store, verb: str, answer: bytes, said: str):
    proxy.say(answer, when=every)
    told = refused(store, verb)
    assert said.partition(" (301 (")[0] in told
    assert "set storage.region, or storage.endpoint_url, to where" in told


def test_another_region_is_named(proxy: FaultProxy, store: S3Store):
    place = "<Endpoint>bucket.s3.eu-west-1.amazonaws.com</Endpoint>"
    proxy.say(error("301 Moved Permanently", "PermanentRedirect", REGION, more=place), when=every)
    assert "the bucket is elsewhere (PermanentRedirect (as the test asks, eu-west-1)); set" in refused(store, "read")
    proxy.heal()
    proxy.say(error("301 Moved Permanently", "PermanentRedirect", more=place), when=every)
    assert "a redirect (HTTP 301, to bucket.s3.eu-west-1.amazonaws.com)" in refused(store, "put")


@pytest.mark.parametrize("verb", [verb for verb in ALL if verb != "prepared"])
@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("400 Bad Request", "ExpiredToken"),
        ("403 Forbidden", "InvalidAccessKeyId"),
        ("403 Forbidden", "SignatureDoesNotMatch"),
        ("403 Forbidden", "UserSuspended"),
    ],
)
def test_credentials_that_expire_are_named_by_every_verb(
    proxy: FaultProxy, store: S3Store, verb: str, status: str, code: str
):
    """HEAD is answered without a reason: the reason is asked for."""
    answer = error(status, code)
    proxy.say(lambda asked: http(status) if asked.method == "HEAD" else answer, when=every)
    told = refused(store, verb)
    assert f"refuses the credentials, which may have expired or been taken back ({code} (as the test asks))" in told
    assert "renew them: what is committed stays, and the same command goes on from there" in told


@pytest.mark.parametrize(
    "status", ["400 Bad Request", "403 Forbidden", "404 Not Found", "407 Proxy", "418 I'm a teapot"]
)
@pytest.mark.parametrize("verb", ["list", "read", "put", "put_new", "delete"])
def test_a_refusal_in_html_is_said_by_its_number(proxy: FaultProxy, store: S3Store, verb: str, status: str):
    proxy.say(http(status, HTML, "Content-Type: text/html"), when=every)
    assert f"HTTP {status[:3]}" in refused(store, verb)


def test_what_a_server_says_is_shown_without_control_characters_and_in_short(proxy: FaultProxy, store: S3Store):
    proxy.say(error("400 Bad Request", "X" * 100_000), when=every)
    assert "XXX..." in refused(store, "read")
    proxy.heal()
    proxy.say(http("302 Found", b"", "Location: http://a:sesame@b/\u202e"), when=every)
    assert "sesame" not in refused(store, "read")


@pytest.mark.parametrize("verb", [verb for verb in ALL if verb not in ("stat", "open", "holds")])
@pytest.mark.parametrize("status", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 400 Bad Request\r\n"])
def test_an_answer_that_drips_or_floods_ends(
    proxy: FaultProxy, store: S3Store, monkeypatch: pytest.MonkeyPatch, verb: str, status: bytes
):
    monkeypatch.setattr(s3, "FIRST_CONTACT_S", 0.3)
    monkeypatch.setattr(bounded, "LARGEST_ANSWER", 2**20)
    monkeypatch.setattr(s3, "LARGEST_TEXT", 2**20)
    started = status + ETAG.encode() + b"\r\n" + ENDLESS
    proxy.say(started, when=every, then=DRIP, every_s=0.05)
    assert "reached (" in refused(store, verb)
    proxy.heal()
    proxy.say(started, when=every, then=FLOOD)
    assert "answers over 1048576 bytes, without an end" in refused(store, verb)


def test_an_object_that_drips_ends_and_a_slow_one_that_is_large_does_not(
    proxy: FaultProxy, store: S3Store, monkeypatch: pytest.MonkeyPatch
):
    proxy.say(http("200 OK", b"", ETAG, "Content-Length: 1000000", sized=False), when=every, then=b"x", every_s=0.05)
    assert "bytes of the answer came in" in refused(store, "read")
    proxy.heal()
    monkeypatch.setattr(bounded, "SLOWEST_BYTES_S", 60_000)
    sized = http("200 OK", b"", ETAG, "Content-Length: 600000", sized=False)
    proxy.say(sized, when=every, then=b"x" * 60_000, every_s=0.05)
    assert store.read("x") == b"x" * 600_000


def test_a_text_that_is_too_large_to_be_one_is_not_read(
    proxy: FaultProxy, store: S3Store, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(places, "LARGEST_TEXT", 1000)
    proxy.say(http("200 OK", b"", ETAG, "Content-Length: 1000000000000", sized=False), when=every)
    with pytest.raises(StorageError, match=r"run/index.json: has 1000000000000 bytes; at most 1000 are read of it"):
        store.read("index.json")
    local = open_store(str(tmp_path), StorageConfig())
    assert isinstance(local, LocalStore)
    for name in ("a.json", "b.jsonl", "c.yaml"):
        local.put(name, bytes(1001))
        with pytest.raises(StorageError, match=rf"{name}: has 1001 bytes; at most 1000 are read"):
            local.read(name)
    local.put("faces.npy", bytes(1001))
    assert len(local.read("faces.npy")) == 1001
