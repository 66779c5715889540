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

from .ada import UNIFORMS as ADA_UNIFORMS
from .ada import UPDATE_EVERY, AugmentationProbability, adapt
from .augmentation import UNIFORMS, augment
from .dataset import Split, on_device, shuffled_order
from .errors import UserError
from .inputs import Inputs
from .losses import LOSSES, gradient_penalty, orthogonal_penalty, path_lengths, wgan_gp
from .models import build
from .options import Execution, Ramp, TrainingOptions
from .sampling import generator_for
from .schedules import at, ema_decay, learning_rate_factor


class State(NamedTuple):
    """All that a resume needs: named tensors on the CPU, how far the training is, and which noise it draws."""

    tensors: dict[str, Tensor]
    images: int
    step: int
    attempt: int = 0


START = State({}, 0, 0)


class DivergedError(UserError):
    """A loss or a weight is not finite: nothing that came after the last state is of use."""


class Progress(NamedTuple):
    """Metrics averaged over the images since the last Progress; `state` copies the full state when called."""

    images: int
    metrics: dict[str, float]
    ema: nn.Module
    state: Callable[[], State]


def training_loop(
    options: TrainingOptions, data: Split, execution: Execution, state: State = START
) -> Iterator[Progress]:
    """Train from `state` until `options.images` real images have been seen.

    Yields every `options.log_every` images and at the end, on all ranks at the same images. With a process group
    each rank computes its share of the global batch. Another `state.attempt` draws other noise.

    Raises:
        UserError: the networks cannot make such images.
        DivergedError: a loss or a weight is no longer finite; told by all ranks at the same image.
    """
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    share = options.share(rank, ranks)
    device = torch.device(execution.device)
    if device.type == "cuda" and execution.precision == "bf16":
        # What stays in fp32 may use TF32's products, which have more digits than bf16's.
        torch.set_float32_matmul_precision("high")
    loss = LOSSES[options.loss]
    order = shuffled_order(len(data), options.seed)

    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        networks = build(options.network, data.image)
    memory_format = torch.channels_last if options.shortcuts else torch.contiguous_format
    G, D = (n.to(device).to(memory_format=memory_format).train() for n in networks)  # type: ignore[call-overload]
    ema = copy.deepcopy(G).eval().requires_grad_(False)
    adam_G, adam_D = _adam(G, options), _adam(D, options)
    path_length = PathLength().to(device)
    adaptive = AugmentationProbability(options).to(device) if options.ada else None
    modules = {"generator": G, "discriminator": D, "ema": ema, "path_length": path_length}
    if adaptive is not None:
        modules["ada"] = adaptive
    adams = {"adam_generator": adam_G, "adam_discriminator": adam_D}
    images, step, attempt = state.images, state.step, state.attempt
    if state.tensors:
        _restore(state.tensors, modules, adams)

    def draw(kind: Callable[..., Tensor], purpose: str, size: int) -> Tensor:
        """This rank's rows of a draw (batch, size) that is the same whatever the number of ranks."""
        tried = (attempt,) if attempt else ()
        rows = kind(options.batch, size, generator=generator_for(options.seed, step, purpose, *tried))
        return on_device(rows[share], device)

    def augmented(image: Tensor, purpose: str) -> Tensor:
        """`image` under the augmentation of this step and purpose; the same one whenever it is asked for."""
        if options.augment:
            image = augment(image, draw(torch.rand, f"augment {purpose}", UNIFORMS), options.augment)
        if adaptive is not None:
            uniforms = draw(torch.rand, f"ada {purpose}", ADA_UNIFORMS)
            image = adapt(image, uniforms, adaptive.probability, adaptive.ada.transforms)
        return image

    def autocast() -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=execution.precision == "bf16")

    meter = _Meter()
    while images < options.images:
        _schedule(adam_G, options.learning_rate_generator, options, images)
        _schedule(adam_D, options.learning_rate_discriminator, options, images)

        if adaptive is not None and step % UPDATE_EVERY == 0:
            adaptive.update(images)

        # Discriminator: real images against generated ones.
        D.requires_grad_(True)
        for d_step in range(options.d_steps):
            real, label, condition = data.batch(order(images, images + options.batch)[share], device)
            real = real.contiguous(memory_format=memory_format)
            if options.mirror:
                real = torch.where(draw(torch.rand, f"mirror {d_step}", 1)[:, :, None, None] < 0.5, real, real.flip(3))
            inputs = Inputs(draw(torch.randn, f"latent {d_step}", options.network.latent), label, condition)
            # The last of these batches also serves the generator, whose weights do not change in between.
            with autocast(), torch.set_grad_enabled(d_step == options.d_steps - 1):
                fake = G(inputs).float()
            r1, r2 = (at(gamma, images, options) for gamma in (options.r1_gamma, options.r2_gamma))
            due = (step * options.d_steps + d_step) % options.penalty_every == 0
            # Leaves of the graph: penalties are gradients at the images before augmentation.
            x_real, x_fake = real.detach().requires_grad_(due and r1 > 0), fake.detach().requires_grad_(due and r2 > 0)
            with autocast():
                views = augmented(x_real, f"real {d_step}"), augmented(x_fake, f"fake {d_step}")
                if x_real.requires_grad or x_fake.requires_grad:
                    logits_real, logits_fake = (D(view, inputs).float() for view in views)
                else:
                    logits_real, logits_fake = D(torch.cat(views), Inputs.cat((inputs, inputs))).float().chunk(2)
            loss_D = loss.discriminator(logits_real, logits_fake)
            meter.add(discriminator_loss=loss_D, discriminator_accuracy=loss.accuracy(logits_real, logits_fake))
            meter.add(diversity=_diversity(fake, real, label))
            # Scaled by the interval (lazy regularisation, Karras et al. 2020, section 3.1).
            if x_real.requires_grad:
                penalty = gradient_penalty(logits_real, x_real)
                loss_D = loss_D + r1 / 2 * options.penalty_every * penalty
                meter.add(r1=penalty)
            if x_fake.requires_grad:
                penalty = gradient_penalty(logits_fake, x_fake)
                loss_D = loss_D + r2 / 2 * options.penalty_every * penalty
                meter.add(r2=penalty)
            if due and options.wgan_gp_weight:
                u = draw(torch.rand, f"between {d_step}", 1)
                with autocast():
                    penalty = wgan_gp(partial(D, inputs=inputs), x_real, x_fake, u)
                loss_D = loss_D + options.wgan_gp_weight * options.penalty_every * penalty
                meter.add(wgan_gp=penalty)
            (loss_D.sum() / options.batch).backward()
            _sum_gradients(D)
            adam_D.step()
            adam_D.zero_grad()
            if adaptive is not None:
                adaptive.observe(logits_real.detach())
            images += options.batch

        # Generator, against a discriminator that is frozen: its own gradients are not computed. (Without shortcuts they
        # are, and thrown away.)
        D.requires_grad_(not options.shortcuts)
        with autocast():
            logits_fake = D(augmented(fake, "generator"), inputs).float()
            if loss.relativistic:
                logits_real = D(augmented(real, "generator real"), inputs).float()
        loss_G = loss.generator(logits_real.detach(), logits_fake)
        meter.add(generator_loss=loss_G)
        objective = loss_G.sum() / options.batch
        if options.path_length_weight and step % options.path_length_every == 0:
            # On every second image of the global batch, as the penalty needs many (section 3.2 of the paper).
            half = slice(share.start % 2, None, 2)
            y = draw(torch.randn, "path length", fake[0].numel())[half].view_as(fake[half])
            # In fp32: in bf16 the cosine of its gradient to this one was 0.95.
            styles = G.styles(inputs.z[half], label[half])
            image = G.synthesis(styles, inputs.z[half])
            penalty = path_length(path_lengths(image, styles, y))
            weight = options.path_length_weight * options.path_length_every
            objective = objective + weight * penalty.sum() / ((options.batch + 1) // 2)
            meter.add(path_length=penalty)
        if options.orthogonal_weight:
            # The same on every rank, and gradients are summed.
            objective = objective + options.orthogonal_weight / ranks * orthogonal_penalty(G)
        objective.backward()
        _sum_gradients(G)
        adam_G.step()
        adam_G.zero_grad()
        adam_D.zero_grad()

        _update_ema(ema, G, ema_decay(options, images))
        step += 1
        seen = options.batch * options.d_steps
        if images // options.log_every > (images - seen) // options.log_every or images >= options.images:
            if adaptive is not None:
                meter.add(augment_probability=adaptive.probability.expand(1))
            metrics = meter.averages(device)
            if broken := [name for name, value in metrics.items() if not math.isfinite(value)] or _broken(modules):
                raise DivergedError(f"training diverged before image {images:,} ({', '.join(broken)} not finite)")
            yield Progress(images, metrics, ema, partial(_state, modules, adams, images, step, attempt))


def bf16(gpu: bool) -> bool:
    """Whether this machine multiplies faster in bfloat16."""
    return bool(torch.cuda.is_bf16_supported() if gpu else torch.ops.mkldnn._is_mkldnn_bf16_supported())


class PathLength(nn.Module):
    """(length - a)^2 with a the running mean of all lengths, over all ranks (Karras et al. 2020, eq. 4)."""

    mean: Tensor

    def __init__(self, rate: float = 0.01) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, lengths: Tensor) -> Tensor:
        with torch.no_grad():
            total = torch.stack((lengths.sum(), lengths.new_tensor(len(lengths))))
            if dist.is_initialized() and dist.get_world_size() > 1:
                dist.all_reduce(total)
            self.mean.lerp_(total[0] / total[1], self.rate)
        return (lengths - self.mean.clone()).square()


