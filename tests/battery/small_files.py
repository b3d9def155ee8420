"""Small valid files of every kind that the product reads from others or from a store, and what reads each of them.

A kind is (the files, by name; the name of the one that is changed; what reads it in a folder of them).
"""

import hashlib
import io
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch
from PIL import Image

from hyperface import config as configuration
from hyperface.audit.attributes import read_labels
from hyperface.capacity import rates
from hyperface.config import StorageConfig
from hyperface.dataset import recordio
from hyperface.dataset.classes import classes
from hyperface.dataset.dataset import from_bytes
from hyperface.dataset.marker import Marker, Quarantine
from hyperface.dataset.source import open_source
from hyperface.dataset.verify import verify
from hyperface.faces import embeddings, gallery
from hyperface.faces.embeddings import Embeddings
from hyperface.faces.gallery import Chunk
from hyperface.models import iresnet, own_file, pretrained, trained
from hyperface.models.arcface import ArcFaceRecognizer
from hyperface.models.onnx_attributes import OnnxAttributes
from hyperface.run import existing_run
from hyperface.status import status
from hyperface.storage import LocalStore, open_store
from hyperface.training.other_images import RecordImages
from hyperface.verification import ijb
from hyperface.verification.benchmarks import read_bin, read_pairs
from tests.color_world import color_run, make_dataset
from tests.unit.test_onnx_network import QUALITY, YAW, face_nodes, saved
from tests.unit.test_reading_json import MARKER

Read = Callable[[Path], Any]
Kind = tuple[dict[str, bytes], str, Read]
STORAGE = StorageConfig()


def picture(size: int = 16, form: str = "JPEG") -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)).save(sink, form)
    return sink.getvalue()


def unit_rows(count: int = 8, dim: int = 4) -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def kinds(scratch: Path) -> Iterator[tuple[str, Kind]]:
    """(its name, a kind); `scratch` is written to."""
    yield from tables()
    yield from verifications()
    yield from sources()
    yield from models(scratch)
    yield from runs(scratch)
    text = configuration.to_yaml(configuration.load(None, ["run.dir=x"])).encode()
    yield "config", ({"c.yaml": text}, "c.yaml", lambda at: configuration.load(str(at / "c.yaml")))


def tables() -> Iterator[tuple[str, Kind]]:
    def read(at: Path) -> Any:
        return [embeddings.read_file(str(path), STORAGE) for path in at.iterdir()]

    for order in ("C", "F"):
        sink = io.BytesIO()
        np.save(sink, np.asarray(unit_rows(), order=order))
        yield f"npy-{order}", ({"t.npy": sink.getvalue()}, "t.npy", read)
    rows = unit_rows()
    table = embeddings.to_parquet("key", Embeddings([f"k{i}" for i in range(8)], rows, np.ones(8, np.float32)))
    yield "parquet", ({"t.parquet": table}, "t.parquet", read)
    sink = io.BytesIO()
    plain = pa.table({"embedding": pa.array(rows.tolist(), pa.list_(pa.float32(), 4)), "key": ["a"] * 8})
    pq.write_table(plain, sink, compression="none", use_dictionary=True)
    yield "parquet-plain", ({"t.parquet": sink.getvalue()}, "t.parquet", read)


def verifications() -> Iterator[tuple[str, Kind]]:
    data = pickle.dumps(([picture(), picture()] * 2, [True, np.bool_(False)]), 2)
    yield "bin", ({"v.bin": data}, "v.bin", lambda at: read_bin((at / "v.bin").read_bytes(), "v.bin"))
    rows = ([np.frombuffer(picture(), np.uint8)] * 4, np.array([1, 0]))
    yield "bin-rows", ({"v.bin": pickle.dumps(rows, 5)}, "v.bin", lambda at: read_bin((at / "v.bin").read_bytes(), "v"))
    shown = {"a/a_0001.jpg": picture(), "a/a_0002.jpg": picture(), "b/b_0001.jpg": picture()}
    lfw = {**shown, "p.txt": b"1 1\na 1 2\na 1 b 1\n"}
    yield "pairs", (lfw, "p.txt", lambda at: read_pairs(LocalStore(str(at)), "p.txt"))
    plain = {**shown, "p.csv": b"a/a_0001.jpg,a/a_0002.jpg,1\na/a_0001.jpg,b/b_0001.jpg,0\n"}
    yield "pairs-csv", (plain, "p.csv", lambda at: read_pairs(LocalStore(str(at)), "p.csv"))
    faces = {
        "loose_crop/1.jpg": picture(), "loose_crop/2.jpg": picture(),
        "meta/ijbc_face_tid_mid.txt": b"1.jpg 10 7\n2.jpg 20 8\n",
        "meta/ijbc_name_5pts_score.txt": b"1.jpg 4 5 11 5 8 9 5 12 10 12 0.9\n2.jpg 4 5 11 5 8 9 5 12 10 12 0.8\n",
        "meta/ijbc_template_pair_label.txt": b"10 20 1\n20 10 0\n",
    }  # fmt: skip
    for name in [name for name in faces if name.startswith("meta")]:
        yield f"ijb-{name[10:14]}", (faces, name, _read_ijb)
    labels = classes(0, 4, 2, [])
    table = b"identity,age,who\n0,1.5,a\n1,2,b\n2,,c\n"
    yield "labels", ({"l.csv": table}, "l.csv", lambda at: read_labels(str(at / "l.csv"), STORAGE, labels))


