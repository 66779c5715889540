"""What changes during training: functions of the images seen, so that batch and number of workers may change."""

from __future__ import annotations

import math

from .options import Ramp, TrainingOptions


def at(value: float | Ramp, images: int, options: TrainingOptions) -> float:
    """`value` of `options` after `images` images."""
    if not isinstance(value, Ramp):
        return value
    share = min(1.0, images / (value.images or options.images))
    if value.rest:
        share = max(0.0, (share - value.rest) / (1 - value.rest))
    if value.shape == "cosine":
        share = (1 - math.cos(math.pi * share)) / 2
    return value.start + (value.end - value.start) * share


def learning_rate_factor(options: TrainingOptions, images: int) -> float:
    """1, then linearly to 0 over the last `learning_rate_decay` of the images."""
    if not options.learning_rate_decay:
        return 1.0
    return min(1.0, (1 - images / options.images) / options.learning_rate_decay)


def ema_decay(options: TrainingOptions, images: int, half_life: float | Ramp | None = None) -> float:
    """Decay for one step, 0.5^(batch / half-life), the half-life ramped up with `images` (Karras et al. 2020).

    Of the first average, unless another `half_life` is given.
    """
    half_life = at(options.ema_half_life if half_life is None else half_life, images, options)
    half_life = min(half_life, options.ema_rampup * images)
    return float(0.5 ** (options.batch * options.d_steps / half_life)) if half_life else 0.0