def _adam(module: nn.Module, options: TrainingOptions) -> torch.optim.Adam:
    """Adam in one kernel for all parameters, or without shortcuts one parameter after another."""
    return torch.optim.Adam(module.parameters(), eps=1e-8, fused=options.shortcuts, foreach=False)


def _schedule(adam: torch.optim.Adam, rate: float | Ramp, options: TrainingOptions, images: int) -> None:
    """Set the learning rate and the decays of the moments for this step."""
    first, second = options.adam_betas
    adam.param_groups[0]["lr"] = at(rate, images, options) * learning_rate_factor(options, images)
    adam.param_groups[0]["betas"] = (first, at(second, images, options))


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
    # In the order of memory, whatever the memory format: nothing is rearranged on the way there and back.
    flat = torch.cat([_like(p, p.grad).as_strided((p.numel(),), (1,)) for p in parameters])
    dist.all_reduce(flat)
    for p, gradient in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        p.grad = gradient.as_strided(p.shape, p.stride())


def _like(p: Tensor, gradient: Tensor | None) -> Tensor:
    """`gradient` in the memory format of p, zeros where there is none."""
    if gradient is None:
        return torch.zeros_like(p)
    return gradient if gradient.stride() == p.stride() else torch.empty_like(p).copy_(gradient)


