"""ImageFolder: `0000012/0000012-0003.jpg`, one folder per identity, as torchvision and Hugging Face read it. Pure.

Readers number the classes by the sorted names of their folders. Names have seven digits, so these numbers are the
labels of `classes.csv`.
"""

from collections.abc import Iterator

from hyperface.dataset.schema import ShardImages


def files(images: ShardImages) -> Iterator[tuple[str, bytes]]:
    """Yield (name, JPEG) of every image, as stored."""
    for key, identity, jpeg in zip(images.keys, images.identities, images.jpegs, strict=True):
        yield f"{identity:07d}/{key}.jpg", jpeg
