"""Any model of face attributes as an ONNX file, named by path and SHA-256: aligned faces to numbers.

It takes what an ArcFace-style recogniser takes (`arcface.py`): RGB, (x - 127.5) / 127.5, NCHW.

Shape legend: B images, S pixels (the model's), A attributes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hyperface.errors import ModelError
from hyperface.models.arcface import in_batches, input_shape, to_signal
from hyperface.models.onnx_file import open_session, tried


class AttributeModel:
    """Aligned faces to numbers; fits where a recogniser embeds (`hyperface.audit.image_embeddings.Network`)."""

    def __init__(self, path: str, sha256: str, names: Sequence[str]) -> None:
        """Load and try the model.

        Raises:
            ModelError: the file cannot be read, has another SHA-256, or gives another number of numbers than there are
                names.
        """
        self.fingerprint, self.names = sha256.lower(), list(names)
        self.embedding_dim = len(self.names)
        self._session = open_session(path, sha256, ("audit.attribute_path", "audit.attribute_sha256"))
        self._input = self._session.get_inputs()[0].name
        self._fixed, self.image_size = input_shape(path, self._session)
        blank = np.zeros((self._fixed or 1, self.image_size, self.image_size, 3), np.uint8)
        found = list(tried(path, self._session, to_signal(blank))[0].shape)
        if found != [len(blank), len(self.names)]:
            wanted = f"audit.attribute_names has {len(self.names)} names ({', '.join(self.names)})"
            rule = f"the first output must be [batch, attributes]; for {len(blank)} image(s) it is {found}"
            raise ModelError(f"{path}: {rule}, and {wanted}; name each of its numbers")

    def embed(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 RGB [B, S, S, 3] -> float32 [B, A], as the model returns them."""
        return in_batches(self._run, images_BHWC, self._fixed, self.embedding_dim)

    def _run(self, batch_BCHW: NDArray[np.float32]) -> NDArray[np.float32]:
        rows_BA: NDArray[np.float32] = self._session.run(None, {self._input: batch_BCHW})[0]
        return rows_BA