def _diversity(fake: Tensor, real: Tensor, label: Tensor) -> Tensor:
    """How much generated images of a class differ within a batch, over how much real ones do: (1,), 0 if all are alike.

    By the mean absolute difference of neighbours in the order of labels; of all neighbours where no two share a class.
    """
    order = label.argsort(stable=True)
    same = label[order[1:]] == label[order[:-1]]
    weight = torch.where(same.any(), same, torch.ones_like(same)).float()
    differences = [
        (weight * (ordered[1:] - ordered[:-1]).abs().flatten(1).mean(1)).sum()
        for ordered in (images.detach().float()[order] for images in (fake, real))
    ]
    return ((differences[0] + 1e-6) / (differences[1] + 1e-6)).expand(1)


class _Meter:
    """Sums of values for each image, kept on the device so that the loop does not wait, averaged over all ranks."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, **values: Tensor) -> None:
        for name, value in values.items():
            total = value.detach().float().sum()
            self._sums[name] = self._sums[name] + total if name in self._sums else total
            self._counts[name] = self._counts.get(name, 0) + len(value)

    def averages(self, device: torch.device) -> dict[str, float]:
        names = sorted(self._sums)
        sums = torch.stack([self._sums[name] for name in names]).double()
        pairs = torch.stack((sums, torch.tensor([self._counts[name] for name in names], device=device).double()))
        if dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(pairs)
        self._sums.clear()
        self._counts.clear()
        return dict(zip(names, (pairs[0] / pairs[1]).tolist(), strict=True))


def _broken(modules: dict[str, nn.Module]) -> list[str]:
    """The modules that have a weight or statistic that is not finite."""
    norms = {name: torch.stack(torch._foreach_norm(_floats(module))) for name, module in modules.items()}
    return [f"weights of the {name}" for name, norm in norms.items() if not torch.isfinite(norm).all()]


def _state(
    modules: dict[str, nn.Module], adams: dict[str, torch.optim.Adam], images: int, step: int, attempt: int
) -> State:
    tensors = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for name, adam in adams.items():
        for index, moments in enumerate(adam.state[p] for p in adam.param_groups[0]["params"]):
            tensors |= {f"{name}/{index}/{key}": value for key, value in moments.items()}
    # A plain copy keeps a tensor's memory format, and safetensors wants the standard one.
    copies = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
    return State(copies, images, step, attempt)


def _restore(tensors: dict[str, Tensor], modules: dict[str, nn.Module], adams: dict[str, torch.optim.Adam]) -> None:
    for name, module in modules.items():
        module.load_state_dict({key: tensors[f"{name}/{key}"] for key in module.state_dict()})
    for name, adam in adams.items():
        for index, p in enumerate(adam.param_groups[0]["params"]):
            step, *moments = (tensors[f"{name}/{index}/{key}"] for key in ("step", "exp_avg", "exp_avg_sq"))
            # In the parameter's own memory format: another one would change the order of Adam's arithmetic.
            average, square = (torch.empty_like(p).copy_(moment) for moment in moments)
            adam.state[p] = {"step": step.to(p.device).clone(), "exp_avg": average, "exp_avg_sq": square}
