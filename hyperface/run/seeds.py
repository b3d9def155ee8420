"""Seeds for what is drawn besides images, each for one purpose: a hash, so that no two purposes share one."""

import hashlib


def seed_of(purpose: str, *numbers: int) -> int:
    """Return a seed in [0, 2^63) made from its purpose and numbers: `seed_of("epoch", run_seed, 7)`."""
    text = " ".join([purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
