"""Anchors, with which the independent judge compares images: its embedding of one image of each reference, drawn
beforehand.

The judge lives on another hypersphere than the references, so an identity is known to it by a picture only. Anchors are
drawn in blocks of identities, once per run: with 64 images per identity they cost a sixty-fourth of the dataset.

N: identities, I: identities of a block, d: dimension of the judge's embeddings.
"""

import io

import numpy as np
from numpy.typing import NDArray

from hyperface.dataset import jpeg
from hyperface.dataset.dataset import Dataset
from hyperface.dataset.plan import Plan, image_seed
from hyperface.errors import RunError
from hyperface.models.protocols import Models
from hyperface.reading import numpy_file
from hyperface.reading.one_line import one_line
from hyperface.synthesis.drawing import IMAGE_FAILURES, Drawing
from hyperface.synthesis.quality import is_blank

IDENTITIES_PER_BLOCK = 512
ANCHOR = 2**33
"""Number of the anchor in the place of an image's: its seed is made from it."""


def num_blocks(plan: Plan) -> int:
    return -(-plan.num_identities // IDENTITIES_PER_BLOCK)


def folder(fingerprint: str) -> str:
    """Return where the anchors of a dataset lie; those of other models or settings are never taken for them."""
    return f"synthesis/anchors/{fingerprint[:16]}"


def block_file(fingerprint: str, block: int) -> str:
    return f"{folder(fingerprint)}/block-{block:06d}.npy"


def missing_blocks(dataset: Dataset, fingerprint: str | None) -> list[int]:
    """Return the blocks that are not drawn yet, found by one listing; all, where the dataset has no fingerprint yet."""
    there = dataset.store.list(folder(fingerprint)) if fingerprint else {}
    return [block for block in range(num_blocks(dataset.plan)) if block_file(fingerprint or "", block) not in there]


def make_block(
    dataset: Dataset,
    fingerprint: str,
    block: int,
    references_Nd: NDArray[np.float32],
    models: Models,
    drawing: Drawing,
) -> int:
    """Draw the anchors of a block and write the judge's embeddings; whoever comes second changes nothing.

    Returns:
        How many identities got no anchor.

    Raises:
        RunError: none got one: the generator is broken, and nothing is written.
    """
    store, plan, name = dataset.store, dataset.plan, block_file(fingerprint, block)
    first = block * IDENTITIES_PER_BLOCK
    rows = range(first, min(first + IDENTITIES_PER_BLOCK, plan.num_identities))
    batches = [rows[i : i + drawing.batch_size] for i in range(0, len(rows), drawing.batch_size)]
    found = [_anchors(plan, list(batch), references_Nd, models, drawing) for batch in batches]
    anchors_Id = np.concatenate(found)
    without = int(np.isnan(anchors_Id).any(1).sum())
    if without == len(rows):
        raise RunError(f"{store.uri(name)}: not one of {len(rows)} anchors could be drawn; check the generator")
    sink = io.BytesIO()
    np.save(sink, anchors_Id, allow_pickle=False)
    store.put_new(name, sink.getvalue())
    return without


def _anchors(
    plan: Plan, rows: list[int], references_Nd: NDArray[np.float32], models: Models, drawing: Drawing
) -> NDArray[np.float32]:
    """Return embeddings [I, d]; NaN for an identity whose anchor could not be drawn: the judge refuses all of its
    images."""
    judge = models.judge
    assert judge is not None
    anchors_Id = np.full((len(rows), judge.embedding_dim), np.nan, dtype=np.float32)
    for attempt in range(drawing.max_attempts):
        pending = [i for i in range(len(rows)) if not np.isfinite(anchors_Id[i]).all()]
        if not pending:
            break
        seeds = [image_seed(plan.seed, plan.first_identity + rows[i], ANCHOR, attempt) for i in pending]
        seen = _seen(references_Nd[[rows[i] for i in pending]], seeds, models, drawing.jpeg_quality)
        if seen:
            anchors_Id[[pending[n] for n in seen]] = judge.embed(np.stack(list(seen.values())))
    return anchors_Id


def _seen(
    references_Id: NDArray[np.float32], seeds: list[int], models: Models, quality: int
) -> dict[int, NDArray[np.uint8]]:
    """Return {row: image as it would be stored}, without those that could not be drawn."""
    try:
        pictures = models.generator.generate(references_Id, seeds)
    except IMAGE_FAILURES:
        if len(seeds) == 1:
            return {}
        singly = (_seen(references_Id[[i]], [seed], models, quality) for i, seed in enumerate(seeds))
        return {i: one[0] for i, one in enumerate(singly) if one}
    there = [i for i, picture in enumerate(pictures) if not is_blank(picture)]
    if models.aligner is None or not there:
        images = {i: pictures[i] for i in there}
    else:
        crops = zip(there, models.aligner.align(pictures[there]), strict=True)
        images = {i: crop.image_HWC for i, crop in crops if crop.image_HWC is not None}
    return {i: jpeg.decode(jpeg.encode(image, quality)) for i, image in images.items()}


def read_anchors(dataset: Dataset, fingerprint: str, dim: int) -> NDArray[np.float32]:
    """Read the anchors of all identities, float32 [N, d].

    Args:
        dim: dimension of the judge's embeddings.

    Raises:
        RunError: a block is missing or damaged.
    """
    store, plan, blocks = dataset.store, dataset.plan, []
    for block in range(num_blocks(plan)):
        name = block_file(fingerprint, block)
        try:
            found = numpy_file.array(store.read(name))
        except (OSError, ValueError) as error:
            what = f"cannot be read ({one_line(error)})"
            raise RunError(f"{store.uri(name)}: {what}; delete it and run the job again") from error
        blocks.append(found)
    rows = [min(IDENTITIES_PER_BLOCK, plan.num_identities - b * IDENTITIES_PER_BLOCK) for b in range(len(blocks))]
    if [found.shape for found in blocks] != [(count, dim) for count in rows]:
        raise RunError(
            f"{store.uri(folder(fingerprint))}: must hold {plan.num_identities} anchors of dimension {dim}, "
            f"{IDENTITIES_PER_BLOCK} a block; delete the folder and run the job again"
        )
    anchors_Nd: NDArray[np.float32] = np.concatenate(blocks).astype(np.float32)
    return anchors_Nd
