"""Claims on what nobody has begun: of two drivers with different configurations the first one goes on."""

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from color_world import color_config, color_run
from finished_run import finished_run

from hyperface.config import Config
from hyperface.dataset import verify
from hyperface.errors import ConfigError, RunError
from hyperface.faces import gallery
from hyperface.packing import stage
from hyperface.run import Run, claims, enter, open_run, run_store
from hyperface.run.names import CONFIG, GALLERY, PACKED, PROVENANCE
from hyperface.storage import Store, open_store


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, ...]:
    """Words of a configuration: where its run is."""
    if request.param == "disk":
        return (str(tmp_path / "run"),)
    bucket, endpoint = request.getfixturevalue("s3_bucket"), request.getfixturevalue("s3_endpoint")
    return f"s3://{bucket}/runs/run", f"storage.endpoint_url={endpoint}"


def driven(drivers: ExitStack, config: Config) -> Run:
    """A run as `driving` opens it, until the stack is closed."""
    store = run_store(config)
    return enter(store, config, drivers.enter_context(claims.driver(store)))


def claims_of(store: Store) -> list[str]:
    return [name for name in store.names() if name.startswith(claims.CLAIM)]


def test_the_second_driver_of_a_run_that_made_nothing_yet_is_refused_by_key_and_process(place: tuple[str, ...]):
    with ExitStack() as drivers:
        first = driven(drivers, color_config(*place, "packing.alpha=0.5"))
        text = first.store.read(CONFIG)
        with pytest.raises(ConfigError, match=rf"process {os.getpid()} of .*\n  packing.alpha: 0.5 -> 0.1$"):
            driven(drivers, color_config(*place, "packing.alpha=0.1"))
        with pytest.raises(ConfigError, match="is about to make another configuration"):  # a job that drives nothing
            open_run(color_config(*place, "packing.alpha=0.1"))
        first.refuse_replaced()
        assert first.store.read(CONFIG) == text
    assert not claims_of(first.store)


def test_a_driver_of_the_same_configuration_is_never_refused_and_its_end_does_not_free_the_run(place: tuple[str, ...]):
    with ExitStack() as drivers:
        driven(drivers, color_config(*place))
        with ExitStack() as others:
            driven(others, color_config(*place, "packing.num_workers=2"))
        with pytest.raises(ConfigError, match="is about to make another"):
            driven(drivers, color_config(*place, "packing.alpha=0.1"))


def test_a_first_attempt_that_ended_binds_nobody_to_its_typos_and_leaves_no_trace(place: tuple[str, ...]):
    with ExitStack() as drivers:
        driven(drivers, color_config(*place, "run.seed=5"))
    with ExitStack() as drivers:
        run = driven(drivers, color_config(*place, "run.seed=6"))
        run.refuse_replaced()
        assert run.get_json(PROVENANCE)["seed"] == 6


def killed_claim(store_config: Config) -> None:
    """Open the run in a process that is killed."""
    code = (
        "import sys, time; from hyperface import config; from hyperface.run import claims, enter, run_store\n"
        "c = config.load(None, sys.argv[1:]); s = run_store(c)\n"
        "with claims.driver(s) as d:\n enter(s, c, d); print('there', flush=True); time.sleep(600)"
    )
    words = [f"run.dir={store_config.run.dir}", f"storage.endpoint_url={store_config.storage.endpoint_url}"]
    with subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        process.send_signal(signal.SIGKILL)


def test_a_driver_that_was_killed_here_is_in_nobody_s_way(tmp_path: Path):
    config = color_config(tmp_path / "run")
    killed_claim(config)
    store = run_store(config)
    (left,) = claims_of(store)
    assert json.loads(store.read(left))["claims"] == [CONFIG]
    with ExitStack() as drivers:
        driven(drivers, color_config(tmp_path / "run", "packing.alpha=0.1"))
        assert left not in claims_of(store)


def test_a_driver_of_another_machine_may_live_until_somebody_deletes_its_claim(place: tuple[str, ...]):
    config = color_config(*place)
    store = open_run(config).store
    name = f"{claims.CLAIM}{'0' * 32}.json"
    store.put(
        name,
        json.dumps({"host": "node7", "pid": 12, "machine": "x", "born": "1", "since": "", "claims": [CONFIG]}).encode(),
    )
    other = color_config(*place, "packing.alpha=0.1")
    with pytest.raises(ConfigError, match=rf"process 12 of node7.*if it is dead, delete {store.uri(name)}"):
        open_run(other)
    open_run(config)
    store.delete(name)
    open_run(other)


def test_whoever_began_the_run_anew_is_noticed_before_the_gallery_is_written(tmp_path: Path):
    run = open_run(color_config(tmp_path / "run"))
    gallery.bind(run)
    open_run(color_config(tmp_path / "run", "packing.alpha=0.1"))  # no driver is known: it may
    with pytest.raises(ConfigError, match=r"was replaced since this job began.*packing.alpha: 0.1 -> 0.5"):
        gallery.bind(run)


