"""What the independent judge compares images with: its embedding of one image of each reference, drawn beforehand.

The judge lives on another hypersphere than the references, so an identity is known to it by a picture only. Anchors are
drawn in blocks of identities, once per run: with 64 images per identity they cost a sixty-fourth of the dataset.

N: identities, I: identities of a block, d: dimension of the judge's embeddings.
"""

import io

import numpy as np
from numpy.typing import NDArray

from hyperface.dataset import jpeg
from hyperface.dataset.plan import Plan, image_seed
from hyperface.models.protocols import Models
from hyperface.run import RunError
from hyperface.storage import Store
from hyperface.synthesis.drawing import IMAGE_FAILURES, Drawing
from hyperface.synthesis.quality import is_blank

IDENTITIES_PER_BLOCK = 1024
ANCHOR = 2**33
"""In the place of an image's number: the seed of the anchor."""


def num_blocks(plan: Plan) -> int:
    return -(-plan.num_identities // IDENTITIES_PER_BLOCK)


def block_file(block: int) -> str:
    return f"synthesis/anchors/block-{block:06d}.npy"


def missing_blocks(store: Store, plan: Plan) -> list[int]:
    """The blocks that are not drawn yet, found by one listing."""
    there = store.list("synthesis/anchors")
    return [block for block in range(num_blocks(plan)) if block_file(block) not in there]


def make_block(
    store: Store, plan: Plan, block: int, references_Nd: NDArray[np.float32], models: Models, drawing: Drawing
) -> None:
    """Draw the anchors of a block and write the judge's embeddings; whoever comes second changes nothing."""
    first = block * IDENTITIES_PER_BLOCK
    rows = range(first, min(first + IDENTITIES_PER_BLOCK, plan.num_identities))
    batches = [rows[i : i + drawing.batch_size] for i in range(0, len(rows), drawing.batch_size)]
    found = [_anchors(plan, list(batch), references_Nd, models, drawing) for batch in batches]
    sink = io.BytesIO()
    np.save(sink, np.concatenate(found), allow_pickle=False)
    store.put_new(block_file(block), sink.getvalue())


def _anchors(
    plan: Plan, rows: list[int], references_Nd: NDArray[np.float32], models: Models, drawing: Drawing
) -> NDArray[np.float32]:
    """[I, d]; NaN for an identity whose anchor could not be drawn: the judge refuses all of its images."""
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
    """{row: image as it would be stored}, without those that could not be drawn."""
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


def read_anchors(store: Store, plan: Plan) -> NDArray[np.float32]:
    """The anchors of all identities, float32 [N, d].

    Raises:
        RunError: a block is missing or damaged.
    """
    blocks = []
    for block in range(num_blocks(plan)):
        name = block_file(block)
        try:
            found = np.load(io.BytesIO(store.read(name)), allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise RunError(f"{store.uri(name)}: cannot be read ({error}); delete it and run the job again") from error
        blocks.append(found)
    anchors_Nd = np.concatenate(blocks).astype(np.float32)
    if len(anchors_Nd) != plan.num_identities:
        raise RunError(
            f"{store.uri('synthesis/anchors')}: must hold {plan.num_identities} anchors; it has {len(anchors_Nd)}; "
            "delete the folder and run the job again"
        )
    return anchors_Nd
