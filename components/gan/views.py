"""What the discriminator sees of an image: it under the augmentations of the training, its condition moved alike."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from . import ada, augmentation
from .draws import Draws
from .inputs import Inputs
from .options import TrainingOptions


def view(
    image: Tensor,
    inputs: Inputs,
    options: TrainingOptions,
    probability: Tensor | None,
    draws: Draws,
    purpose: str,
) -> tuple[Tensor, Inputs]:
    """`image` (B, C, H, W) and its inputs, augmented as `options` say; with ADA, each transform with `probability`.

    The same augmentation for the same draws and `purpose`. Where the image is moved or cut its condition is too, by
    the same numbers, so that they stay a pair; colours change in the image alone.
    """
    condition = inputs.condition
    if options.augment:
        u = draws.uniform(f"augment {purpose}", augmentation.UNIFORMS)
        image = augmentation.augment(image, u, options.augment)
        if condition is not None:
            condition = augmentation.augment(condition, u, augmentation.moving(options.augment))
    if options.ada is not None and probability is not None:
        u = draws.uniform(f"ada {purpose}", ada.numbers_for(options.ada.transforms))
        image = ada.adapt(image, u, probability, options.ada.transforms, options.ada.color_share)
        if condition is not None:
            condition = ada.adapt(condition, u, probability, ada.moving(options.ada.transforms))
    return image, replace(inputs, condition=condition)
