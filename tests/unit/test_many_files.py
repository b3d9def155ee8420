"""A source of many pictures costs one request each, and a listing of a page for every thousand."""

import io
from collections import Counter

import pytest
from fault_proxy import fault_proxy
from hostile_s3 import bucket
from object_store import CREDENTIALS
from PIL import Image

from hyperface.config import load
from hyperface.faces import source


def test_pictures_on_s3_are_listed_by_the_page_and_each_is_asked_for_once(monkeypatch: pytest.MonkeyPatch):
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    picture, asked = io.BytesIO(), Counter[str]()
    Image.new("RGB", (64, 64), "red").save(picture, "PNG")
    names = [f"run/{person:05d}/{image}.png" for person in range(250) for image in range(10)]
    with fault_proxy("http://127.0.0.1:1") as server:
        server.say(bucket(names, picture.getvalue(), asked), when=lambda request: True)
        where = [f"storage.endpoint_url={server.url}", "storage.addressing_style=path"]
        config = load(None, ["run.dir=x", "embed.source=s3://bucket/run", "embed.num_faces=0", *where])
        chunks = source.plan_chunks(config.embed, config.storage)
        assert asked == {"LIST": 3}
        assert sum(len(chunk.names) for chunk in chunks) == len(names)
        faces = list(source.read_chunk(chunks[0], config))
    assert not [face.problem for face in faces if face.problem]
    assert asked == {"LIST": 3, "GET": len(faces)}
