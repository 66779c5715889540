"""The two players and all that changes with them: optimisers, the moving average, what penalties and ADA remember."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from .ada import UPDATE_EVERY, AugmentationProbability
from .models.layers import Generator, NetworkPair
from .options import ImageFormat, Ramp, TrainingOptions
from .penalties import PathLength
from .ranks import sum_gradients
from .schedules import at, ema_decay, learning_rate_factor
from .tasks.image_tasks import task_of


class Players:
    """A generator G and a discriminator D in training, on one rank.

    Attributes:
        averages: moving averages of G, in evaluation mode, of which one is published: by their names in the state the
            first, "ema", and "ema_20000" for a half-life of 20,000 images besides.
        task: what images are made from; None for noise.
        path_length: the running mean of path lengths.
        augmentation: the probability of ADA's transforms; None without ADA.
    """

    def __init__(
        self,
        options: TrainingOptions,
        image: ImageFormat,
        networks: NetworkPair,
        device: torch.device,
        precision: Literal["fp32", "bf16"],
    ) -> None:
        self.options, self.image, self.device, self.precision = options, image, device, precision
        self.task = task_of(options.task)
        self.memory_format = torch.channels_last if options.shortcuts else torch.contiguous_format
        self.G, self.D = (
            network.to(device).to(memory_format=self.memory_format).train()  # type: ignore[call-overload]
            for network in networks
        )
        self._half_lives = {"ema": options.ema_half_life} | {average_name(h): h for h in options.ema_half_lives}
        self.averages: dict[str, Generator] = {
            name: copy.deepcopy(self.G).eval().requires_grad_(False) for name in self._half_lives
        }
        self.path_length = PathLength().to(device)
        self.augmentation = AugmentationProbability(options).to(device) if options.ada else None
        self._modules = {
            "generator": self.G,
            "discriminator": self.D,
            **self.averages,
            "path_length": self.path_length,
            **({"ada": self.augmentation} if self.augmentation is not None else {}),
        }
        # Adam in one kernel for all parameters, or without shortcuts one parameter after another.
        self._adam_G, self._adam_D = (
            torch.optim.Adam(network.parameters(), eps=1e-8, fused=options.shortcuts, foreach=False)
            for network in (self.G, self.D)
        )
        self._adams = {"adam_generator": self._adam_G, "adam_discriminator": self._adam_D}

    def autocast(self) -> torch.autocast:
        """Return the precision that networks are run in."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def schedule(self, images: int, step: int) -> None:
        """Set what depends on the images seen for a whole step: rates, decays of moments, probability of ADA."""
        self._schedule(self._adam_G, self.options.learning_rate_generator, images)
        self._schedule(self._adam_D, self.options.learning_rate_discriminator, images)
        if self.augmentation is not None and step % UPDATE_EVERY == 0:
            self.augmentation.update(images)

    def step_discriminator(self, objective: Tensor) -> None:
        """Go down the gradient of `objective`, this rank's part of a sum over all ranks, by D's parameters."""
        objective.backward()
        sum_gradients(self.D)
        self._adam_D.step()
        self._adam_D.zero_grad()

    def step_generator(self, objective: Tensor) -> None:
        """Go down the gradient of `objective`, this rank's part of a sum over all ranks, by G's parameters."""
        objective.backward()
        sum_gradients(self.G)
        self._adam_G.step()
        self._adam_G.zero_grad()
        # What D got of it where it was not frozen.
        self._adam_D.zero_grad()

    @torch.no_grad()
    def update_ema(self, images: int) -> None:
        """ema = decay * ema + (1 - decay) * G, batch norm's running statistics included, in one kernel launch each."""
        for name, half_life in self._half_lives.items():
            decay = ema_decay(self.options, images, half_life)
            torch._foreach_lerp_(_floats(self.averages[name]), _floats(self.G), 1 - decay)

    def broken(self) -> list[str]:
        """Return the modules that have a weight or statistic that is not finite."""
        norms = {name: torch.stack(torch._foreach_norm(_floats(module))) for name, module in self._modules.items()}
        return [f"weights of the {name}" for name, norm in norms.items() if not torch.isfinite(norm).all()]

    def tensors(self) -> dict[str, Tensor]:
        """Return a copy on the CPU of all that a resume needs, by name."""
        found = {f"{name}/{key}": t for name, module in self._modules.items() for key, t in module.state_dict().items()}
        for name, adam in self._adams.items():
            for index, moments in enumerate(adam.state[p] for p in adam.param_groups[0]["params"]):
                found |= {f"{name}/{index}/{key}": value for key, value in moments.items()}
        # A plain copy keeps a tensor's memory format, and safetensors wants the standard one.
        return {key: t.detach().cpu().clone(memory_format=torch.contiguous_format) for key, t in found.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the place of the players whose `tensors` these are."""
        for name, module in self._modules.items():
            module.load_state_dict({key: tensors[f"{name}/{key}"] for key in module.state_dict()})
        for name, adam in self._adams.items():
            for index, p in enumerate(adam.param_groups[0]["params"]):
                if f"{name}/{index}/step" not in tensors:
                    # Of a discriminator that has rested so far.
                    continue
                step, *moments = (tensors[f"{name}/{index}/{key}"] for key in ("step", "exp_avg", "exp_avg_sq"))
                # In the parameter's own memory format: another one would change the order of Adam's arithmetic.
                average, square = (torch.empty_like(p).copy_(moment) for moment in moments)
                adam.state[p] = {"step": step.to(p.device).clone(), "exp_avg": average, "exp_avg_sq": square}

    def _schedule(self, adam: torch.optim.Adam, rate: float | Ramp, images: int) -> None:
        first, second = self.options.adam_betas
        adam.param_groups[0]["lr"] = at(rate, images, self.options) * learning_rate_factor(self.options, images)
        adam.param_groups[0]["betas"] = (first, at(second, images, self.options))


def average_name(half_life: float) -> str:
    """Return the name of a further average in the state."""
    return f"ema_{half_life:.17g}"


def _floats(module: nn.Module) -> list[Tensor]:
    return [t.detach() for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]
