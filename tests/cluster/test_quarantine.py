"""A shard that cannot be made is given up, the others are not, and it can be taken up again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from color_world import hashes
from faults import BrokenGenerator, KillingGenerator, LedgerStore
from small_stage import FILES, PLAN, seed_of, start, synthesize

from hyperface.dataset import verify
from hyperface.errors import RunError

pytestmark = pytest.mark.usefixtures("ray_cluster")
NOTE = "dataset/_quarantine/shard-000001.json"


@pytest.mark.parametrize("actors", [1, 2])
def test_a_shard_that_kills_every_actor_is_quarantined_and_its_neighbours_are_made(
    tmp_path: Path, undisturbed: dict[str, str], actors: int, capsys: pytest.CaptureFixture[str]
):
    run = start(tmp_path / "run", f"synthesis.num_actors={actors}", "synthesis.max_shard_attempts=2")
    store = LedgerStore(run.store.url, ledger=str(tmp_path / "ledger"))
    run = replace(run, store=store)
    with pytest.raises(RunError, match=r"1 are quarantined(.|\n)*shard 1 is quarantined: begun 2 times(.|\n)*died"):
        synthesize(run, KillingGenerator(miss_every=5, seed=seed_of(1)))
    (problem,) = verify(run, deep=True)
    assert f"{NOTE}: shard 1 is quarantined" in problem
    assert problem.endswith("take it up again with synthesis.retry_quarantined=true")
    assert json.loads(store.read(NOTE))["attempts"] == 2
    assert len(store.noted("new")) == FILES - 3
    assert "1 quarantined, 2 actor deaths" in capsys.readouterr().out

    # A plain run leaves it alone, and does not pass for a finished one.
    with pytest.raises(RunError, match=r"1 are quarantined; take them up again with synthesis.retry_quarantined=true"):
        synthesize(run)
    assert store.exists(NOTE)

    again = replace(start(tmp_path / "run", "synthesis.retry_quarantined=true"), store=store)
    synthesize(again)
    assert hashes(run) == undisturbed
    assert verify(run, deep=True) == []
    assert len(set(store.noted("new"))) == len(store.noted("new")) == FILES


def test_an_error_of_the_device_is_tried_in_fresh_processes_and_then_quarantined_by_name(tmp_path: Path):
    run = start(tmp_path / "run", "synthesis.max_shard_attempts=2")
    broken = BrokenGenerator(miss_every=5, seed=seed_of(1), noted=str(tmp_path / "processes"))
    with pytest.raises(RunError, match=r"shard 1 is quarantined: begun 2 times, .*: RuntimeError: the device is lost"):
        synthesize(run, broken)
    processes = (tmp_path / "processes").read_text().split()
    assert len(processes) == len(set(processes)) == 2
    assert [row["shard"] for row in run.records("synthesis") if row["event"] == "quarantined"] == [1]
    (problem,) = verify(run, deep=False)
    assert "RuntimeError: the device is lost" in problem


def test_a_run_whose_actors_all_die_stops_and_says_so(tmp_path: Path):
    run = start(tmp_path / "run", "synthesis.max_failures=1", "synthesis.num_actors=2")
    with pytest.raises(RunError, match=r"actors died \d times with no shard finished .* synthesis.max_failures=1"):
        synthesize(run, KillingGenerator())
    problems = verify(run, deep=False)
    assert len(problems) == PLAN.num_shards
    assert all(line.endswith("is missing: the shard is not done") for line in problems)
