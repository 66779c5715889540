"""Parameters that were measured: a table of name -> what differs from the defaults, with the result beside it.

What has not been measured says so; papers' figures are not repeated here, because they hold for the papers' code.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

from ..gan.errors import UserError
from ..gan.options import Transform

TWO_CORES = "2 CPU cores with AMX and avx512_bf16"
ONE_CORE = "one core of an AMD EPYC without AMX, by its own time"


class Measured(NamedTuple):
    """What one run gave, by the scores of its own evaluation.

    Attributes:
        minutes: of training alone, starts and evaluation not included.
    """

    images: int
    minutes: float
    hardware: str
    scores: str


class Preset(NamedTuple):
    """Parameters for one kind of data: a whole section `train`, and what `preprocess` must have for it."""

    data: str
    preprocess: Mapping[str, Any]
    train: Mapping[str, Any]
    measured: Measured | None = None


def _ramp(start: float, end: float, images: int | None = None) -> Mapping[str, Any]:
    return {"start": start, "end": end} | ({"images": images} if images else {})


def _r3gan(gamma: float, batch: int, half_life: float, augment: float) -> Mapping[str, Any]:
    """Return the schedules of Huang et al. 2024, appendix: all over the first 20 million images, then constant."""
    length = 20_000_000
    return {
        "network": {"name": "r3gan", "width": 768, "embedding_start": "released"},
        "images": length,
        "batch": batch,
        "mirror": True,
        "r1_gamma": _ramp(gamma, gamma / 10, length),
        "r2_gamma": _ramp(gamma, gamma / 10, length),
        "learning_rate_generator": _ramp(2e-4, 5e-5, length),
        "learning_rate_discriminator": _ramp(2e-4, 5e-5, length),
        "learning_rate_decay": 0,
        "adam_betas": [0.0, _ramp(0.9, 0.99, length)],
        "ema_half_life": _ramp(0, half_life, length),
        "ema_rampup": 1,
        "ada": {"probability": _ramp(0, augment, length), "transforms": get_args(Transform), "color_share": 0.5},
        "log_every": 20_000,
        "checkpoint_every": 500_000,
    }


def _for_task(
    data: str,
    task: Mapping[str, Any],
    network: str,
    images: int,
    *,
    rest: float,
    end: float = 0.02,
    batch: int = 32,
    whole: int | None = None,
    measured: Measured | None = None,
) -> Preset:
    """Return a preset for an image task, on pieces of 64x64 or on `whole` pictures of that side.

    First the smallest error alone, for the share `rest` of the training, then more and more of the discriminator, up to
    the weight `end`.
    """
    return Preset(
        data,
        # Not judged by a classifier of the classes, which may not care for colour.
        {"resolution": whole, "fit": "crop", "labels": "none"} if whole else {"resolution": 64, "fit": "patches"},
        {
            "task": task,
            "network": {"name": network},
            "images": images,
            "batch": batch,
            "mirror": True,
            "pixel_weight": 1.0,
            "feature_weight": 1.0,
            "adversarial_weight": {"start": 0.0, "end": end, "rest": rest},
            "log_every": images // 32,
            "checkpoint_every": images // 4,
        },
        measured,
    )


def _carrying(
    data: str,
    task: Mapping[str, Any],
    preprocess: Mapping[str, Any],
    images: int,
    *,
    batch: int,
    rate: float,
    r1: tuple[float, int],
    losses: Mapping[str, float],
    measured: Measured | None = None,
) -> Preset:
    """Return a preset for one kind of picture into another, on icons of 64x64 with transparency.

    The discriminator works from the first step on and sees whole pictures, held by the gradient penalty `r1` (weight,
    every so many steps) alone; the rates fall from the beginning, and what is published is a long average.
    """
    weight, every = r1
    return Preset(
        data,
        {"resolution": 64, "fit": "pad", "channels": 4, **preprocess},
        {
            "task": task,
            "network": {"name": "unet", "discriminator_halvings": 4, "discriminator_norm": "none"},
            "images": images,
            "batch": batch,
            "mirror": True,
            **losses,
            "r1_gamma": weight,
            "penalty_every": every,
            "learning_rate_generator": rate,
            "learning_rate_discriminator": 7e-4,
            "learning_rate_decay": 1.0,
            "adam_betas": [0.0, 0.99],
            "ema_half_life": 5_000,
            "ema_half_lives": [1_500],
            "ema_rampup": 0.5,
            "log_every": images // 36,
            "checkpoint_every": images // 6,
        },
        measured,
    )


PRESETS: Mapping[str, Preset] = {
    "digits": Preset(
        "the digits of the repository",
        {"resolution": 28},
        {"network": {"name": "dcgan"}},
        Measured(192_000, 1.8, TWO_CORES, "fd_classifier_2k 1.71 (real images 3.88), agreement 0.986"),
    ),
    "fashion-mlp": Preset(
        "Fashion-MNIST",
        {"resolution": 28},
        {
            "network": {
                "name": "mlp",
                "conditional": True,
                "generator_widths": [256, 512, 1024],
                "discriminator_widths": [512, 256],
            },
            "images": 1_200_000,
            "batch": 128,
            "learning_rate_generator": 5e-4,
            "learning_rate_discriminator": 5e-4,
            "checkpoint_every": 120_000,
        },
        Measured(1_200_000, 3.7, TWO_CORES, "fd_classifier_8k 29.6 (real images 0.28), agreement 0.847"),
    ),
    "fashion-dcgan": Preset(
        "Fashion-MNIST",
        {"resolution": 28},
        {"network": {"name": "dcgan"}, "images": 384_000},
        Measured(384_000, 3.0, TWO_CORES, "fd_classifier_8k 1.60 (real images 0.28), agreement 0.921"),
    ),
    "fashion-biggan": Preset(
        "Fashion-MNIST",
        {"resolution": 28},
        {
            "network": {"name": "biggan", "width": 32},
            "images": 128_000,
            "d_steps": 1,
            "learning_rate_generator": 5e-4,
            "learning_rate_discriminator": 1e-3,
        },
        Measured(128_000, 4.6, TWO_CORES, "fd_classifier_8k 11.1 (real images 0.28), agreement 0.897"),
    ),
    "fashion-stylegan2": Preset(
        "Fashion-MNIST",
        {"resolution": 28},
        {
            # Without mixing and path lengths, as the paper's configuration for small images.
            "network": {"name": "stylegan2", "width": 16, "style": 64, "mapping_layers": 2, "style_mixing": 0},
            "images": 102_400,
            "batch": 16,
            "path_length_weight": 0,
            "r1_gamma": 1.0,
            "learning_rate_generator": 1e-2,
            "learning_rate_discriminator": 1e-2,
        },
        Measured(102_400, 6.3, TWO_CORES, "fd_classifier_8k 12.6 (real images 0.28), agreement 0.919"),
    ),
    "fashion-r3gan": Preset(
        "Fashion-MNIST",
        {"resolution": 28},
        {
            "network": {"name": "r3gan", "width": 128, "full_width_to": 7, "blocks": 1},
            "images": 102_400,
            "batch": 32,
            "r1_gamma": 20.0,
            "r2_gamma": 20.0,
            "learning_rate_generator": 1e-3,
            "learning_rate_discriminator": 1e-3,
        },
        Measured(102_400, 11.4, TWO_CORES, "fd_classifier_8k 23.3 (real images 0.28), agreement 0.915"),
    ),
    "cifar10-r3gan": Preset(
        "CIFAR-10", {"resolution": 32}, _r3gan(gamma=0.05, batch=512, half_life=5_000_000, augment=0.55)
    ),
    "cifar10-stylegan2": Preset(
        "CIFAR-10",
        {"resolution": 32},
        {
            "network": {
                "name": "stylegan2",
                "latent": 512,
                "style": 512,
                "mapping_layers": 2,
                "width": 512,
                "max_width": 512,
                "style_mixing": 0,
                "minibatch_std_group": 32,
            },
            "images": 25_000_000,
            "path_length_weight": 0,
            "r1_gamma": 0.01,
            "learning_rate_decay": 0,
            "ema_half_life": 500_000,
            "ema_rampup": 0.05,
            "ada": {},
            "log_every": 20_000,
            "checkpoint_every": 500_000,
        },
    ),
    "photos-x4": _for_task(
        "photographs",
        {"name": "super_resolve", "factor": 4},
        "edsr",
        128_000,
        rest=0.75,
        measured=Measured(
            128_000,
            15.8,
            ONE_CORE,
            "psnr_800 26.81 (bicubic 26.25), kid_efficientnet_lite0_800 0.085 (bicubic 0.180, real images 0.006)",
        ),
    ),
    "photos-inpaint": _for_task(
        "photographs",
        {"name": "inpaint"},
        "unet",
        32_000,
        rest=0.3,
        end=0.05,
        batch=16,
        measured=Measured(
            32_000,
            33.6,
            ONE_CORE,
            "psnr_hole_800 23.04 (smooth fill 22.45), kid_efficientnet_lite0_800 0.043 (smooth fill 0.067, real images "
            "0.006)",
        ),
    ),
    "photos-restore": _for_task(
        "photographs",
        {"name": "restore"},
        "unet",
        48_000,
        rest=0.8,
        batch=16,
        measured=Measured(
            48_000,
            35.7,
            ONE_CORE,
            "psnr_800 29.85 (input 28.74), kid_efficientnet_lite0_800 0.042 (input 0.054, real images 0.006)",
        ),
    ),
    "cifar-colorize": _for_task(
        "CIFAR-10",
        {"name": "colorize"},
        "unet",
        96_000,
        rest=0.5,
        end=0.05,
        batch=16,
        whole=32,
        measured=Measured(
            96_000,
            27.3,
            ONE_CORE,
            "colourfulness_800 0.41 of the originals' (colours by brightness 0.24), kid_efficientnet_lite0_800 0.220 "
            "(colours by brightness 0.499)",
        ),
    ),
    "emoji-translate": _carrying(
        "emoji of two houses, in pairs",
        {"name": "translate"},
        {"input": "noto"},
        12_000,
        batch=16,
        rate=7e-4,
        r1=(10.0, 4),
        losses={"pixel_weight": 1.0, "feature_weight": 1.0, "adversarial_weight": 0.15},
        measured=Measured(
            12_000,
            7.8,
            ONE_CORE,
            "perceptual_efficientnet_lite0_263 3.64 (nearest pair 4.28, Reinhard 4.11), ssim_263 0.423 (0.410, 0.332), "
            "kid_efficientnet_lite0_263 0.635 (0.102, 0.468)",
        ),
    ),
    "emoji-restyle": _carrying(
        "emoji of two houses, not in pairs",
        {"name": "restyle", "cycle": 2.0, "identity": 1.0},
        {"hidden_pairs": True},
        8_000,
        batch=8,
        rate=5e-4,
        r1=(3.0, 8),
        losses={},
        measured=Measured(
            8_000,
            9.9,
            ONE_CORE,
            "kid_wanted_efficientnet_lite0_520 0.397 (input 0.435, Reinhard 0.603), truth_efficientnet_lite0_520 3.62 "
            "(input 3.70, Reinhard 4.20)",
        ),
    ),
    "photos64-r3gan": Preset(
        "photographs", {"resolution": 64}, _r3gan(gamma=2, batch=256, half_life=500_000, augment=0.3)
    ),
    "photos256-r3gan": Preset(
        "photographs", {"resolution": 256}, _r3gan(gamma=150, batch=256, half_life=500_000, augment=0.3)
    ),
}


# What `ganflow init --task` proposes for photos, but for the length of the training.
FOR_TASKS: Mapping[str, str] = {
    "super_resolve": "photos-x4",
    "inpaint": "photos-inpaint",
    "restore": "photos-restore",
    "colorize": "cifar-colorize",
    "translate": "emoji-translate",
    "restyle": "emoji-restyle",
}


def require_task(name: str) -> None:
    """Check that there is an image task of this name.

    Raises:
        UserError: there is none.
    """
    if name not in FOR_TASKS:
        raise UserError(f"--task {name}: choose one of {', '.join(FOR_TASKS)}")


def preset(name: str) -> Preset:
    """Return the preset `name`.

    Raises:
        UserError: there is none.
    """
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, 1)
        hint = f"did you mean {close[0]}? There are" if close else "there are"
        raise UserError(f"there is no preset {name}; {hint}: {', '.join(PRESETS)}")
    return PRESETS[name]
