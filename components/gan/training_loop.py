"""The training loop: discriminator step(s), generator step, moving average; a generator that yields and never reports.

Everything random is a function of (seed, step, purpose, global index) and is cut by rank, so that the state needs no
random number generator, and neither a resume nor another number of workers repeats or loses an image.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .augmentation import UNIFORMS, augment
from .dataset import Split, shuffled_order
from .losses import LOSSES, r1_penalty
from .models import build
from .options import Execution, TrainingOptions, UserError
from .sampling import generator_for
from .schedules import at, ema_decay, learning_rate_factor


class State(NamedTuple):
    """All that a resume needs: named tensors on the CPU, and how far the training is."""

    tensors: dict[str, Tensor]
    images: int
    step: int


class Progress(NamedTuple):
    """Metrics averaged over the images since the last Progress; `state` copies the full state when called."""

    images: int
    metrics: dict[str, float]
    ema: nn.Module
    state: Callable[[], State]


def training_loop(
    options: TrainingOptions, data: Split, execution: Execution, state: State | None = None
) -> Iterator[Progress]:
    """Train until `options.images` real images have been seen, from `state` if given.

    Yields every `options.log_every` images and at the end, on all ranks at the same images. With a process group
    each rank computes its share of the global batch.

    Raises:
        UserError: the networks cannot make such images, or a loss is no longer finite.
    """
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    share = slice(options.batch * rank // ranks, options.batch * (rank + 1) // ranks)
    device = torch.device(execution.device)
    loss = LOSSES[options.loss]
    order = shuffled_order(len(data), options.seed)

    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        networks = build(options.network, data.image)
    G, D = (n.to(device).to(memory_format=torch.channels_last).train() for n in networks)  # type: ignore[call-overload]
    ema = copy.deepcopy(G).eval().requires_grad_(False)
    adam_G = _adam(G, options.learning_rate_generator, options.adam_betas)
    adam_D = _adam(D, options.learning_rate_discriminator, options.adam_betas)
    modules = {"generator": G, "discriminator": D, "ema": ema}
    adams = {"adam_generator": adam_G, "adam_discriminator": adam_D}
    images, step = 0, 0
    if state is not None:
        _restore(state.tensors, modules, adams)
        images, step = state.images, state.step

    def draw(kind: Callable[..., Tensor], purpose: str, size: int) -> Tensor:
        """This rank's rows of a draw (batch, size) that is the same whatever the number of ranks."""
        rows = kind(options.batch, size, generator=generator_for(options.seed, step, purpose))
        return rows[share].to(device, non_blocking=True)

    def augmented(image: Tensor, purpose: str) -> Tensor:
        """`image` under the augmentation of this step and purpose; the same one whenever it is asked for."""
        if not options.augment:
            return image
        return augment(image, draw(torch.rand, f"augment {purpose}", UNIFORMS), options.augment)

    def autocast() -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=execution.precision == "bf16")

    meter = _Meter(device)
    while images < options.images:
        rate = learning_rate_factor(options, images)
        adam_G.param_groups[0]["lr"] = at(options.learning_rate_generator, images, options) * rate
        adam_D.param_groups[0]["lr"] = at(options.learning_rate_discriminator, images, options) * rate

        # Discriminator: real images against generated ones.
        D.requires_grad_(True)
        for d_step in range(options.d_steps):
            real, label, condition = data.batch(order(images, images + options.batch)[share], device)
            z = draw(torch.randn, f"latent {d_step}", options.network.latent)
            # The last of these batches also serves the generator, whose weights do not change in between.
            with autocast(), torch.set_grad_enabled(d_step == options.d_steps - 1):
                fake = G(z, label, condition).float()
            with autocast():
                both = torch.cat((augmented(real, f"real {d_step}"), augmented(fake.detach(), f"fake {d_step}")))
                logits_real, logits_fake = D(both, label.repeat(2), condition).float().chunk(2)
            loss_D = loss.discriminator(logits_real, logits_fake)
            penalty = torch.zeros_like(loss_D)
            if options.r1_gamma and step % options.penalty_every == 0 and d_step == 0:
                real.requires_grad_(True)
                # In fp32, and scaled by the interval (lazy regularisation, Karras et al. 2020, section 3.1).
                penalty = r1_penalty(D(augmented(real, f"real {d_step}"), label, condition), real)
                meter.add(r1=penalty)
            weight = options.r1_gamma / 2 * options.penalty_every
            ((loss_D + weight * penalty).sum() / options.batch).backward()
            _sum_gradients(D)
            adam_D.step()
            adam_D.zero_grad()
            images += options.batch
            meter.add(
                discriminator_loss=loss_D,
                discriminator_accuracy=((logits_real > 0).float() + (logits_fake < 0).float()) / 2,
            )

        # Generator, against a discriminator that is frozen: its own gradients are not computed.
        D.requires_grad_(False)
        with autocast():
            logits = D(augmented(fake, "generator"), label, condition)
        loss_G = loss.generator(logits.float())
        (loss_G.sum() / options.batch).backward()
        _sum_gradients(G)
        adam_G.step()
        adam_G.zero_grad()
        meter.add(generator_loss=loss_G)

        _update_ema(ema, G, ema_decay(options, images))
        step += 1
        seen = options.batch * options.d_steps
        if images // options.log_every > (images - seen) // options.log_every or images >= options.images:
            metrics = meter.averages()
            if not all(math.isfinite(value) for value in metrics.values()):
                raise UserError(
                    f"training diverged before image {images}: {metrics}; "
                    "raise train.r1_gamma or lower the learning rates"
                )
            yield Progress(images, metrics, ema, partial(_state, modules, adams, images, step))


