"""Held-out verification sets of the toy world, for recognisers of 64 x 64 images; they take the place that LFW and its
like have for photos.

A fold has 40 identities of its own, 5 views of each, 300 genuine and 300 impostor pairs. Identities are drawn from the
whole range of traits, as those of a diverse gallery are. Both kinds of pairs are chosen by one rule, so that nothing
but identity tells them apart.
- easy: half of the nuisance that recognisers are trained with;
- pose: the two faces of a pair look to different sides, or one looks ahead (30 to 70 degrees apart);
- light: the lamp stands on different sides of the two faces, in a room darker than any that recognisers are trained in;
- hard: all of the nuisance, and impostors that look alike: the traits of one are half-way to those of the other.

Identities and views are drawn from seeds that no training, gallery or other set uses.

Shape legend: F folds, I = IDENTITY_DIM, N = NUISANCE_DIM, B images of a set, P pairs, H = W = 64 pixels.
"""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyperface.models.toy.renderer import (
    IMAGE_SIZE,
    NUISANCE_TRAITS,
    render,
    sample_identities,
    sample_nuisance,
)
from hyperface.reading import numpy_file
from hyperface.storage import Store
from hyperface.verification.pair_set import PairSet

TOY_SETS = ("easy", "pose", "light", "hard")
FOLDS = 10
IDENTITIES = 40
"""Identities of a fold."""
VIEWS = 5
PAIRS = 300
"""Genuine pairs of a fold, and as many impostor ones."""

_DRAWING = 1
"""Version of the drawing, raised with every change of the renderer that changes pixels: images that were kept are drawn
again."""
# Of a view, in standard deviations of the renderer's nuisance: two on the one side, one ahead, two on the other.
_SIDES = np.array([-1.0, -0.8, 0.0, 0.8, 1.0], np.float32)


@dataclass(frozen=True)
class _Fold:
    identities_BI: NDArray[np.float32]
    nuisance_BN: NDArray[np.float32]
    seeds_B: list[int]
    first_P: NDArray[np.int64]
    second_P: NDArray[np.int64]
    same_P: NDArray[np.bool_]


def toy_sets(store: Store | None = None, prefix: str = "", folds: int = FOLDS) -> Iterator[PairSet]:
    """The four sets, one after the other; see `toy_set`."""
    for name in TOY_SETS:
        yield toy_set(name, store, prefix, folds)


def toy_set(name: str, store: Store | None = None, prefix: str = "", folds: int = FOLDS) -> PairSet:
    """Return a set by name: 200 images and 600 pairs a fold, the same on every call.

    Args:
        store: keeps the drawn images, under `prefix`, so that they are found again; None: they are not kept.
        folds: fewer make a smaller set; its folds are the first ones of the whole set.

    Raises:
        ValueError: no such set.
    """
    if name not in TOY_SETS:
        raise ValueError(f"{name}: is no set of the toy world; there are {', '.join(TOY_SETS)}")
    parts = [_fold(name, fold) for fold in range(folds)]
    size = IDENTITIES * VIEWS
    return PairSet(
        name=name,
        source=f"toy world, held-out set {name}, {folds} folds of {IDENTITIES} identities x {VIEWS} views",
        images=_images(name, parts, store, prefix),
        first_P=np.concatenate([part.first_P + fold * size for fold, part in enumerate(parts)]),
        second_P=np.concatenate([part.second_P + fold * size for fold, part in enumerate(parts)]),
        same_P=np.concatenate([part.same_P for part in parts]),
    )


def _fold(name: str, fold: int) -> _Fold:
    seed = int.from_bytes(hashlib.sha256(f"held-out {name} {fold}".encode()).digest()[:6])
    identities_PI = _identities(name, seed)
    seeds_B = [seed + 1 + i for i in range(IDENTITIES * VIEWS)]
    rng = np.random.default_rng((seed, 3))
    genuine_P2, impostor_P2 = _genuine(name, rng), _impostors(name, rng)
    pairs_P2 = np.stack([genuine_P2, impostor_P2], axis=1).reshape(-1, 2)  # any part of a fold has both kinds
    return _Fold(
        identities_BI=identities_PI.repeat(VIEWS, axis=0),
        nuisance_BN=_nuisance(name, seeds_B),
        seeds_B=seeds_B,
        first_P=pairs_P2[:, 0],
        second_P=pairs_P2[:, 1],
        same_P=np.arange(2 * PAIRS) % 2 == 0,
    )


