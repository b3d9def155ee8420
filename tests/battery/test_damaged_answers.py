"""Answers of an S3 server that are damaged on the way, at random: each verb ends soon, in its value or in one line."""

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from fault_proxy import FaultProxy, Request, fault_proxy

from hyperface.errors import StorageError
from hyperface.storage import S3Store, s3

SEED = int(os.environ.get("BATTERY_SEED", "0"))
TIMES = 250
"""Number of damaged answers for each verb."""
SOON_S = 60
"""A damaged answer that is waited for: three times `answer_s`, and what the machine takes."""
FILES = {f"sub/{at}.bin": bytes([at]) * 1000 for at in range(20)}


@pytest.fixture(scope="module")
def proxy(s3_endpoint: str) -> Iterator[FaultProxy]:
    with fault_proxy(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def store(proxy: FaultProxy, s3_bucket: str) -> S3Store:
    store = S3Store(f"s3://{s3_bucket}/run", proxy.url, addressing_style="path", patience_s=0, answer_s=1.0)
    proxy.heal()
    for name, data in FILES.items():
        store.put(name, data)
    return store


def damage(answer: bytes, chance: random.Random) -> bytes:
    """The answer with one to three faults, in its headers or in its body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    for _ in range(chance.randint(1, 3)):
        kind = chance.choice(("flip", "cut", "twice", "insert", "drop line", "line twice", "empty", "status"))
        if kind in ("drop line", "line twice"):
            lines = head.split(b"\r\n")
            at = chance.randrange(len(lines))
            lines[at : at + 1] = [] if kind == "drop line" else [lines[at]] * 2
            head = b"\r\n".join(lines)
        elif kind == "status":
            number = str(chance.choice((100, 200, 204, 206, 301, 304, 400, 403, 404, 412, 416, 500, 503, 999)))
            head = b" ".join((b"HTTP/1.1", number.encode(), b"Status")) + b"\r\n" + head.partition(b"\r\n")[2]
        elif chance.random() < 0.4:
            head = _bytes(head, kind, chance)
        else:
            body = _bytes(body, kind, chance)
    return head + b"\r\n\r\n" + body


def _bytes(data: bytes, kind: str, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    until = min(len(data), at + chance.randint(1, 200))
    match kind:
        case "flip" if at < len(data):
            return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]
        case "cut":
            return data[:at] + data[until:]
        case "twice":
            return data[:until] + data[at:]
        case "insert":
            return data[:at] + chance.randbytes(chance.randint(1, 100)) + data[at:]
        case _:
            return b""


def end_of(call: Callable[[], Any]) -> Any:
    """Return what the call returns; None for what it says in one line. Anything else goes up."""
    began = time.monotonic()
    try:
        return call()
    except FileNotFoundError:  # that there is nothing is an answer too
        return None
    except StorageError as error:
        said = str(error)
    finally:
        assert time.monotonic() - began < SOON_S
    assert said.isprintable()
    assert said.startswith("s3://")
    return None


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("verb", ["list", "names", "stat", "read", "open", "put", "put_new", "delete", "reach"])
def test_a_damaged_answer_is_its_value_or_one_line(
    proxy: FaultProxy, store: S3Store, verb: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(s3, "FIRST_CONTACT_S", 0.5)
    calls: dict[str, Callable[[int], Any]] = {
        "list": lambda _: store.list("sub"),
        "names": lambda _: store.names(),
        "stat": lambda _: store.stat("sub/7.bin"),
        "read": lambda _: store.read("sub/7.bin"),
        "open": lambda _: store.open("sub/7.bin").read(),
        "put": lambda at: store.put(f"new/{at}", b"1") is None,
        "put_new": lambda at: store.put_new(f"new/{at}", b"1"),
        "delete": lambda at: store.delete(f"sub/{at % 20}.bin") is None,
        "reach": lambda _: store.reach() is None,
    }
    values = 0
    for at in range(TIMES):
        chance = random.Random(f"{SEED} {verb} {at}")

        def change(request: Request, answer: bytes, chance: random.Random = chance) -> bytes:
            return damage(answer, chance)

        proxy.heal()
        proxy.change(change, when=lambda request: True)
        found = end_of(lambda at=at: calls[verb](at))
        proxy.heal()
        if found is None:
            continue
        values += 1
        if verb == "list":
            assert len(found) == len(FILES), f"{at}: a name was lost without a word"
        elif verb in ("read", "open"):
            assert len(found) == 1000, f"{at}: bytes were lost without a word"
        elif verb == "put_new" and found:
            assert replace(store, patience_s=60, answer_s=60).read(f"new/{at}") == b"1"
    print(f"{verb}: {values} of {TIMES} damaged answers gave a value")
