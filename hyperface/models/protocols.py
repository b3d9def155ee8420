"""The seams between the product and its models: numpy outside, any framework inside.

What gradients pass through takes and gives PyTorch's tensors.

B: images in a batch, H and W: pixels, d: embedding dimension, A: attributes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

UNIT_TOLERANCE = 1e-3
"""Largest difference between 1 and the norm of a unit embedding."""


@dataclass(frozen=True)
class Preprocessing:
    """The arithmetic that makes a network's input of the grey levels 0 to 255 of an image: (x - mean) / std."""

    color_order: Literal["RGB", "BGR"] = "RGB"
    """Order of the channels as the network takes them; images here are always RGB."""
    mean: float = 127.5
    std: float = 127.5


class Recognizer(Protocol):
    """A face recogniser: images to points on the unit hypersphere."""

    @property
    def embedding_dim(self) -> int: ...
    @property
    def image_size(self) -> int:
        """Height and width, in pixels, of the images that `embed` takes."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights file, 64 hex digits."""
        ...

    def embed(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 RGB [B, H, W, 3] -> float32 [B, d], rows of norm 1."""
        ...


class FeatureRecognizer(Recognizer, Protocol):
    """A recogniser that also gives what it computes before it is brought to norm 1, and says what it takes."""

    @property
    def preprocessing(self) -> Preprocessing: ...

    def features(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 RGB [B, H, W, 3] -> float32 [B, d]: `embed` is this, divided by its norm."""
        ...


class Generator(Protocol):
    """A conditional generator: a point on the hypersphere and a seed to an image.

    An image depends on its embedding and its seed alone, never on the batch it is drawn in, but
    for the rounding of floating-point sums (a grey level here and there): batches are fixed by the plan.
    """

    @property
    def embedding_dim(self) -> int: ...
    @property
    def image_size(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...

    def generate(self, embeddings_BD: NDArray[np.float32], seeds_B: Sequence[int]) -> NDArray[np.uint8]:
        """Unit rows float32 [B, d] and B integer seeds in [0, 2^63) -> uint8 RGB [B, H, W, 3].

        A picture that cannot be drawn (its latents are not finite) comes back black, and the others of its batch whole.
        """
        ...


@runtime_checkable
class FeatureGenerator(Protocol):
    """A generator of features: `generate` also takes rows of other norms than 1, as the recogniser gives them.

    A row of norm 1 is a direction, of a feature whose norm nobody knows.
    """

    takes_norms: Literal[True]


@runtime_checkable
class Decoder(Protocol):
    """A generator through which gradients pass from the picture to the embedding."""

    def decode(self, embeddings_BD: "Tensor", seeds_B: Sequence[int]) -> "Tensor":
        """Rows [B, d], as `generate` takes them, and B seeds -> images [B, 3, H, W] in [-1, 1], what `generate` rounds.

        Rows come on the CPU; images are where the networks are. An image depends on its row and seed alone.
        """
        ...


@runtime_checkable
class DifferentiableRecognizer(Protocol):
    """A recogniser through which gradients pass from the embedding to the picture."""

    def features_of(self, images_BCHW: "Tensor") -> "Tensor":
        """Images [B, 3, H, W] in [-1, 1], RGB, on any device -> what `features` gives, [B, d]."""
        ...


@dataclass(frozen=True)
class AttributeRange:
    """The values in which a reader of an attribute can be believed, and the distance from a target that is near
    enough."""

    low: float
    high: float
    tolerance: float
    """Largest distance from a target that is near enough; above 0, in the attribute's unit."""
    at_least: bool = False
    """True where a value above the target is as good: quality, sharpness."""

    def miss(self, value: float, target: float) -> float:
        """Return the distance by which a value misses a target, in the attribute's unit; 0 above it where more is as
        good."""
        return max(target - value, 0.0) if self.at_least else abs(value - target)


class AttributeReader(Protocol):
    """Attributes of a face, read from its pixels so that gradients pass."""

    @property
    def image_size(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...

    @property
    def ranges(self) -> Mapping[str, AttributeRange]:
        """{attribute: range}, in the order of what `values` gives."""
        ...

    def values(self, images_BCHW: "Tensor") -> "Tensor":
        """Images [B, 3, H, W] in [-1, 1], RGB, on any device -> [B, A]."""
        ...


@dataclass(frozen=True)
class Crop:
    """The crop that an aligner made of one picture."""

    image_HWC: NDArray[np.uint8] | None
    """uint8 RGB [S, S, 3]; None when no face was found."""
    faces: int
    """Faces in the picture; 1 where none are looked for."""


class Aligner(Protocol):
    """Pictures of any size to face crops of the size and place that the recogniser is used to."""

    @property
    def image_size(self) -> int:
        """Height and width S of the crops, in pixels."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 of whatever decides the crops besides the picture."""
        ...

    def align(self, pictures_BHWC: NDArray[np.uint8]) -> list[Crop]:
        """uint8 RGB [B, H, W, 3] -> B crops. The crop of a picture does not depend on its batch."""
        ...


@dataclass(frozen=True)
class Models:
    """The models that make a dataset."""

    generator: Generator
    recognizer: Recognizer
    aligner: Aligner | None = None
    """Aligner of the pictures; None: the generator draws what the recogniser takes."""
    judge: Recognizer | None = None
    """Judge of the pictures; None: nobody but the recogniser is asked."""
    attributes: AttributeReader | None = None
    """Reader of the controlled attributes; None: no attribute is controlled."""
