"""Options of training, and the image format that the data decides.

Only schemas stand here, light to import and no part of any stage's code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, PositiveInt, model_validator

from .network_options import DCGAN, NETWORKS, TASK_NETWORKS, NetworkOptions, StyleGAN2, network_class, task_recipe
from .schema import STORED as STORED
from .schema import AddedWith as AddedWith
from .schema import Options as Options
from .tasks.options import GENERATE as GENERATE
from .tasks.options import TaskOptions as TaskOptions
from .tasks.options import Translate

# How a seed becomes a latent. Models that do not say so are from before there was the second way.
LatentsName = Literal["torch-mt19937", "philox4x32-10/as241"]
Beta = Annotated[float, Field(ge=0, lt=1)]


class ImageFormat(Options):
    """What the data decides and a user never types: the shape of all images, and their classes."""

    height: int = Field(ge=4, description="pixels")
    width: int = Field(ge=4, description="pixels")
    channels: PositiveInt = Field(description="1 grey, 3 RGB, 4 RGBA, or whatever the arrays hold")
    classes: tuple[str, ...] = Field(min_length=1, description="names of the classes, in the order of their labels")
    # Not written where there are none, so that what describes such images says the same as ever.
    paired: bool = Field(
        False,
        exclude_if=lambda paired: not paired,
        description="whether each image has an input of the same format, which it is to be made from",
    )

    @property
    def labelled(self) -> bool:
        """Whether labels tell anything: images of one class are images without labels."""
        return len(self.classes) > 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels), as pixels are stored."""
        return self.height, self.width, self.channels


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
        return {**chosen.recipe, **task_recipe(values), **named, **values}

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
        elif self.task.name == "restyle" and (self.pixel_weight or self.feature_weight):
            raise ValueError("pixel_weight and feature_weight need originals, which restyle has none of: set them to 0")
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
    def latent(self) -> int:
        """Size of the latent that the generator is given."""
        return self.task.noise if isinstance(self.task, Translate) else self.network.latent

    @property
    def shares(self) -> int:
        """How many ranks can have a part of the batch: images whose deviation is taken together stay together."""
        return self.batch // getattr(self.network, "minibatch_std_group", 1)

    def share(self, rank: int, ranks: int) -> slice:
        """Return the rows of the global batch that belong to `rank`; shares may be unequal."""
        size = self.batch // self.shares
        return slice(self.shares * rank // ranks * size, self.shares * (rank + 1) // ranks * size)
