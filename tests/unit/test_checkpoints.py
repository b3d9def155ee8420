"""Checkpoints whose rows are shared among ranks."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hyperface.distributed.checkpoints import ROWS_EACH, Checkpoints
from hyperface.errors import RunError
from hyperface.storage import LocalStore, open_store

N = ROWS_EACH + 5


def rows_of(checkpoints: Checkpoints, rows: slice) -> Tensor:
    return torch.cat([tensors["x"][own] for own, tensors in checkpoints.parts(7, rows)])


@pytest.mark.parametrize("sizes", [(N,), (N - 2, 2), (3, N - 3, 0)])
def test_rows_are_read_back_by_any_rank_from_objects_of_a_bounded_size(tmp_path: Path, sizes: tuple[int, ...]):
    checkpoints, x_N = Checkpoints(open_store(str(tmp_path)), "here"), torch.arange(N)
    starts = [sum(sizes[:rank]) for rank in range(len(sizes))]
    for start, size in zip(starts, sizes, strict=True):
        own = slice(start, start + size)
        checkpoints.put_rows(7, own, {"x": x_N[own]}, beside={"step": torch.tensor(7)})
    checkpoints.finish(7, sizes, {"sizes": list(sizes)})
    assert checkpoints.newest() == 7
    parts = list(checkpoints.parts(7, slice(0, N)))
    assert len(parts) >= 2
    assert all(len(tensors["x"]) <= ROWS_EACH and int(tensors["step"]) == 7 for _, tensors in parts)
    assert torch.equal(rows_of(checkpoints, slice(0, N)), x_N)
    edge = slice(ROWS_EACH - 3, ROWS_EACH + 2)
    assert torch.equal(rows_of(checkpoints, edge), x_N[edge])


def test_the_two_newest_stay_and_one_without_its_marker_does_not_count(tmp_path: Path):
    checkpoints = Checkpoints(open_store(str(tmp_path)), "here")
    for step in (1, 2, 3):
        checkpoints.put_rows(step, slice(0, 4), {"x": torch.zeros(4)})
        checkpoints.finish(step, (4,), {})
    checkpoints.put_rows(4, slice(0, 4), {"x": torch.zeros(4)})
    assert checkpoints.newest() == 3
    assert not list((tmp_path / "here/step-000000001").glob("*"))
    assert (tmp_path / "here/step-000000002/marker.json").exists()
    checkpoints.clear()
    assert checkpoints.newest() == -1


@pytest.mark.parametrize("change", [lambda data: data[:-3], lambda data: b"\xff" * 8, lambda data: b"", None])
def test_a_damaged_object_is_named_with_what_to_do(tmp_path: Path, change: Callable[[bytes], bytes] | None):
    found = Checkpoints(open_store(str(tmp_path)), "kept")
    found.put_rows(3, slice(0, 4), {"x": torch.ones(4, 2)})
    found.finish(3, [4], {"step": 3})
    (name,) = found.marker(3, dict)["objects"]
    if change:
        found.store.put(name, change(found.store.read(name)))
    else:
        found.store.delete(name)
    what = "is damaged" if change else "is missing although the checkpoint's marker names it"
    with pytest.raises(
        RunError, match=rf"rows-.*\.safetensors: {what}.*; delete the folder of this checkpoint"
    ) as error:
        list(found.parts(3, slice(0, 4)))
    assert "\n" not in str(error.value)
    found.store.put("kept/step-000000003/marker.json", b"[" * 100_000)
    with pytest.raises(RunError, match=r"marker\.json: is no JSON object \(nested too deeply\)"):
        found.marker(3, dict)


def test_a_checkpoint_loses_its_marker_before_anything_else(tmp_path: Path):
    gone: list[str] = []

    class NotingStore(LocalStore):
        def delete(self, name: str) -> None:
            gone.append(name)
            super().delete(name)

    checkpoints = Checkpoints(NotingStore(str(tmp_path)), "here")
    checkpoints.put_rows(1, slice(0, 4), {"x": torch.zeros(4)})
    checkpoints.finish(1, (4,), {})
    checkpoints.clear()
    assert [name.rpartition("/")[2] for name in gone] == ["marker.json", "rows-0000000000-0000000004.safetensors"]
