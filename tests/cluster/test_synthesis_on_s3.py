"""Synthesis on a real S3 server: outages, errors, kills, a second driver and a bucket that vanishes."""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
import ray
import s3_faults
import s3fs
from color_world import hashes, make_dataset
from fault_proxy import FaultProxy, fault_proxy, puts
from object_store import CREDENTIALS, ObjectStore
from s3_faults import KillingS3Store, LedgerGenerator
from small_stage import FILES, PLAN, seed_of, start, synthesize

from hyperface.dataset import verify
from hyperface.dataset.plan import image_seed
from hyperface.errors import RunError, StorageError
from hyperface.run import Run
from hyperface.storage import S3Store

ray.cloudpickle.register_pickle_by_value(s3_faults)

pytestmark = pytest.mark.usefixtures("ray_cluster")


def s3_run(endpoint: str, bucket: str, *overrides: str) -> Run:
    options = (f"storage.endpoint_url={endpoint}", "storage.addressing_style=path", "storage.patience_s=60")
    return start(f"s3://{bucket}/run", *options, *overrides)


def ledger(tmp_path: Path, seed: int = -1) -> LedgerGenerator:
    """Waits at the seed, if one is given, until `tmp_path/go` is there."""
    asked = str(tmp_path / "asked") if seed >= 0 else ""
    return LedgerGenerator(5, drawn=str(tmp_path / "drawn"), seed=seed, asked=asked, may_go_on=str(tmp_path / "go"))


def in_mid_shard(tmp_path: Path, act: Callable[[], None]) -> threading.Thread:
    """Act while the generator waits, then let it go on."""

    def wait_and_act() -> None:
        while not (tmp_path / "asked").exists():
            time.sleep(0.02)
        try:
            act()
        finally:  # whatever happened, nobody waits for it without end
            (tmp_path / "go").touch()

    thread = threading.Thread(target=wait_and_act, daemon=True)
    thread.start()
    return thread


def shard_seeds(shard: int) -> set[int]:
    """Seeds of all draws that a shard may ask for."""
    rows = zip(*PLAN.shard(shard), strict=True)
    return {image_seed(0, int(i), int(image), attempt) for i, image in rows for attempt in range(20)}


def written(proxy: FaultProxy) -> list[str]:
    """Shard files and markers that the server took, once for each time."""
    kinds = ("/parquet/shard-", "/webdataset/shard-", "/_done/shard-")
    done = [path for method, path, status in proxy.journal if (method, status) == ("PUT", 200)]
    return [path for path in done if any(kind in path for kind in kinds)]


def assert_whole(run: Run, undisturbed: dict[str, str]) -> None:
    """Check that nothing is lost, and nothing there twice: the bytes of the undisturbed run, and no other name."""
    assert hashes(run) == undisturbed
    assert verify(run, deep=True) == []
    assert len(run.store.list("dataset/_done")) == PLAN.num_shards


