"""Options of networks, each with the training that suits it.

The discriminated union `NetworkOptions` *is* the list of networks: pydantic validates the choice, names the
alternatives in its error and draws the form in Prefect. Only schemas stand here, light to import and no part of any
stage's code; `models.build` makes the networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from .schema import AddedWith, Options
from .tasks.options import TASKS

Size = Literal["small", "base", "large"]
Recipe = Mapping[str, Any]


class MLP(Options):
    """The article's multi-layer perceptron (Goodfellow et al. 2014): 100-128-64-784 tanh against 784-128-1."""

    recipe: ClassVar[Recipe] = {}
    sizes: ClassVar[Mapping[Size, Recipe]] = {
        "small": {"generator_widths": (64,), "discriminator_widths": (64,)},
        "base": {},
        "large": {"generator_widths": (256, 512, 1024), "discriminator_widths": (512, 256)},
    }

    name: Literal["mlp"] = "mlp"
    conditional: bool = Field(False, description="feed the class, one-hot, to both networks")
    latent: PositiveInt = Field(100, description="size of the noise z")
    generator_widths: tuple[PositiveInt, ...] = Field((128, 64), description="hidden units of the generator")
    discriminator_widths: tuple[PositiveInt, ...] = Field((128,), description="hidden units of the discriminator")


class DCGAN(Options):
    """Deep convolutional GAN (Radford et al. 2016), class-conditional where the data has classes."""

    recipe: ClassVar[Recipe] = {}
    sizes: ClassVar[Mapping[Size, Recipe]] = {
        "small": {"generator_width": 32, "discriminator_width": 16},
        "base": {},
        "large": {"generator_width": 128, "discriminator_width": 64},
    }

    name: Literal["dcgan"] = "dcgan"
    conditional: bool = Field(True, description="give both networks the class of each image")
    latent: PositiveInt = Field(100, description="size of the noise z")
    generator_width: PositiveInt = Field(64, description="channels of the generator's last hidden layer")
    discriminator_width: PositiveInt = Field(32, description="channels of the discriminator's first layer")


class BigGAN(Options):
    """Residual networks with class-conditional batch norm, spectral norm and self-attention (Brock et al. 2019)."""

    recipe: ClassVar[Recipe] = {
        "loss": "hinge",
        "r1_gamma": 0.0,
        "d_steps": 2,
        "learning_rate_generator": 2e-4,
        "learning_rate_discriminator": 2e-4,
        "adam_betas": (0.0, 0.999),
        "orthogonal_weight": 1e-4,
    }
    sizes: ClassVar[Mapping[Size, Recipe]] = {"small": {"width": 16}, "base": {}, "large": {"width": 96}}

    name: Literal["biggan"] = "biggan"
    conditional: bool = Field(True, description="give both networks the class of each image")
    latent: PositiveInt = Field(120, description="size of the noise z, of which each block gets a part of its own")
    embedding: PositiveInt = Field(128, description="size of the class embedding that all blocks share")
    width: PositiveInt = Field(64, description="channels at full resolution; up to 16 times as many below")
    attention: bool = Field(True, description="self-attention at the largest side that is at most 64 and half of it")
    truncation: Annotated[Literal["deviation", "threshold"], AddedWith("threshold")] = Field(
        "deviation",
        description="what a truncation below 1 is: the deviation that is left of z; threshold: half of where z is cut "
        "off, in models made before",
    )


class StyleGAN2(Options):
    """Style-based generator with modulated convolutions, residual discriminator (Karras et al. 2020)."""

    recipe: ClassVar[Recipe] = {
        "r1_gamma": 1.0,
        "learning_rate_generator": 2.5e-3,
        "learning_rate_discriminator": 2.5e-3,
        "path_length_weight": 2.0,
    }
    sizes: ClassVar[Mapping[Size, Recipe]] = {
        "small": {"width": 16, "style": 64, "mapping_layers": 2},
        "base": {},
        "large": {"width": 64, "max_width": 512, "style": 512, "mapping_layers": 8},
    }

    name: Literal["stylegan2"] = "stylegan2"
    conditional: bool = Field(True, description="give both networks the class of each image")
    latent: PositiveInt = Field(64, description="size of the noise z")
    style: PositiveInt = Field(128, description="size of the intermediate latent w")
    mapping_layers: int = Field(4, ge=1, le=64, description="layers of the mapping from z to w; the paper has 8")
    width: PositiveInt = Field(32, description="channels at full resolution, doubled at each lower one")
    max_width: PositiveInt = Field(256, description="channels of any layer at most")
    style_mixing: float = Field(0.9, ge=0, le=1, description="share of the images made from two latents in training")
    minibatch_std_group: PositiveInt = Field(4, description="images whose deviation the discriminator sees together")
    noise: Annotated[Literal["mixed", "shifted"], AddedWith("shifted")] = Field(
        "mixed", description="shifted: that of models made before layers had noise of their own"
    )