def _read_ijb(at: Path) -> None:
    store = LocalStore(str(at))
    faces = ijb.read_faces(store, "ijbc")
    for number in range(len(faces.images)):
        ijb._crop(store, faces, number, 16)
    ijb.read_pairs(store, "ijbc", faces.templates_M)


def sources() -> Iterator[tuple[str, Kind]]:
    records, index = b"", ""
    parts = [recordio.labelled(0, (4, 5)), *(recordio.image(i, i % 2, picture()) for i in (1, 2, 3))]
    for number, part in enumerate(parts):
        index += f"{number}\t{len(records)}\n"
        records += part
    files = {"train.rec": records, "train.idx": index.encode()}
    for name in files:
        yield f"recordio-{name[6:]}", (files, name, _read_records)
    sink = io.BytesIO()
    pq.write_table(pa.table({"image": [picture()] * 4}), sink)
    yield "faces-parquet", ({"f.parquet": sink.getvalue()}, "f.parquet", _read_faces)


def _read_records(at: Path) -> None:
    images = RecordImages(LocalStore(str(at)))
    assert images.num_classes
    assert images.fingerprint
    for item in images.stretch(1, 0, images.num_images):
        item.read()


def _read_faces(at: Path) -> None:
    config = configuration.load(None, ["run.dir=unused", f"embed.source={at}"])
    list(gallery.read_chunk(Chunk("parquet", ("f.parquet",)), config))


def models(scratch: Path) -> Iterator[tuple[str, Kind]]:
    path, _ = saved(scratch / "m.onnx", *face_nodes(), [YAW, QUALITY])
    onnx = {"m.onnx": Path(path).read_bytes()}
    yield "onnx", (onnx, "m.onnx", _read_recognizer)
    yield "onnx-attributes", (onnx, "m.onnx", lambda at: OnnxAttributes(*_file(at / "m.onnx")))
    network = iresnet.build("small", 16, 4)
    described = {"backbone": "small", "image_size": 16, "embedding_dim": 4}
    weights = own_file.to_bytes(network, trained.ARCHITECTURE, described)
    yield "weights", ({"w": weights}, "w", lambda at: trained._built((at / "w").read_bytes(), "w"))
    tensors = {"a": torch.arange(4.0), "b": torch.ones(2, 2, dtype=torch.float16)}
    kept = safetensors.torch.save(tensors)
    yield "safetensors", ({"w.safetensors": kept}, "w.safetensors", _read_tensors)
    for zipped in (True, False):
        sink = io.BytesIO()
        torch.save(tensors, sink, _use_new_zipfile_serialization=zipped)
        yield f"pth-{'zip' if zipped else 'old'}", ({"w.pth": sink.getvalue()}, "w.pth", _read_tensors)


def _file(path: Path) -> tuple[str, str]:
    return str(path), hashlib.sha256(path.read_bytes()).hexdigest()


def _read_recognizer(at: Path) -> None:
    recognizer = ArcFaceRecognizer(*_file(at / "m.onnx"))
    recognizer.features_of(torch.zeros(2, 3, recognizer.image_size, recognizer.image_size))


def _read_tensors(at: Path) -> None:
    (path,) = at.iterdir()
    pretrained.read_tensors(path)


def runs(scratch: Path) -> Iterator[tuple[str, Kind]]:
    """The records of a finished run; the run itself is read."""
    run = color_run(scratch / "run", "synthesis.min_hash_distance=1")
    make_dataset(run)
    run.record("embed", [{"event": "problem", "key": "a", "problem": "b"}, {"faces": 3}])
    files = {name: run.store.read(name) for name in run.store.list()}
    names = ("config.yaml", "provenance.json", "dataset/index.json", "dataset/fingerprint.json", "records/embed.jsonl")
    for name in (*names, "dataset/_done/shard-000001.json"):
        yield f"run-{Path(name).name}", (files, name, _read_run)
    for name in ("dataset/parquet/shard-000001.parquet", "dataset/webdataset/shard-000001.tar"):
        yield f"shard{Path(name).suffix}", ({name: files[name]}, name, _read_shard)
    told = MARKER.to_bytes()
    yield "marker", ({"m": told}, "m", lambda at: Marker.from_bytes((at / "m").read_bytes(), "m"))
    note = Quarantine(1, 2, "why", "when").to_bytes()
    yield "quarantine", ({"q": note}, "q", lambda at: Quarantine.from_bytes((at / "q").read_bytes(), "q"))
    known = b'{"rates": {"embed_images_per_second": 3.5}, "settings": {"a": 1}, "measured_on": {"device": "x"}}'
    yield "rates", ({"r.json": known}, "r.json", lambda at: rates.read_file(str(at / "r.json"), STORAGE))


def _read_run(at: Path) -> None:
    run = existing_run(str(at))
    status(run)
    verify(run, deep=False)
    open_source(run)


def _read_shard(at: Path) -> None:
    store = open_store(str(at))
    for name in store.list():
        from_bytes(store.read(name), name)