def _identities(name: str, seed: int) -> NDArray[np.float32]:
    drawn_PI: NDArray[np.float32] = sample_identities(IDENTITIES, seed)
    if name == "hard":
        # Every other identity is drawn half-way towards the one before it.
        drawn_PI[1::2] = (drawn_PI[::2] + drawn_PI[1::2]) / 2
    return drawn_PI


def _nuisance(name: str, seeds_B: list[int]) -> NDArray[np.float32]:
    nuisance_BN: NDArray[np.float32] = sample_nuisance(seeds_B, strength=1.0 if name == "hard" else 0.5)
    sides_B = np.tile(_SIDES, len(seeds_B) // VIEWS)
    if name == "pose":
        nuisance_BN[:, NUISANCE_TRAITS.index("yaw")] = 2.5 * sides_B
    if name == "light":
        # Beyond what training sees (2.5): within it every student is right on nearly every pair.
        nuisance_BN[:, NUISANCE_TRAITS.index("light_azimuth")] = 3.0 * sides_B
        nuisance_BN[:, NUISANCE_TRAITS.index("ambient")] = -7.0
    return nuisance_BN


def _view_pairs(name: str) -> NDArray[np.int64]:
    """Return the pairs of views [n, 2] that a set may compare: those of different sides in `pose` and `light`."""
    first, second = np.triu_indices(VIEWS, 1)
    if name in ("pose", "light"):
        apart = np.sign(_SIDES[first]) != np.sign(_SIDES[second])
        first, second = first[apart], second[apart]
    return np.stack([first, second], axis=1)


def _genuine(name: str, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw [PAIRS, 2] positions in the fold: different pairs of views, each of one identity."""
    views_n2 = _view_pairs(name)
    every = np.arange(IDENTITIES)[:, None, None] * VIEWS + views_n2
    return rng.permutation(every.reshape(-1, 2))[:PAIRS]


def _impostors(name: str, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw [PAIRS, 2] positions in the fold: different pairs of two identities, with views as genuine pairs have
    them."""
    views_n2 = _view_pairs(name)
    views_n2 = np.concatenate([views_n2, views_n2[:, ::-1]])
    one, other = np.triu_indices(IDENTITIES, 1)
    if name == "hard":
        one, other = np.arange(0, IDENTITIES, 2), np.arange(1, IDENTITIES, 2)
    people_n2 = np.stack([one, other], axis=1)
    every = people_n2[:, None] * VIEWS + views_n2
    return rng.permutation(every.reshape(-1, 2))[:PAIRS]


def _images(name: str, parts: list[_Fold], store: Store | None, prefix: str) -> NDArray[np.uint8]:
    """Return the images of all folds, uint8 RGB [B, H, W, 3]; read where they were kept."""
    identities_BI = np.concatenate([part.identities_BI for part in parts])
    nuisance_BN = np.concatenate([part.nuisance_BN for part in parts])
    seeds_B = [seed for part in parts for seed in part.seeds_B]
    if store is None:
        return render(identities_BI, nuisance_BN, seeds_B)
    drawn = hashlib.sha256(identities_BI.tobytes() + nuisance_BN.tobytes() + str((_DRAWING, seeds_B)).encode())
    at = "/".join(filter(None, [prefix.strip("/"), f"toy-{name}-{drawn.hexdigest()[:12]}.npz"]))
    kept = _kept(store, at, len(seeds_B))
    if kept is None:
        kept = render(identities_BI, nuisance_BN, seeds_B)
        file = io.BytesIO()
        np.savez(file, images=kept)
        store.put(at, file.getvalue())
    return kept


def _kept(store: Store, name: str, count: int) -> NDArray[np.uint8] | None:
    """Return the images that were kept; None where there are none, or their file is damaged: they are drawn again."""
    if not store.exists(name):
        return None
    try:
        images_BHWC: NDArray[np.uint8] = numpy_file.arrays(store.read(name))["images"]
    except (ValueError, KeyError):
        return None
    right = images_BHWC.dtype == np.uint8 and images_BHWC.shape == (count, IMAGE_SIZE, IMAGE_SIZE, 3)
    return images_BHWC if right else None