class R3GAN(Options):
    """Grouped-convolution residual networks without normalisation (Huang et al. 2024)."""

    recipe: ClassVar[Recipe] = {
        "loss": "relativistic",
        "r1_gamma": 1.0,
        "r2_gamma": 1.0,
        "penalty_every": 1,
        "learning_rate_generator": 2e-4,
        "learning_rate_discriminator": 2e-4,
    }
    sizes: ClassVar[Mapping[Size, Recipe]] = {"small": {"width": 48, "blocks": 1}, "base": {}, "large": {"width": 768}}

    name: Literal["r3gan"] = "r3gan"
    conditional: bool = Field(True, description="give both networks the class of each image")
    latent: PositiveInt = Field(64, description="size of the noise z")
    width: PositiveInt = Field(
        96,
        description="channels of a stage up to `full_width_to`, halved at each higher one and rounded to whole groups",
    )
    full_width_to: PositiveInt = Field(32, description="side in pixels up to which a stage has the full width")
    blocks: int = Field(2, ge=1, le=64, description="residual blocks of a stage")
    expansion: PositiveInt = Field(2, description="how many times wider a block is inside")
    group: PositiveInt = Field(16, description="channels of a group of the 3x3 convolutions")
    embedding: PositiveInt = Field(64, description="size of the class embedding")
    embedding_start: Annotated[Literal["unit", "released"], AddedWith("unit")] = Field(
        "unit",
        description="deviation of class embeddings at the start: 1, or as in the released code 1/sqrt(classes), in the "
        "discriminator divided by sqrt(embedding)",
    )
    halving: Annotated[Literal["by_doubling", "by_side"], AddedWith("by_side")] = Field(
        "by_doubling",
        description="where a stage has fewer channels; by_side: models made before, of 6 * 2^n pixels and the like",
    )


# Of image tasks: first the smallest mean error, which has no texture; then a little of the adversarial game for that.
_ENHANCING: Recipe = {
    "r1_gamma": 0.0,
    "pixel_weight": 1.0,
    "feature_weight": 1.0,
    "adversarial_weight": {"start": 0.0, "end": 0.02, "rest": 0.5},
    "learning_rate_generator": 1e-3,
    "learning_rate_discriminator": 4e-4,
    "adam_betas": (0.9, 0.99),
    "mirror": True,
}


class PatchOptions(Options):
    """Options of the discriminator of patches that the networks of image tasks share."""

    discriminator_width: PositiveInt = Field(32, description="channels of the discriminator's first layer")
    discriminator_halvings: Annotated[int, AddedWith(2)] = Field(
        2, ge=1, le=6, description="how often the discriminator halves the resolution: each time it sees twice as far"
    )
    discriminator_norm: Annotated[Literal["spectral", "none"], AddedWith("spectral")] = Field(
        "spectral",
        description="what keeps the discriminator even: the spectral norm of its weights, or r1_gamma alone",
    )


class EDSR(PatchOptions):
    """Residual blocks at the resolution of the input, and sub-pixels at the end (Lim et al. 2017), for image tasks."""

    recipe: ClassVar[Recipe] = _ENHANCING
    sizes: ClassVar[Mapping[Size, Recipe]] = {
        "small": {"width": 32, "blocks": 4, "discriminator_width": 16},
        "base": {},
        "large": {"width": 64, "blocks": 16, "discriminator_width": 48},
    }
    conditional: ClassVar[bool] = False
    latent: ClassVar[int] = 0

    name: Literal["edsr"] = "edsr"
    width: PositiveInt = Field(48, description="channels of every layer")
    blocks: int = Field(6, ge=0, le=64, description="residual blocks, each of which sees 2 pixels farther")


class UNet(PatchOptions):
    """Halved resolutions and back, each joined to its own on the way up (Ronneberger et al. 2015), for image tasks."""

    recipe: ClassVar[Recipe] = _ENHANCING
    sizes: ClassVar[Mapping[Size, Recipe]] = {
        "small": {"width": 16, "discriminator_width": 16},
        "base": {},
        "large": {"width": 48, "discriminator_width": 48, "blocks": 4},
    }
    conditional: ClassVar[bool] = False
    latent: ClassVar[int] = 0

    name: Literal["unet"] = "unet"
    width: PositiveInt = Field(24, description="channels at full resolution, doubled at each lower one")
    max_width: PositiveInt = Field(128, description="channels of any layer at most")
    halvings: int = Field(
        3, ge=1, le=6, description="how often resolution is halved: sizes are multiples of 2^halvings"
    )
    blocks: int = Field(2, ge=0, le=64, description="residual blocks at the lowest resolution")


AnyNetwork = MLP | DCGAN | BigGAN | StyleGAN2 | R3GAN | EDSR | UNet
NetworkOptions = Annotated[AnyNetwork, Field(discriminator="name")]
# Those that make images from noise, and those that make them from images.
NETWORKS: Mapping[str, type[MLP | DCGAN | BigGAN | StyleGAN2 | R3GAN]] = {
    "mlp": MLP,
    "dcgan": DCGAN,
    "biggan": BigGAN,
    "stylegan2": StyleGAN2,
    "r3gan": R3GAN,
}
TASK_NETWORKS: Mapping[str, type[EDSR | UNet]] = {"edsr": EDSR, "unet": UNet}
ALL_NETWORKS: Mapping[str, type[AnyNetwork]] = {**NETWORKS, **TASK_NETWORKS}


def network_class(values: Mapping[str, Any]) -> type[AnyNetwork]:
    """Return the options of the network that the training options `values` name; if they name none, the task's own."""
    network = values.get("network") or {}
    name = _name_of(network)
    if name is None:
        task = _name_of(values.get("task"))
        name = {None: "dcgan", "generate": "dcgan", "super_resolve": "edsr"}.get(task, "unet")
    return ALL_NETWORKS.get(name, DCGAN)


def task_recipe(values: Mapping[str, Any]) -> Recipe:
    """Return what the task that the training options `values` name asks for beside its network's recipe."""
    chosen = TASKS.get(_name_of(values.get("task")) or "")
    return {} if chosen is None else chosen.recipe


def _name_of(options: Any) -> str | None:
    name = options.get("name") if isinstance(options, dict) else getattr(options, "name", None)
    return None if name is None else str(name)
