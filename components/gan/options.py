"""Options of networks and training, and the image format that the data decides.

The discriminated union `NetworkOptions` *is* the list of networks: pydantic validates the choice, names the
alternatives in its error and draws the form in Prefect. Only schemas stand here, light to import and no part of any
stage's code; `models.build` makes the networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, PositiveInt, model_validator

from .schema import STORED as STORED
from .schema import AddedWith as AddedWith
from .schema import Options as Options
from .tasks.options import GENERATE as GENERATE
from .tasks.options import TaskOptions as TaskOptions

# How a seed becomes a latent. Models that do not say so are from before there was the second way.
LatentsName = Literal["torch-mt19937", "philox4x32-10/as241"]
Size = Literal["small", "base", "large"]
Recipe = Mapping[str, Any]
Beta = Annotated[float, Field(ge=0, lt=1)]


class ImageFormat(Options):
    """What the data decides and a user never types: the shape of all images, and their classes."""

    height: int = Field(ge=4, description="pixels")
    width: int = Field(ge=4, description="pixels")
    channels: PositiveInt = Field(description="1 grey, 3 RGB, 4 RGBA, or whatever the arrays hold")
    classes: tuple[str, ...] = Field(min_length=1, description="names of the classes, in the order of their labels")

    @property
    def labelled(self) -> bool:
        """Whether labels tell anything: images of one class are images without labels."""
        return len(self.classes) > 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels), as pixels are stored."""
        return self.height, self.width, self.channels


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


class EDSR(Options):
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
    discriminator_width: PositiveInt = Field(32, description="channels of the discriminator's first layer")


class UNet(Options):
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
    discriminator_width: PositiveInt = Field(32, description="channels of the discriminator's first layer")


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


_TASK_WEIGHTS: Mapping[str, float] = {"pixel_weight": 0.0, "feature_weight": 0.0, "adversarial_weight": 1.0}


class Ramp(Options):
    """A value that goes from `start` to `end` over the first `images` of the training and stays there."""

    start: float = Field(ge=0, description="value at the first image")
    end: float = Field(ge=0, description="value from the image `images` on")
    images: PositiveInt | None = Field(None, description="length in images seen; None: that of the training")
    shape: Literal["cosine", "linear"] = Field("cosine", description="cosine: slow at both ends")
    rest: Annotated[float, Field(ge=0, lt=1), AddedWith(0.0)] = Field(
        0.0, description="first part of this length, in [0, 1), over which the value stays at `start`"
    )


Scheduled = Annotated[float, Field(ge=0)] | Ramp
Policy = Literal["color", "translation", "cutout"]
Transform = Literal[
    "flip",
    "rotate90",
    "shift",
    "scale",
    "rotate",
    "stretch",
    "brightness",
    "contrast",
    "luma_flip",
    "hue",
    "saturation",
    "fractional_shift",
    "cutout",
]
# Those that augmentation began with, and has by default.
TRANSFORMS: tuple[Transform, ...] = get_args(Transform)[:11]


class ADA(Options):
    """Augmentation whose transforms each happen with a probability that follows overfitting or a schedule.

    Karras et al. 2020, arXiv 2006.06676.
    """

    transforms: tuple[Transform, ...] = Field(
        TRANSFORMS,
        description="what may happen to an image; by default all but fractional_shift and cutout, which R3GAN's has",
    )
    color_share: Annotated[float, Field(gt=0, le=1), AddedWith(1.0)] = Field(
        1.0, description="probability of transforms of colour, as a share of that of the others; 0.5 in R3GAN's"
    )
    probability: Literal["adaptive"] | Scheduled = Field(
        "adaptive",
        description="of each transform, in [0, 1]; adaptive: follows how sure the discriminator is of real images",
    )
    target: float = Field(
        0.6, gt=-1, lt=1, description="mean sign of the logits of real images to hold, in (-1, 1), if adaptive"
    )
    images_to_one: PositiveInt = Field(
        500_000, description="images seen in which the probability may go from 0 to 1, if adaptive"
    )


