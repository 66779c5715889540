"""How to read each metric, and what they say together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Explanation:
    """How to read the metrics whose names begin with `prefix`."""

    prefix: str
    title: str
    better: str
    words: str
    form: str | None = None


# Copies that were planted among the samples, to see that they are found.
CONTROL = "_canaries"
# In the order of the page.
EXPLANATIONS = (
    Explanation(
        "agreement",
        "Class agreement",
        "higher is better",
        "How often a classifier, trained on the real images, sees the class that was asked for.",
        "{:.1%}",
    ),
    Explanation(
        "fd_holdout_",
        "Fr\u00e9chet distance to unseen images",
        "lower is better",
        "The same to real images that nothing was trained on; far above its floor means a memorised training split.",
        "{:,.1f}",
    ),
    Explanation(
        "fd_",
        "Fr\u00e9chet distance",
        "lower is better",
        "How far the crowd of generated images is from the training images, in the features of the net that judges.",
        "{:,.1f}",
    ),
    Explanation(
        "kid_",
        "Kernel distance (KID)",
        "lower is better",
        "The same question asked in another way, with little bias for few samples; about 0 where both are alike.",
    ),
    Explanation(
        "class_score_",
        "Class score",
        "higher is better, at most the number of classes",
        "Whether the classifier is sure of each image, and sees all classes alike (the Inception score's formula).",
        "{:.2f}",
    ),
    Explanation(
        "precision_",
        "Precision",
        "higher is better",
        "Fidelity: the share of generated images that could pass for training images.",
        "{:.1%}",
    ),
    Explanation(
        "recall_",
        "Recall",
        "higher is better",
        "Diversity: the share of training images that the generator could have made.",
        "{:.1%}",
    ),
    Explanation(
        "density_",
        "Density",
        "higher is better; real images get about 1",
        "Fidelity: how crowded with training images the places are where generated images lie.",
        "{:.2f}",
    ),
    Explanation(
        "coverage_",
        "Coverage",
        "higher is better",
        "Diversity: the share of training images that have a generated one nearby.",
        "{:.1%}",
    ),
    Explanation(
        "msssim_",
        "Likeness within a class (MS-SSIM)",
        "near the floor is best; far above it, images repeat",
        "How alike pairs of generated images of one class are: 1 is the same image.",
        "{:.3f}",
    ),
    Explanation(
        "discriminator_accuracy_generated",
        "Discriminator on generated images",
        "near 50% is best",
        "How often it tells that a generated image is not real; at 50% it can only guess.",
        "{:.1%}",
    ),
    Explanation(
        "discriminator_accuracy_holdout",
        "Discriminator on unseen real images",
        "near its value in training is best",
        "How often it accepts real images that it never saw; far lower than in training, it learned them by heart.",
        "{:.1%}",
    ),
    Explanation(
        "discriminator_calibration_",
        "Discriminator's calibration",
        "lower is better",
        "How far its probability of real is from how often it is right.",
        "{:.1%}",
    ),
    Explanation(
        "membership_",
        "Membership inference",
        "near 50% is best",
        "How well the discriminator's logit tells training images from unseen ones; at 50% it gives nothing away.",
        "{:.1%}",
    ),
    Explanation(
        "copied_",
        "Copies of training images",
        "near the floor is best",
        "The share of generated images that are far nearer to one training image than to its neighbours.",
        "{:.1%}",
    ),
    Explanation(
        "classification_accuracy_",
        "Classification accuracy score",
        "near the floor is best",
        "How often a classifier that learned from generated images alone is right about unseen real ones.",
        "{:.1%}",
    ),
    Explanation(
        "perceptual_",
        "Distance to the nearest training image, in features",
        "far below the floor means copies",
        "The same question in what the net that judges sees, which a shift of some pixels does not deceive.",
    ),
    Explanation(
        "psnr_nearest",
        "Likeness to the nearest training image (PSNR)",
        "far above the floor means copies",
        "How nearly a generated image repeats a training image, pixel by pixel.",
        "{:.1f} dB",
    ),
    Explanation(
        "ssim_nearest",
        "Likeness to the nearest training image (SSIM)",
        "far above the floor means copies",
        "The same by structure: 1 is an exact copy.",
        "{:.2f}",
    ),
)
UNKNOWN = Explanation("", "", "", "")


def rating(metrics: Mapping[str, float], told: bool) -> tuple[str, str] | None:
    """A word and a sentence on whether the model is good, from its scores beside those of unseen real images.

    Four questions, each answered well, fairly or badly; the word is the worst answer's. `told`: the network was told
    the classes.
    """
    answers = []
    for value, floor in _with_floor(metrics, "agreement_"):
        if told:
            level = _level(value / max(floor, 1e-9), 0.97, 0.85)
            answers.append((level, f"{value:.1%} of the samples show the class asked for (real images {floor:.1%})"))
    for prefix, bounds, words in (
        (
            "precision_",
            (0.9, 0.7),
            ("about as realistic as real images", "less realistic than real images", "unrealistic"),
        ),
        ("recall_", (0.8, 0.5), ("about as varied", "less varied", "with little variety")),
    ):
        for value, floor in _with_floor(metrics, prefix):
            level = _level(value / max(floor, 1e-9), *bounds)
            answers.append((level, f"{words[level]} ({prefix.strip('_')} {value:.0%}, real images {floor:.0%})"))
    copied = [pair for prefix in ("copied_pixels_", "copied_") for pair in _with_floor(metrics, prefix)]
    if copied:
        value, floor = max(copied)
        level = _level(floor - value, -0.02, -0.05)
        likeness = ("no sign of copies", "some copies of training images", "copies of training images")[level]
        answers.append((level, f"{likeness} ({value:.1%} of the samples, {floor:.1%} of unseen real images)"))
    if not answers:
        return None
    # What is wrong comes first.
    answers.sort(key=lambda answer: -answer[0])
    return ("Good", "Fair", "Poor")[answers[0][0]], "; ".join(words for _, words in answers)


def _with_floor(metrics: Mapping[str, float], prefix: str) -> list[tuple[float, float]]:
    """The first metric with this prefix that has a floor, with it."""
    pairs = [(v, metrics[f"{n}_floor"]) for n, v in metrics.items() if n.startswith(prefix) and f"{n}_floor" in metrics]
    return pairs[:1]


def _level(value: float, good: float, fair: float) -> int:
    return 0 if value >= good else 1 if value >= fair else 2


def scores(
    metrics: Mapping[str, float], intervals: Mapping[str, tuple[float, float]] = MappingProxyType({})
) -> Iterator[dict[str, Any]]:
    """Rows of the table: each metric with its floor and interval, those known first, in the order of `EXPLANATIONS`."""

    def explanation(name: str) -> Explanation:
        return next((e for e in EXPLANATIONS if name.startswith(e.prefix)), UNKNOWN)

    order = [*EXPLANATIONS, UNKNOWN]
    beside = ("_floor", CONTROL)
    names = [n for n in metrics if not any(n.endswith(end) and n.removesuffix(end) in metrics for end in beside)]
    for name in sorted(names, key=lambda n: (order.index(explanation(n)), n)):
        known, floor, found = explanation(name), metrics.get(f"{name}_floor"), metrics.get(f"{name}{CONTROL}")
        yield {
            "name": name,
            "title": known.title or name.replace("_", " "),
            "better": known.better,
            "words": known.words
            + (f" Of copies that were planted {found:.0%} were found." if found is not None else ""),
            "value": _rounded(known.form, metrics[name]),
            "floor": None if floor is None else _rounded(known.form, floor),
            "interval": [_rounded(known.form, end) for end in intervals.get(name, ())],
        }


def _rounded(form: str | None, value: float) -> str:
    """`value` in its form, else to three digits, with a true minus sign; a dash where it is no number."""
    if not math.isfinite(value):
        return "\u2013"
    text = (form or ("{:,.0f}" if abs(value) >= 100 else "{:.3g}")).format(value)
    return text.replace("-", "\u2212")
