"""One piece of the experiment, in this process: from gallery to verified student, in a run of its own."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hyperface.audit import separation
from hyperface.audit.image_embeddings import rows_of
from hyperface.dataset import Dataset, jpeg
from hyperface.dataset.plan import key
from hyperface.distributed.place import Place
from hyperface.distributed.ranks import Alone
from hyperface.errors import RunError
from hyperface.experiment import comparison as experiment
from hyperface.experiment.comparison import Arm, Piece
from hyperface.faces import gallery, source
from hyperface.faces.embeddings import to_parquet
from hyperface.models.loading import load_models
from hyperface.models.protocols import Recognizer
from hyperface.models.toy import faces
from hyperface.models.toy.recognizer import load_judge, load_recognizer
from hyperface.models.toy.render_generator import STRENGTH
from hyperface.models.trained import load_trained
from hyperface.packing import stage as packing
from hyperface.packing.partition import one_process
from hyperface.run import Run, open_run
from hyperface.run.names import GALLERY
from hyperface.run.provenance import git_sha
from hyperface.synthesis.single import make_dataset
from hyperface.training.folder import Folder
from hyperface.training.recognizer import stage as recognition
from hyperface.verification.pair_set import PairSet
from hyperface.verification.stage import verify_on
from hyperface.verification.toy_sets import toy_sets

SETS = "experiment/sets"
FACES = "faces"
"""Folder with the rendered identities of the upper bound, an ImageFolder inside the piece's run."""


def test_sets(run: Run) -> dict[str, str]:
    """Return {name: SHA-256} of the test sets, which are drawn now unless the experiment has them."""
    return {pairs.name: _digest(pairs) for pairs in _sets(run)}


def _sets(run: Run) -> Iterator[PairSet]:
    return toy_sets(run.store, SETS, run.config.experiment.folds)


def _digest(pairs: PairSet) -> str:
    whole = hashlib.sha256(pairs.first_P.tobytes() + pairs.second_P.tobytes() + pairs.same_P.tobytes())
    for batch_BHWC in pairs.batches(512):
        whole.update(batch_BHWC.tobytes())
    return whole.hexdigest()


def make_piece(run: Run, piece: Piece) -> dict[str, Any]:
    """Make everything of a piece that is not there; return its result, which is recorded last.

    Raises:
        RunError: its dataset has fewer images than the other arms' have.
    """
    own = open_run(experiment.piece_config(run.config, piece, run.store.uri(piece.folder)))
    judge = load_judge()
    if piece.arm.parts:
        own, identity = _synthesized(own, piece.arm, judge)
    else:
        own, identity = _rendered(own, judge)
    recognition.begin(own)
    if not Folder(own, "train").is_done():
        recognition.train_rank(own, Place(0, 1, Alone(), torch.device("cpu")), _silent)
    student = load_trained(own.store, own.config.train.name, "cpu")
    verified = {s.name: verify_on(s, student, own.config.evaluate.batch_size) for s in _sets(run)}
    accuracy = {name: found["accuracy"] for name, found in verified.items()}
    accuracy["mean"] = sum(accuracy.values()) / len(accuracy)
    result = {"arm": piece.arm.name, "repeat": piece.repeat, "accuracy": accuracy, "identity": identity}
    made_by = {"training": student.described, "git_sha": git_sha()}
    run.put_json(piece.result, {**result, "verified": verified, **made_by})
    return result


def _synthesized(own: Run, arm: Arm, judge: Recognizer) -> tuple[Run, dict[str, float | None]]:
    """Return the piece's run, which trains on the dataset of all its parts, and what the judge says of its
    identities."""
    parts = [open_run(config) for config in experiment.part_configs(own.config, arm)]
    for part in parts:
        _make_part(part)
    shards = [shard for part in parts for shard in Dataset.of(part)]
    identities = np.concatenate([shard.identities for shard in shards])
    wanted = own.config.packing.num_identities * own.config.synthesis.images_per_identity
    if len(identities) != wanted:
        raise RunError(f"{own}: has {len(identities)} images, and every arm must have {wanted}; see dataset/index.json")
    judged = _judged(np.concatenate([rows_of(shard.jpegs, judge, str(own)) for shard in shards]), identities)
    if len(parts) == 1:
        return own, judged
    data = ",".join(str(part) for part in parts)
    return replace(own, config=replace(own.config, train=replace(own.config.train, data=data))), judged


def _make_part(run: Run) -> None:
    """Make gallery, references and dataset of a part, as far as they are not there."""
    recognizer = load_recognizer()
    if not run.store.exists(GALLERY):
        chunks = source.plan_chunks(run.config.embed, run.config.storage)
        found = [face for chunk in chunks for face in gallery.embed_chunk(chunk, run.config, recognizer)]
        made = gallery.assemble(found, run.config.embed.num_faces)
        run.store.put_new(GALLERY, to_parquet("key", made.embeddings))
    if not packing.is_done(run):
        packing.pack_rows(run, one_process(run.config.packing.num_identities), torch.device("cpu"), _silent)
    make_dataset(run, load_models(run.config))


def _rendered(own: Run, judge: Recognizer) -> tuple[Run, dict[str, float | None]]:
    """Render identities of the renderer itself as an ImageFolder, in the poses and light that the generator draws."""
    config = own.config
    identities, each = config.packing.num_identities, config.synthesis.images_per_identity
    drawn = faces.render_faces(identities, each, config.run.seed, STRENGTH)
    encoded = [jpeg.encode(image, config.dataset.jpeg_quality) for image in drawn.images_BHWC]
    there = own.store.list(FACES)
    for row, data in enumerate(encoded):
        identity, number = divmod(row, each)
        name = f"{FACES}/{identity:07d}/{key(identity, number)}.jpg"
        if name not in there:
            own.store.put(name, data)
    rows_ND = np.concatenate([judge.embed(jpeg.decode(data)[None]) for data in encoded])
    trained_on = replace(config, train=replace(config.train, data=own.store.uri(FACES)))
    return replace(own, config=trained_on), _judged(rows_ND, drawn.labels_B)


def _judged(rows_ND: NDArray[np.float32], identities_N: NDArray[np.int64]) -> dict[str, float | None]:
    """Return how separate the identities of the images are by the judge."""
    found = separation.of_images(rows_ND, identities_N)
    means = {kind: getattr(found, kind) for kind in ("intra", "inter", "nearest_other")}
    said = {f"{kind}_cosine": None if part is None else part.mean for kind, part in means.items()}
    return {**said, "equal_error_rate": found.equal_error_rate}


def _silent(line: str) -> None:
    """Ignore a line: two stages of two pieces at once would say nothing that can be read."""