def test_of_two_that_come_between_one_another_the_record_stays_the_first_one_s(tmp_path: Path):
    """The second looks for others, the first comes, and only then the second writes."""
    config, other = color_config(tmp_path / "run"), color_config(tmp_path / "run", "packing.alpha=0.1")
    store = open_run(config).store
    with ExitStack() as drivers:

        class Late(type(store)):  # type: ignore[misc]
            def put(self, name: str, data: bytes) -> None:
                if name == CONFIG and not claims_of(store):
                    driven(drivers, config)
                super().put(name, data)

        with pytest.raises(ConfigError, match="is about to make another"):
            enter(Late(store.url), other)
    open_run(config).refuse_replaced()


def test_of_two_trainings_of_one_name_the_first_goes_on_though_it_has_no_checkpoint_yet(place: tuple[str, ...]):
    name, what = "recognition/student/training.json", "training"
    with ExitStack() as drivers, ExitStack() as failed:
        first, second = (driven(drivers, color_config(*place)) for _ in range(2))
        driven(failed, color_config(*place)).bind(name, {"train": {"margin": 0.1}}, what, begun=False)
        failed.close()
        first.bind(name, {"train": {"margin": 0.3}}, what, begun=False)
        with pytest.raises(ConfigError, match=r"is about to make another training:\n  train.margin: 0.3 -> 0.2$"):
            second.bind(name, {"train": {"margin": 0.2}}, what, begun=False)
        second.bind("recognition/other/training.json", {"train": {"margin": 0.2}}, what, begun=False)
        first.bind(name, {"train": {"margin": 0.3}}, what, begun=False)


def test_verify_names_each_stage_that_was_made_by_another_configuration(tmp_path: Path):
    run = finished_run(tmp_path / "run")
    assert verify(run, deep=True) == []
    text = run.store.read(CONFIG).decode()
    assert "alpha: 0.5" in text
    run.store.put(
        CONFIG, text.replace("alpha: 0.5", "alpha: 0.1").replace("jpeg_quality: 9", "jpeg_quality: 8").encode()
    )
    edited = replace(run, config=color_config(tmp_path / "run", "packing.alpha=0.1", "packing.steps=12", "run.seed=3"))
    edited = replace(edited, config=replace(edited.config, dataset=replace(run.config.dataset, jpeg_quality=80)))
    problems = "\n".join(verify(edited, deep=False))
    assert "packing/summary.json: made by another configuration: packing.alpha: 0.5 -> 0.1" in problems
    assert "records/packing.json: made by another configuration: packing.alpha: 0.5 -> 0.1" in problems
    assert "dataset/fingerprint.json: made by another configuration: dataset.jpeg_quality: " in problems


def test_a_run_whose_configuration_is_gone_is_opened_by_its_own_only(tmp_path: Path):
    run = finished_run(tmp_path / "run")
    run.store.delete(CONFIG)
    before = set(run.store.list())
    with pytest.raises(
        ConfigError, match=r"packing/summary.json: made by another configuration: packing.alpha: 0.5 -> 0.1"
    ):
        open_run(replace(run.config, packing=replace(run.config.packing, alpha=0.1)))
    assert set(run.store.list()) == before
    open_run(run.config)
    assert verify(run, deep=False) == []


def test_a_packing_does_not_go_on_from_another_gallery(tmp_path: Path):
    run = finished_run(tmp_path / "run")
    run.store.put(GALLERY, run.store.read(GALLERY) + b"x")
    with pytest.raises(ConfigError, match=r"is of another packing .*\n  gallery.sha256: "):
        stage.bind(run)
    assert any("gallery" in problem for problem in verify(run, deep=False))


def test_a_record_that_is_gone_though_something_was_made_of_it_is_named(tmp_path: Path):
    run = color_run(tmp_path / "run")
    with pytest.raises(RunError, match="is gone, so nobody knows what was begun"):
        run.bind("recognition/student/training.json", {"train": {"seed": 0}}, "training", begun=True)
    run.store.put(PACKED, b"[")
    with pytest.raises(RunError, match=r"packing.json: cannot be read"):
        run.bind(PACKED, {"run": {"seed": 0}}, "packing", begun=True)


@pytest.mark.parametrize("damaged", [b'{"claims": null}', b'{"claims": 5}', b'{"pid": "1\\u0000"}', b"[]", b""])
def test_a_damaged_claim_is_nobodys(tmp_path: Path, damaged: bytes):
    store = open_store(str(tmp_path))
    store.put(f"{claims.CLAIM}{'a' * 32}.json", damaged)
    claims.refuse(store, "", "config.yaml", ["a line"], lambda _: False, "configuration")


def test_a_worker_that_claims_for_its_driver_takes_nothing_from_it(tmp_path: Path):
    store = open_store(str(tmp_path))
    with claims.driver(store) as driver:
        assert claims.bind(store, driver, "a.json", b"{}", lambda _: [], lambda _: False, "thing")
        again = f"from hyperface.storage import open_store; s = open_store({str(tmp_path)!r})"
        again += "; from hyperface.run import claims"
        again += f"; claims.bind(s, {driver!r}, 'a.json', b'{{}}', lambda _: [], lambda _: False, 'thing')"
        subprocess.run([sys.executable, "-c", again], check=True)
        with pytest.raises(ConfigError, match=f"process {os.getpid()} "):
            claims.refuse(store, "", "a.json", ["a line"], lambda _: False, "thing")