def bf16(gpu: bool) -> bool:
    """Whether this machine multiplies faster in bfloat16."""
    return bool(torch.cuda.is_bf16_supported() if gpu else torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _adam(module: nn.Module, learning_rate: float, betas: tuple[float, float]) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), learning_rate, betas, eps=1e-8, fused=True)


@torch.no_grad()
def _update_ema(ema: nn.Module, G: nn.Module, decay: float) -> None:
    """ema <- decay * ema + (1 - decay) * G, batch norm's running statistics included, in one kernel launch."""
    torch._foreach_lerp_(_floats(ema), _floats(G), 1 - decay)


def _floats(module: nn.Module) -> list[Tensor]:
    return [t.detach() for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]


def _sum_gradients(module: nn.Module) -> None:
    """Sum the gradients over ranks in one flat all-reduce; a no-op without a process group.

    By hand rather than by DDP, which is silently wrong where a submodule is called by itself, and averages shares as
    if they were equal.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    parameters = list(module.parameters())
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in parameters])
    dist.all_reduce(flat)
    for p, gradient in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        p.grad = torch.empty_like(p).copy_(gradient.view_as(p))


class _Meter:
    """Sums of values for each image, kept on the device so that the loop does not wait, averaged over all ranks."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums: dict[str, Tensor] = {}

    def add(self, **values: Tensor) -> None:
        for name, value in values.items():
            pair = torch.stack((value.detach().float().sum(), torch.tensor(float(len(value)), device=self._device)))
            self._sums[name] = self._sums[name] + pair if name in self._sums else pair

    def averages(self) -> dict[str, float]:
        names = sorted(self._sums)
        pairs = torch.stack([self._sums[name] for name in names]).double()
        if dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(pairs)
        self._sums.clear()
        return dict(zip(names, (pairs[:, 0] / pairs[:, 1]).tolist(), strict=True))


def _state(modules: dict[str, nn.Module], adams: dict[str, torch.optim.Adam], images: int, step: int) -> State:
    tensors = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for name, adam in adams.items():
        for index, moments in enumerate(adam.state[p] for p in adam.param_groups[0]["params"]):
            tensors |= {f"{name}/{index}/{key}": value for key, value in moments.items()}
    # A plain copy keeps a tensor's memory format, and safetensors wants the standard one.
    copies = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
    return State(copies, images, step)


def _restore(tensors: dict[str, Tensor], modules: dict[str, nn.Module], adams: dict[str, torch.optim.Adam]) -> None:
    for name, module in modules.items():
        module.load_state_dict({key: tensors[f"{name}/{key}"] for key in module.state_dict()})
    for name, adam in adams.items():
        for index, p in enumerate(adam.param_groups[0]["params"]):
            step, *moments = (tensors[f"{name}/{index}/{key}"] for key in ("step", "exp_avg", "exp_avg_sq"))
            # In the parameter's own memory format: another one would change the order of Adam's arithmetic.
            average, square = (torch.empty_like(p).copy_(moment) for moment in moments)
            adam.state[p] = {"step": step.to(p.device).clone(), "exp_avg": average, "exp_avg_sq": square}