class Execution(Options):
    """What the machine decided, stored with every checkpoint and model so that a resume computes the same bits."""

    workers: PositiveInt = Field(description="training processes")
    threads: PositiveInt = Field(description="CPU threads of each worker")
    device: Literal["cpu", "cuda"] = Field(description="what each worker computes on")
    precision: Literal["fp32", "bf16"] = Field(description="of convolutions and products; losses and Adam stay fp32")


class TrainingOptions(Options):
    """Options of `training_loop`. Schedules and intervals are in images seen by the discriminator (real ones).

    Where an option is not given, that of the network's recipe holds, else the default below.
    """

    task: Annotated[TaskOptions, AddedWith({"name": "generate"})] = Field(
        GENERATE,
        description="what images are made from: noise, or images that are to be enlarged, repaired or the like",
    )
    network: NetworkOptions = Field(
        DCGAN(), description="the pair of networks; where none is named, that which suits the task"
    )
    images: PositiveInt = Field(192_000, description="length of the training, in real images seen")
    batch: int = Field(64, ge=2, description="images of a step, over all workers")
    loss: Literal["non_saturating", "saturating", "hinge", "least_squares", "wasserstein", "relativistic"] = Field(
        "non_saturating", description="what both players minimise; gan/losses.py has the equations"
    )
    pixel_weight: Annotated[Scheduled, AddedWith(0.0)] = Field(
        0.0,
        description="of the mean absolute error to the original, for image tasks alone; of a repair that of the hole",
    )
    feature_weight: Annotated[Scheduled, AddedWith(0.0)] = Field(
        0.0,
        description="of the mean absolute error of what the discriminator sees in the original, for image tasks alone; "
        "counts while the discriminator works",
    )
    adversarial_weight: Annotated[Scheduled, AddedWith(1.0)] = Field(
        1.0, description="of the generator's `loss`; the discriminator rests while it is 0, for image tasks alone"
    )
    r1_gamma: Scheduled = Field(1.0, description="weight of the gradient penalty on real images; 0 = off")
    r2_gamma: Scheduled = Field(0.0, description="weight of the gradient penalty on generated images; 0 = off")
    wgan_gp_weight: float = Field(
        0.0, ge=0, description="weight of the gradient penalty between real and generated images; 0 = off, usually 10"
    )
    penalty_every: PositiveInt = Field(
        16, description="discriminator steps from one gradient penalty to the next (lazy regularisation)"
    )
    path_length_weight: float = Field(
        0.0, ge=0, description="weight of path length regularisation, for stylegan2 alone; 0 = off"
    )
    path_length_every: PositiveInt = Field(4, description="generator steps from one path length penalty to the next")
    orthogonal_weight: float = Field(
        0.0,
        ge=0,
        description="weight of orthogonal regularisation of the generator's filters, for all but stylegan2; 0 = off",
    )
    sampling: Annotated[Literal["natural", "balanced"], AddedWith("natural")] = Field(
        "natural",
        description="how often each class is seen and made in training: natural, as often as it has images; balanced, "
        "all equally often",
    )
    mirror: bool = Field(False, description="mirror half of the real images, where left and right mean the same")
    augment: tuple[Policy, ...] = Field(
        (), description="DiffAugment policies, for a few thousand images or fewer; () = off"
    )
    ada: ADA | None = Field(None, description="augmentation that follows overfitting; {} for its defaults, None = off")
    learning_rate_generator: Scheduled = Field(2e-3, description="Adam's step size for the generator")
    learning_rate_discriminator: Scheduled = Field(2e-3, description="Adam's step size for the discriminator")
    learning_rate_decay: float = Field(
        0.5,
        ge=0,
        le=1,
        description="last part of the training, in [0, 1], over which both learning rates fall to 0; 0 = off",
    )
    adam_betas: tuple[Beta, Beta | Ramp] = Field(
        (0.0, 0.99), description="decays of Adam's first and second moment, in [0, 1)"
    )
    d_steps: PositiveInt = Field(1, description="discriminator steps for each generator step")
    ema_half_life: Annotated[float, Field(gt=0)] | Ramp = Field(
        10_000, description="images seen after which a weight counts half in the moving average"
    )
    ema_half_lives: Annotated[tuple[Annotated[float, Field(gt=0)], ...], AddedWith([])] = Field(
        (),
        description="of more averages beside it, in images: each is scored at every checkpoint, and the best of all is "
        "published",
    )
    ema_rampup: float = Field(
        0.1, gt=0, description="bounds half-lives to this share of the images seen, so that the start is forgotten"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where the processor has it")
    shortcuts: bool = Field(
        True,
        description="false: the plain step in fp32, several times slower, to see whether a shortcut is to blame",
    )
    log_every: PositiveInt = Field(2_000, description="images seen between two points of the training curves")
    checkpoint_every: PositiveInt = Field(32_000, description="images seen between two checkpoints, grids and scores")
    seed: int = Field(0, ge=0, description="of everything that is random")

    @model_validator(mode="before")
    @classmethod
    def _with_recipe(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        chosen = network_class(values)
        # Other tasks than the first have other networks than the default.
        named = {} if chosen is DCGAN else {"network": {"name": chosen.model_fields["name"].default}}
        return {**chosen.recipe, **named, **values}

    @model_validator(mode="after")
    def _fit_the_task(self) -> Self:
        networks = NETWORKS if self.task.name == "generate" else TASK_NETWORKS
        if self.network.name not in networks:
            raise ValueError(
                f"the task {self.task.name} needs another network than {self.network.name}: {', '.join(networks)}"
            )
        if self.task.name == "generate":
            if wrong := [name for name, weight in _TASK_WEIGHTS.items() if getattr(self, name) != weight]:
                raise ValueError(f"{wrong[0]} needs an image task, such as task: {{name: super_resolve}}")
        elif self.d_steps != 1:
            raise ValueError(
                "d_steps must be 1 for image tasks: while the discriminator rests there are no more of them"
            )
        elif not all(self._teaches(self.images * point // 100) for point in range(100)):
            raise ValueError("pixel_weight and adversarial_weight are both 0 at some time: nothing is learned then")
        return self

    def _teaches(self, images: int) -> bool:
        from .schedules import at

        return any(at(weight, images, self) > 0 for weight in (self.pixel_weight, self.adversarial_weight))

    @model_validator(mode="after")
    def _fit_the_network(self) -> Self:
        if self.path_length_weight and self.network.name != "stylegan2":
            raise ValueError("path_length_weight needs the network stylegan2: the others have no styles")
        if len({*self.ema_half_lives, self.ema_half_life}) <= len(self.ema_half_lives):
            raise ValueError("ema_half_lives must differ from each other and from ema_half_life")
        if isinstance(self.network, StyleGAN2) and self.batch % self.network.minibatch_std_group:
            raise ValueError("batch must be a multiple of network.minibatch_std_group")
        return self

    @property
    def hashed(self) -> dict[str, Any]:
        """What a result depends on; it says too what these options compute otherwise than they did at first."""
        corrected = {
            "augment": bool(self.augment),
            "orthogonal_weight": bool(self.orthogonal_weight),
            "wgan_gp_weight": bool(self.wgan_gp_weight and (self.augment or self.ada)),
        }
        names = [name for name, wrong in corrected.items() if wrong]
        return super().hashed | ({"corrected": names} if names else {})

    @property
    def shares(self) -> int:
        """How many ranks can have a part of the batch: images whose deviation is taken together stay together."""
        return self.batch // getattr(self.network, "minibatch_std_group", 1)

    def share(self, rank: int, ranks: int) -> slice:
        """Return the rows of the global batch that belong to `rank`; shares may be unequal."""
        size = self.batch // self.shares
        return slice(self.shares * rank // ranks * size, self.shares * (rank + 1) // ranks * size)


def network_class(values: Mapping[str, Any]) -> type[AnyNetwork]:
    """Return the options of the network that the training options `values` name; if they name none, the task's own."""
    network = values.get("network") or {}
    name = _name_of(network)
    if name is None:
        task = _name_of(values.get("task"))
        name = {None: "dcgan", "generate": "dcgan", "super_resolve": "edsr"}.get(task, "unet")
    return ALL_NETWORKS.get(name, DCGAN)


def _name_of(options: Any) -> str | None:
    name = options.get("name") if isinstance(options, dict) else getattr(options, "name", None)
    return None if name is None else str(name)
