"""Sources of the attributes of a dataset: the toy world's own reader, a model of attributes, a table of labels.

Shape legend: I identities, G faces of the gallery, N images, D embedding dimension, A attributes.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from hyperface.audit.attributes import Attributes, Column, labels_file, read_labels
from hyperface.audit.image_embeddings import Stored
from hyperface.config import AuditConfig, StorageConfig, local_path
from hyperface.dataset.classes import Classes
from hyperface.models.attribute_model import AttributeModel


def load_attribute_model(config: AuditConfig) -> AttributeModel | None:
    """The model `audit.attribute_path`; None unless audit.attributes=onnx. Raises ModelError."""
    if config.attributes != "onnx":
        return None
    return AttributeModel(local_path(config.attribute_path), config.attribute_sha256, config.attribute_names)


def toy_can_read(config: AuditConfig, recognizer: str) -> bool:
    """Return whether attributes are wanted from, and can be read in, the embeddings of the recogniser with this
    fingerprint."""
    from hyperface.models.toy.weights import SHA256

    return config.attributes in ("auto", "toy") and recognizer == SHA256["recognizer"]


def by_toy(
    identities_I: NDArray[np.int64], centres_ID: NDArray[np.float32], gallery_GD: NDArray[np.float32] | None
) -> Attributes:
    """Read the attributes that the toy world's reader sees in the centres of the identities, and in the gallery."""
    from hyperface.models.toy.renderer import IDENTITY_TRAITS

    traits_IA = _toy_traits(centres_ID)
    columns = [Column(name, traits_IA[:, a], identities_I) for a, name in enumerate(IDENTITY_TRAITS)]
    of_gallery_GA = None if gallery_GD is None else _toy_traits(gallery_GD)
    gallery = {} if of_gallery_GA is None else {name: of_gallery_GA[:, a] for a, name in enumerate(IDENTITY_TRAITS)}
    return Attributes("the toy world's reader of traits", "identity", columns, gallery, [])


def by_model(names: list[str], stored: Stored, gallery_GA: NDArray[np.float32] | None) -> Attributes:
    """Return the attributes that a model reads in every image, and in the pictures of the gallery."""
    values_NA = stored.rows_ND
    columns = [Column(name, values_NA[:, a].astype(np.float64), stored.identities_N) for a, name in enumerate(names)]
    gallery = {} if gallery_GA is None else {name: gallery_GA[:, a].astype(float) for a, name in enumerate(names)}
    notes = [f"attributes of {len(stored.without)} images: the model gives NaN"] if stored.without else []
    return Attributes("a model of attributes", "image", columns, gallery, notes)


def digest(config: AuditConfig, storage: StorageConfig) -> str:
    """SHA-256 of the table `audit.labels`. Raises ConfigError."""
    return hashlib.sha256(labels_file(config.labels, storage)).hexdigest()


def by_labels(config: AuditConfig, storage: StorageConfig, classes: Classes) -> Attributes:
    """The table `audit.labels`. Raises ConfigError."""
    return read_labels(config.labels, storage, classes)


def _toy_traits(rows_ND: NDArray[np.float32]) -> NDArray[np.float64]:
    import torch

    from hyperface.models.toy.render_generator import load_inverter

    inverter = load_inverter()[0]
    with torch.inference_mode():
        blocks = [inverter(torch.from_numpy(np.array(rows_ND[i : i + 4096]))) for i in range(0, len(rows_ND), 4096)]
    traits_NA: NDArray[np.float64] = torch.cat(blocks).double().numpy()
    return traits_NA
