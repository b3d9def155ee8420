"""Choice of the number of images that a generator draws at a time: as many as make it faster and fit in memory."""

import time
from collections.abc import Callable

from hyperface.errors import out_of_memory

GAIN = 1.05
"""Factor by which a batch of twice the size must draw more images per second to be worth its memory."""


def best_batch_size(draw: Callable[[int], None], largest: int, clock: Callable[[], float] = time.perf_counter) -> int:
    """Try 1, 2, 4, ... images until memory is full or it no longer gets faster; of a full memory half is left free.

    Args:
        draw: draws so many images, and is done with them when it returns.
        largest: images above which there is nothing to try, at least 1.

    Returns:
        A size in [1, largest] that was tried. Raises what `draw` raises for a single image.
    """
    import torch

    draw(1)  # what is compiled or allocated once is not timed
    best, best_rate, size = 1, 0.0, 1
    while size <= largest:
        try:
            draw(size)
            began = clock()
            draw(size)
        except (MemoryError, RuntimeError) as error:
            if size == 1 or not out_of_memory(error):
                raise
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            return max(1, best // 2)  # recogniser, detector and judge need room beside it
        rate = size / max(clock() - began, 1e-9)
        if rate < best_rate * GAIN:
            break
        best, best_rate, size = size, rate, size * 2
    return best