def test_the_dataset_on_s3_is_that_of_one_process_and_no_credential_is_in_it(
    object_store: str,
    object_bucket: str,
    tmp_path: Path,
    undisturbed: dict[str, str],
    capfd: pytest.CaptureFixture[str],
):
    run = s3_run(object_store, object_bucket)
    generator = ledger(tmp_path)
    synthesize(run, generator)
    assert_whole(run, undisturbed)
    assert generator.drawn_again() == set()
    synthesize(run, generator)
    said = capfd.readouterr()
    texts = [run.store.read(name) for name in run.store.list()] + [(said.out + said.err).encode()]
    assert "synthesize: done, 30 images" in said.out
    for secret in (CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"]):
        assert not [text for text in texts if secret.encode() in text]


def test_a_server_that_is_away_for_five_seconds_costs_no_image_and_none_is_made_again(
    object_gateway: ObjectStore, object_bucket: str, tmp_path: Path, undisturbed: dict[str, str]
):
    run = s3_run(object_gateway.endpoint, object_bucket)
    generator = ledger(tmp_path, seed=seed_of(1))

    def come_back() -> None:
        time.sleep(5)
        object_gateway.start_gateway()

    outage = threading.Thread(target=come_back)
    in_mid_shard(tmp_path, lambda: (object_gateway.stop_gateway(), outage.start()))
    try:
        synthesize(run, generator)
    finally:
        outage.join()
    assert_whole(run, undisturbed)
    assert generator.drawn_again() == set()


def test_errors_slow_answers_and_lost_answers_cost_nothing(
    object_store: str, object_bucket: str, tmp_path: Path, undisturbed: dict[str, str]
):
    with fault_proxy(object_store) as proxy:
        run = s3_run(proxy.url, object_bucket)
        generator = ledger(tmp_path)
        proxy.answer(500, "InternalError", when=puts("parquet/shard-000000"))
        proxy.answer(503, "SlowDown", when=puts("parquet/shard-000001"), times=3)
        proxy.delay(3, when=puts("webdataset/shard-000001"))
        proxy.cut(when=puts("webdataset/shard-000002"))
        proxy.cut(when=puts("_done/shard-000003"))
        proxy.drop(when=puts("_pending/shard-000003"))
        synthesize(run, generator)
        assert_whole(run, undisturbed)
        assert generator.drawn_again() == set()
        assert len(set(written(proxy))) == len(written(proxy)) == FILES
        assert not [fault for fault in proxy._faults if fault.times]


def test_a_worker_killed_between_data_and_marker_leaves_a_shard_that_is_not_drawn_again(
    object_store: str, object_bucket: str, tmp_path: Path, undisturbed: dict[str, str]
):
    with fault_proxy(object_store) as proxy:
        run, generator = s3_run(proxy.url, object_bucket), ledger(tmp_path)
        assert isinstance(run.store, S3Store)
        given = {field.name: getattr(run.store, field.name) for field in fields(run.store)}
        run = replace(run, store=KillingS3Store(**given, flag=str(tmp_path / "killed")))
        synthesize(run, generator)
        assert_whole(run, undisturbed)
        assert len(set(written(proxy))) == len(written(proxy)) == FILES
    marker = (tmp_path / "killed").read_text()
    interrupted = int(marker.rpartition("-")[2].removesuffix(".json"))
    again = {shard for shard in range(PLAN.num_shards) if shard_seeds(shard) & generator.drawn_again()}
    assert interrupted not in again
    assert len(again) <= 1  # the one that was in the generator meanwhile


def test_two_drivers_at_once_end_with_one_dataset_and_write_no_file_twice(
    object_store: str, object_bucket: str, tmp_path: Path, undisturbed: dict[str, str]
):
    """Two drivers meet in one shard: each draws it, and waits for the other before it writes."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    with fault_proxy(object_store) as proxy:
        run = s3_run(proxy.url, object_bucket)
        other = threading.Thread(target=make_dataset, args=(run, ledger(there, seed=seed_of(1))))
        other.start()
        in_mid_shard(there, lambda: in_mid_shard(here, (there / "go").touch).join())
        synthesize(run, ledger(here, seed=seed_of(1)))
        other.join()
        assert_whole(run, undisturbed)
        assert len(set(written(proxy))) == len(written(proxy)) == FILES
        assert proxy.count("PUT", "/shard-000001", 412) >= 1


def test_a_bucket_that_vanishes_in_mid_run_is_one_clear_error(object_store: str, object_bucket: str, tmp_path: Path):
    run = s3_run(object_store, object_bucket)
    fs = s3fs.S3FileSystem(client_kwargs={"endpoint_url": object_store}, use_listings_cache=False)

    def remove() -> None:
        for _ in range(100):  # a bucket goes only when it is empty, and the other shard may be uploaded meanwhile
            with contextlib.suppress(OSError):
                return fs.rm(object_bucket, recursive=True)
        raise AssertionError("the bucket cannot be removed")

    vanishing = in_mid_shard(tmp_path, remove)
    with pytest.raises((RunError, StorageError), match=r"^s3://\S+: the bucket does not exist; create it or") as failed:
        synthesize(run, ledger(tmp_path, seed=seed_of(1)))
    vanishing.join()
    assert "\n" not in str(failed.value)


def test_credentials_that_are_taken_back_in_mid_run_end_it_in_one_line_and_new_ones_go_on(
    object_gateway: ObjectStore, object_bucket: str, tmp_path: Path, undisturbed: dict[str, str]
):
    run = s3_run(object_gateway.endpoint, object_bucket)
    in_mid_shard(tmp_path, object_gateway.suspend)
    try:
        with pytest.raises(
            (RunError, StorageError), match=r"refuses the credentials.* the same command goes on"
        ) as failed:
            synthesize(run, ledger(tmp_path, seed=seed_of(1)))
    finally:
        object_gateway.enable()
    assert "\n" not in str(failed.value)
    synthesize(run, ledger(tmp_path))
    assert_whole(run, undisturbed)
