"""The learning rate of each step."""

import math

from hyperface.config import TrainConfig


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of the step, counted from 0 over all epochs: a straight warm-up, then steps or half a
    cosine."""
    epoch = step / steps_per_epoch
    warm = min(1.0, (step + 1) / max(1.0, config.warmup_epochs * steps_per_epoch))
    match config.schedule:
        case "steps":
            falling = 0.1 ** sum(epoch >= milestone for milestone in config.milestones)
        case "cosine":
            falling = 0.5 * (1 + math.cos(math.pi * epoch / config.epochs))
    return config.learning_rate * warm * falling
