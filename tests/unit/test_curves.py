"""Curves: what TensorBoard finds in a run."""

import struct
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from hyperface.progress import curves
from hyperface.progress.curves import Curves, event_file
from hyperface.progress.meter import Point
from hyperface.storage import LocalStore, Store


def read(data: bytes) -> list[tuple[int, str, float]]:
    """(step, name, value) of an event file, whose check sums are right."""
    found, at = [], 0
    while at < len(data):
        length, of_length = struct.unpack_from("<QI", data, at)
        payload = data[at + 12 : at + 12 + length]
        (of_payload,) = struct.unpack_from("<I", data, at + 12 + length)
        assert (of_length, of_payload) == (masked_crc32c(data[at : at + 8]), masked_crc32c(payload))
        event = Event.FromString(payload)
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        at += 16 + length
    return found


def files(store: Store) -> list[bytes]:
    return [store.read(name) for name in sorted(store.list("tensorboard"))]


def test_a_file_holds_each_number_at_its_step():
    points = [(100.0, Point(3, 9, {"loss": 0.5})), (101.0, Point(6, 9, {"loss": 0.25}))]
    assert read(event_file(points)) == [(3, "done", 3), (3, "loss", 0.5), (6, "done", 6), (6, "loss", 0.25)]


def test_what_is_new_goes_into_a_new_file_and_the_last_point_is_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = LocalStore(str(tmp_path))
    curve = Curves(store, "train-student")
    curve(Point(1, 3))
    assert files(store) == []
    monkeypatch.setattr(curves, "EVERY_S", 0.0)
    curve(Point(2, 3))
    curve(Point(3, 3))
    assert [[step for step, _, _ in read(data)] for data in files(store)] == [[1, 2], [3]]
    assert all(name.startswith("tensorboard/train-student/events.out.tfevents.") for name in store.list())
