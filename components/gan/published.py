"""A model as it is published: the bytes of its weights, and the manifest that says how images are made with them.

Everything that makes images with a finished model does it here: evaluation, the gate, pictures that are asked for and
the model that MLflow serves. On one machine an image is a function of model, seed, class and truncation alone: each is
computed in the same precision, with one thread, and as one of as many images whatever the number that is asked for.

On another machine the images are the same to the eye. A processor that adds up in another order rounds otherwise:
pixels may differ by a grey level or two, in bf16 by a few more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .dataset import Pixels, to_signed
from .errors import UserError
from .inputs import Inputs
from .latents import philox_latents
from .models import restored
from .models.image_to_image import ImageGenerator
from .models.layers import Generator
from .network_options import NetworkOptions
from .options import GENERATE, AddedWith, ImageFormat, LatentsName, Options, TaskOptions
from .sampling import latents, sample
from .weights import read_weights

MANIFEST = "published.json"
Player = Literal["generator", "discriminator"]
FILES: Mapping[Player, str] = {"generator": "generator.safetensors", "discriminator": "discriminator.safetensors"}
# Images that are made at a time. The last bits depend on how many they are, most of all below 16. On a processor 25 are
# half as fast as 250 with the smallest network and as fast with larger ones, and one image need not wait for 249
# others; a GPU makes 250 in about the time of 25.
BATCH = {"cpu": 25, "cuda": 250}
# Rows of every product in a linear layer: the order of its sums depends on their number up to a few hundred.
ROWS = 250
LATENTS: Mapping[LatentsName, Callable[[Sequence[int], int], Tensor]] = {
    "torch-mt19937": latents,
    "philox4x32-10/as241": lambda seeds, size: torch.from_numpy(philox_latents(seeds, size)),
}


class Manifest(Options):
    """What stands beside the weights in `published.json`."""

    network: NetworkOptions
    task: Annotated[TaskOptions, AddedWith({"name": "generate"})] = Field(
        GENERATE, description="what it makes images of"
    )
    image: ImageFormat
    precision: Literal["fp32", "bf16"] = Field(description="in which images are computed")
    latents: LatentsName = Field(description="how a seed becomes a latent")
    files: dict[str, str] = Field(description="sha256 of each file of weights")

    def check(self, name: str, content: bytes) -> bytes:
        """Return `content` if it is that of the file `name`.

        Raises:
            ValueError: it is not.
        """
        if hashlib.sha256(content).hexdigest() != self.files[name]:
            raise ValueError(f"{name} does not have the recorded hash")
        return content


@dataclass(frozen=True)
class Published:
    """A model that makes images, small enough to travel: its networks are built where they are used first.

    `weights` are the files that the manifest names, as safetensors; whoever read them has checked them.
    """

    manifest: Manifest
    weights: Mapping[str, bytes]

    def __reduce__(self) -> tuple[type[Published], tuple[Manifest, Mapping[str, bytes]]]:
        return Published, (self.manifest, self.weights)

    @property
    def image(self) -> ImageFormat:
        """The format of its images."""
        return self.manifest.image

    @property
    def task(self) -> TaskOptions:
        """What it makes images of."""
        return self.manifest.task

    @property
    def network(self) -> ImageGenerator:
        """The network of an image task, which says what sizes it takes and how far it sees.

        Raises:
            UserError: the model makes images of noise.
        """
        if not isinstance(self._generator, ImageGenerator):
            raise UserError("this model makes images of noise: it has nothing to do with pictures that are given")
        return self._generator

    @cached_property
    def id(self) -> str:
        """Hash of all that its images depend on."""
        return hashlib.sha256(json.dumps(self.manifest.hashed, sort_keys=True).encode()).hexdigest()

    def generator(self) -> Generator:
        """Return a generator with these weights, in evaluation mode, on the processor."""
        weights = self._tensors("generator")
        return restored(self.manifest.network, self.image, weights, task=self.task).eval()

    def discriminator(self) -> nn.Module:
        """Return the discriminator that it was trained with, likewise.

        Raises:
            KeyError: it was not registered: champions of early versions have a generator alone.
        """
        weights = self._tensors("discriminator")
        return restored(self.manifest.network, self.image, weights, "discriminator", self.task).eval()

    def inputs(self, seeds: Sequence[int], labels: npt.NDArray[np.int64]) -> Inputs:
        """Return the inputs of the images that have these seeds and labels (N,).

        Raises:
            UserError: the model makes images of images.
        """
        if self.task.name != "generate":
            raise UserError(f"this model makes images of images, by the task {self.task.name}: it makes none of noise")
        z = LATENTS[self.manifest.latents](seeds, self.manifest.network.latent)
        return Inputs(z, torch.from_numpy(labels))

    def latents(self, seeds: Sequence[int]) -> Tensor:
        """Return the latents (len(seeds), latent) that a model of a task is given beside conditions.

        Raises:
            UserError: the model makes images of noise.
        """
        return LATENTS[self.manifest.latents](seeds, self.network.task.latent)

    def sample(self, seeds: Sequence[int], labels: npt.NDArray[np.int64], truncation: float = 1.0) -> Pixels:
        """Images (N, H, W, C) uint8 of these seeds and labels (N,), on the GPU where this process has one.

        `truncation` in (0, 1] pulls them towards typical images: below 1 they are less diverse.
        """
        return self.images_of(self.inputs(seeds, labels), truncation)

    def images_of(self, inputs: Inputs, truncation: float = 1.0) -> Pixels:
        """Return the images of other inputs, as `sample` makes those of its own."""
        batch = BATCH[_device().type]
        # The last batch is filled up with images that are made anyway.
        filled = torch.arange(-(-len(inputs) // batch) * batch) % len(inputs)
        with one_thread(), _SameRows():
            made = sample(
                self._generator,
                inputs[filled],
                truncation=truncation,
                precision=self.manifest.precision,
                batch=batch,
            )
        return made[: len(inputs)]

    @torch.inference_mode()
    def transform(
        self,
        condition: Tensor,
        hidden: bool = False,
        labels: npt.NDArray[np.int64] | None = None,
        z: Tensor | None = None,
    ) -> Tensor:
        """Return the images (N, C, scale * H, scale * W) in [-1, 1] of conditions (N, K, H, W), by a model of a task.

        H and W are multiples of `network.multiple`. A condition may be a window of a larger one that begins at such a
        multiple: pixels that are `network.receptive_field` and more from an edge within the picture are those of the
        whole. A repair hides what lies within the holes, whose mask is the condition's last channel; that looks at the
        whole picture, and is left out with `hidden`, where `network.task.hidden` has done so before it was cut.
        `labels` (N,) are the classes wanted, the first if they are left out, and `z` (N, latent) latents, 0 likewise.

        Raises:
            UserError: the model makes images of noise.
        """
        network = self.network
        condition = condition.to(_device())
        if not hidden:
            condition = network.task.hidden(condition)
        label = torch.zeros(len(condition), dtype=torch.long) if labels is None else torch.from_numpy(labels)
        z = torch.zeros(len(condition), network.task.latent) if z is None else z
        inputs = Inputs(z.to(_device()), label.to(_device()), condition)
        with torch.autocast(_device().type, torch.bfloat16, enabled=self.manifest.precision == "bf16"):
            made: Tensor = network(inputs)
        return made.clamp(-1, 1)

    @torch.inference_mode()
    def logits_of(self, pixels: Pixels, labels: npt.NDArray[np.int64], batch: int = 500) -> npt.NDArray[np.float64]:
        """Return the discriminator's logits (N,) of images (N, H, W, C) with these labels (N,).

        Raises:
            KeyError: it was not registered.
        """
        made = []
        for start in range(0, len(pixels), batch):
            image = to_signed(torch.from_numpy(np.ascontiguousarray(pixels[start : start + batch])).to(_device()))
            inputs = Inputs.without_latent(torch.from_numpy(labels[start : start + batch])).to(_device())
            made.append(self._discriminator(image, inputs).double().cpu())
        logits: npt.NDArray[np.float64] = torch.cat(made).numpy()
        return logits

    @cached_property
    def _generator(self) -> Generator:
        made = self.generator().to(_device())
        if isinstance(made, ImageGenerator):
            # On a processor, half as much time again without; the bits of networks that generate stay as they are.
            made = made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return made

    @cached_property
    def _discriminator(self) -> nn.Module:
        return self.discriminator().to(_device())

    def _tensors(self, player: Player) -> dict[str, Tensor]:
        return read_weights(self.weights[FILES[player]])


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: several share a sum, and how many they are shows in its last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _SameRows(TorchFunctionMode):
    """Fills up what passes through a linear layer to `ROWS` rows."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is F.linear and args[0].ndim == 2 and len(args[0]) < ROWS:
            rows, *rest = args
            return func(F.pad(rows, (0, 0, 0, ROWS - len(rows))), *rest, **(kwargs or {}))[: len(rows)]
        return func(*args, **(kwargs or {}))


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
