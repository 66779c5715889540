"""What goes wrong with GANs, seen in the curves of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# For so many points of the curves on end, and not before as many have been.
_POINTS = 8
# Texture that is not the original's costs a little, more means that the image is another.
_LOST = 1.5


def symptom(history: Sequence[Mapping[str, float]]) -> str | None:
    """Return what is wrong with a training by the latest points of its curves, and what to change."""
    last = history[-_POINTS:]
    if len(history) < 2 * _POINTS:
        return None
    if all(row.get("diversity", 1.0) < 0.1 for row in last):
        return (
            f"collapse: generated images of a class are alike (they differ {last[-1]['diversity']:.0%} as much as real "
            "ones); raise train.r1_gamma, or lower train.learning_rate_generator"
        )
    if all(row.get("pixel_error", 0.0) > _LOST * row.get("baseline_error", 1.0) for row in last):
        return (
            f"lost: images are {last[-1]['pixel_error'] / last[-1]['baseline_error']:.1f} times as far from their "
            "originals as what is made without a network; lower train.learning_rate_generator or "
            "train.adversarial_weight"
        )
    if all(row.get("discriminator_accuracy", 0.0) > 0.995 for row in last):
        return (
            f"saturated: the discriminator is right about {last[-1]['discriminator_accuracy']:.1%} of the images, "
            "which teaches little; raise train.r1_gamma, lower train.learning_rate_discriminator, or with few "
            "images set train.ada to {probability: 0.3}"
        )
    return None


def symptoms(history: Sequence[Mapping[str, float]]) -> list[str]:
    """Each kind of `symptom` that a training had, as it was told last, with the images after which it was."""
    found: dict[str, str] = {}
    for end in range(1, len(history) + 1):
        if text := symptom(history[:end]):
            found[text.partition(":")[0]] = f"at image {int(history[end - 1]['images']):,}, {text}"
    return list(found.values())
