"""The published weights of Vec2Face: a PyTorch file whose names are brought to those of `vec2face_network.py`.

Only tensors are read; no code in the file runs.
"""

import argparse
import io
import re
from collections.abc import Mapping

from torch import Tensor

from hyperface.errors import ModelError
from hyperface.models import torch_file

NETWORK = "model_vec2face"
"""Key under which a checkpoint of the published training holds the generator, beside discriminator and optimisers."""
LEFT_OUT = ("token_emb.position_ids", "center_token.", "patch_embed.")
"""Parameters that no image depends on: the numbers 0, 1, 2, ... and layers that are never used."""
COARSEST = 4
"""The last of the image decoder's levels, which the file numbers from the finest."""

# (published, ours): the first that fits is replaced, in this order.
NAMES = (
    ("latent_prior_proj_f.", "project."),
    ("feature_token.", "expand."),
    ("token_emb.position_embeddings.weight", "position"),
    ("token_emb.LayerNorm.", "entry_norm."),
    ("blocks.", "encoder."),
    ("norm.", "encoder_norm."),
    ("decoder_embed.", "bridge."),
    ("decoder_pos_embed_learned", "decoder_position"),
    ("decoder_blocks.", "decoder."),
    ("decoder_norm.", "decoder_norm."),
    ("im_decoder_proj.", "squeeze."),
    ("im_decoder.conv_in.", "image_decoder.entry."),
    ("im_decoder.mid.block_1.", "image_decoder.middle.0."),
    ("im_decoder.mid.block_2.", "image_decoder.middle.1."),
    ("im_decoder.norm_out.", "image_decoder.exit_norm."),
    ("im_decoder.conv_out.", "image_decoder.exit."),
)
INSIDE = (
    (".attn.qkv.", ".qkv."),
    (".attn.proj.", ".out."),
    (".mlp.fc1.", ".fc1."),
    (".mlp.fc2.", ".fc2."),
    (".nin_shortcut.", ".short."),
)
_LEVEL = re.compile(r"im_decoder\.up\.(\d+)\.(block|upsample\.conv)\.")


def is_pickle(data: bytes) -> bool:
    """Return whether a file is PyTorch's, a zip archive or an old pickle, and not safetensors'."""
    return data[:4] == b"PK\x03\x04" or data[:1] == b"\x80"


def read(data: bytes, path: str) -> dict[str, Tensor]:
    """The generator's tensors under our names.

    Raises:
        ModelError: damaged, a pickle of other objects, which is never run, or without tensors of a generator.
    """
    # The training keeps its arguments in the file; a namespace does nothing when it is read.
    found = torch_file.read(io.BytesIO(data), path, [argparse.Namespace])
    tensors = found.get(NETWORK, found) if isinstance(found, dict) else None
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ModelError(
            f"{path}: must hold a dictionary of tensors, itself or as {NETWORK!r}; give Vec2Face's weights"
        )
    return renamed(tensors)


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published names -> ours; a name that Vec2Face does not have stays as it is."""
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(LEFT_OUT)}
    ours = {_ours(name): tensor for name, tensor in kept.items()}
    if "decoder_position" in ours and ours["decoder_position"].dim() == 3:
        ours["decoder_position"] = ours["decoder_position"][0]
    return ours


def _ours(name: str) -> str:
    level = _LEVEL.match(name)
    if level:
        part = "residuals." if level[2] == "block" else "grow."
        name = f"image_decoder.levels.{COARSEST - int(level[1])}.{part}{name[level.end() :]}"
    for published, ours in NAMES:
        if name.startswith(published):
            name = ours + name[len(published) :]
            break
    for published, ours in INSIDE:
        name = name.replace(published, ours)
    return name


def published(name: str) -> str:
    """Return the published name for one of ours."""
    level = re.match(r"image_decoder\.levels\.(\d+)\.(residuals|grow)\.", name)
    if level:
        part = "block." if level[2] == "residuals" else "upsample.conv."
        name = f"im_decoder.up.{COARSEST - int(level[1])}.{part}{name[level.end() :]}"
    for theirs, ours in NAMES:
        if name.startswith(ours):
            name = theirs + name[len(ours) :]
            break
    inside = INSIDE if name.startswith(("blocks.", "decoder_blocks.")) else INSIDE[-1:]
    for theirs, ours in inside:
        name = name.replace(ours, theirs)
    return name


def shown(name: str) -> str:
    """A weight in a message: our name, and the published one where that is another."""
    theirs = published(name)
    return name if theirs == name else f"{name} ({theirs} as published)"
