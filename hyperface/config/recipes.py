"""Named recipes of training: what `train.recipe` puts in place of the defaults of its section."""

from typing import Any

ARCFACE_R50: dict[str, Any] = {}
"""The defaults themselves: what most papers on synthetic faces train, as AdaFace's repository does on CASIA-WebFace
(SGD 0.1, momentum 0.9, weight decay 5e-4, 26 epochs, a tenth at 12, 20 and 24) with ArcFace (Deng et al., CVPR 2019:
s 64, m 0.5). The probabilities of the augmentations are AdaFace's; that of random erasing is ours."""

ADAFACE_R50: dict[str, Any] = {"head": "adaface", "margin": 0.4, "erasing": 0.0}
"""Kim, Jain and Liu, CVPR 2022: m 0.4."""

TOY: dict[str, Any] = {
    "backbone": "small",
    "embedding_dim": 128,
    "head": "cosface",
    "scale": 32.0,
    "margin": 0.3,
    "epochs": 40,
    "batch_size": 128,
    "streams": 4,
    "schedule": "cosine",
    "erasing": 0.0,
    "crop": 0.0,
    "low_resolution": 0.0,
    "photometric": 0.2,
    "precision": "float32",
}
"""A few minutes on one core for a few thousand 64 x 64 images."""

RECIPES = {"arcface_r50": ARCFACE_R50, "adaface_r50": ADAFACE_R50, "toy": TOY}
