"""Options of networks and training, and the image format that the data decides.

The discriminated union `NetworkOptions` *is* the list of networks: pydantic validates the choice, names the
alternatives in its error and draws the form in Prefect. Only schemas stand here, light to import and no part of any
stage's code; `models.build` makes the networks.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt


class UserError(Exception):
    """What is wrong and what to do about it, in one sentence that is shown without a traceback."""

    exit_code = 2


class StoppedError(UserError):
    """The user pressed Ctrl-C; an ordinary exception, so that every caller up to the command ends in order."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("stopped; the same command goes on from the last checkpoint")


class Options(BaseModel):
    """Base of everything a user may set: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def hashed(self) -> dict[str, Any]:
        """What a result depends on."""
        return self.model_dump(mode="json")


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

    name: Literal["mlp"] = "mlp"
    conditional: bool = Field(False, description="feed the class, one-hot, to both networks")
    latent: PositiveInt = Field(100, description="size of the noise z")
    generator_widths: tuple[PositiveInt, ...] = Field((128, 64), description="hidden units of the generator")
    discriminator_widths: tuple[PositiveInt, ...] = Field((128,), description="hidden units of the discriminator")


class DCGAN(Options):
    """Deep convolutional GAN (Radford et al. 2016), class-conditional where the data has classes."""

    name: Literal["dcgan"] = "dcgan"
    conditional: bool = Field(True, description="give both networks the class of each image")
    latent: PositiveInt = Field(100, description="size of the noise z")
    generator_width: PositiveInt = Field(64, description="channels of the generator's last hidden layer")
    discriminator_width: PositiveInt = Field(32, description="channels of the discriminator's first layer")


Policy = Literal["color", "translation", "cutout"]
NetworkOptions = Annotated[MLP | DCGAN, Field(discriminator="name")]


class Execution(Options):
    """What the machine decided, stored with every checkpoint and model so that a resume computes the same bits."""

    workers: PositiveInt = Field(description="training processes")
    threads: PositiveInt = Field(description="CPU threads of each worker")
    device: Literal["cpu", "cuda"]
    precision: Literal["fp32", "bf16"] = Field(description="of convolutions and products; losses and Adam stay fp32")


class TrainingOptions(Options):
    """Options of `training_loop`. Schedules and intervals are in images seen by the discriminator (real ones)."""

    network: NetworkOptions = Field(DCGAN(), description="the pair of networks")
    images: PositiveInt = Field(192_000, description="length of the training in images seen")
    batch: int = Field(64, ge=2, description="global batch, over all workers")
    loss: Literal["non_saturating"] = "non_saturating"
    r1_gamma: float = Field(1.0, ge=0, description="weight of the R1 gradient penalty; 0 turns it off")
    r1_every: PositiveInt = Field(16, description="steps between two R1 penalties (lazy regularisation)")
    augment: tuple[Policy, ...] = Field((), description="DiffAugment policies; for a few thousand images or fewer")
    learning_rate_generator: float = Field(2e-3, gt=0)
    learning_rate_discriminator: float = Field(2e-3, gt=0)
    learning_rate_decay: float = Field(
        0.5, ge=0, le=1, description="final share of the images over which both learning rates fall to 0"
    )
    adam_betas: tuple[float, float] = Field((0.0, 0.99), description="moment decays of Adam")
    d_steps: PositiveInt = Field(1, description="discriminator steps for one generator step")
    ema_half_life: PositiveInt = Field(10_000, description="images after which a weight counts half in the EMA")
    ema_rampup: float = Field(
        0.1, gt=0, description="bounds the half-life to this share of the images seen: the EMA forgets its start"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where the processor has it")
    log_every: PositiveInt = Field(2_000, description="images between two points of the training curves")
    checkpoint_every: PositiveInt = Field(32_000, description="images between two checkpoints, grids and scores")
    seed: int = Field(0, ge=0, description="of everything that is random")
