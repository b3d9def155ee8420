"""A source of 100,000 pictures, on disk and on S3: what a plan of it costs."""

import pickle
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from fault_proxy import fault_proxy
from hostile_s3 import bucket
from object_store import CREDENTIALS

from hyperface.config import Config, load
from hyperface.faces import source

FILES = 100_000
NAMES = [f"{at // 10:05d}/{at % 10}.png" for at in range(FILES)]
MOST_MEMORY = 100 * 2**20
"""Bytes at the plan's peak, a thousand for each file."""
MOST_SENT = 4 * 2**20
"""Bytes of all chunks, which each actor is given."""


def planned(config: Config) -> list[source.Chunk]:
    tracemalloc.start()
    try:
        chunks = source.plan_chunks(config.embed, config.storage)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(len(chunk.names) for chunk in chunks) == FILES
    sent = len(pickle.dumps(chunks))
    print(f"peak {peak >> 20} MiB, chunks {sent} bytes")
    assert peak < MOST_MEMORY
    assert sent < MOST_SENT
    return chunks


@pytest.mark.timeout(600)
def test_on_disk(tmp_path: Path):
    for name in NAMES:
        if name.endswith("/0.png"):
            (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    planned(load(None, ["run.dir=x", f"embed.source={tmp_path}", "embed.num_faces=0"]))


@pytest.mark.timeout(600)
def test_on_s3_a_page_for_every_thousand_and_one_request_for_each_that_is_read(monkeypatch: pytest.MonkeyPatch):
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    asked = Counter[str]()
    with fault_proxy("http://127.0.0.1:1") as server:
        server.say(bucket([f"run/{name}" for name in NAMES], b"no picture", asked), when=lambda request: True)
        where = [f"storage.endpoint_url={server.url}", "storage.addressing_style=path"]
        config = load(None, ["run.dir=x", "embed.source=s3://bucket/run", "embed.num_faces=0", *where])
        chunks = planned(config)
        assert asked == {"LIST": FILES // 1000}
        read = [face for chunk in chunks[:20] for face in source.read_chunk(chunk, config)]
    assert asked["GET"] == len(read)
    assert set(asked) == {"LIST", "GET"}
