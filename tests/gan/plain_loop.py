"""The training of `training_loop` as tutorials write it, to hold ours against; and noise to train it on."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from components.gan.augmentation import UNIFORMS, augment
from components.gan.dataset import Split
from components.gan.inputs import Inputs
from components.gan.losses import LOSSES, gradient_penalty, orthogonal_penalty, path_lengths
from components.gan.models import build
from components.gan.options import ImageFormat, TrainingOptions
from components.gan.order import training_order
from components.gan.sampling import generator_for
from components.gan.schedules import at, ema_decay, learning_rate_factor
from components.gan.tasks.image_tasks import task_of
from components.gan.tasks.options import Restyle

CLASSES = tuple("0123456789")


def plain_loop(options: TrainingOptions, data: Split, device: torch.device) -> Iterator[dict[str, Tensor]]:
    """The same training as `training_loop` on one rank without adaptive augmentation, as tutorials write it.

    Yields the weights of the generator, the discriminator and the moving averages after every step.
    """
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        G, D = (n.to(device).train() for n in build(options.network, data.image))
    half_lives = {"ema": options.ema_half_life, **{f"ema_{h:g}": h for h in options.ema_half_lives}}
    averages = {name: copy.deepcopy(G) for name in half_lives}
    adam_G, adam_D = (
        torch.optim.Adam(network.parameters(), eps=1e-8, foreach=False, fused=False) for network in (G, D)
    )
    loss, order = LOSSES[options.loss], training_order(options, data)
    images, step, mean = 0, 0, torch.zeros((), device=device)

    def draw(purpose: str, size: int) -> Tensor:
        return torch.randn(options.batch, size, generator=generator_for(options.seed, step, purpose)).to(device)

    def uniform(purpose: str, size: int) -> Tensor:
        return torch.rand(options.batch, size, generator=generator_for(options.seed, step, purpose)).to(device)

    def view(image: Tensor, purpose: str) -> Tensor:
        return augment(image, uniform(f"augment {purpose}", UNIFORMS), options.augment) if options.augment else image

    while True:
        for adam, rate in ((adam_G, options.learning_rate_generator), (adam_D, options.learning_rate_discriminator)):
            adam.param_groups[0]["lr"] = at(rate, images, options) * learning_rate_factor(options, images)
            adam.param_groups[0]["betas"] = (options.adam_betas[0], at(options.adam_betas[1], images, options))
        for d_step in range(options.d_steps):
            real, label, *_ = data.batch(order(images, images + options.batch), device)
            real = real.contiguous()
            z = draw(f"latent {d_step}", options.network.latent)
            inputs = Inputs(z, label)
            fake = G(inputs)
            due = (step * options.d_steps + d_step) % options.penalty_every == 0
            r1, r2 = (at(gamma, images, options) if due else 0.0 for gamma in (options.r1_gamma, options.r2_gamma))
            x_real, x_fake = real.requires_grad_(r1 > 0), fake.detach().requires_grad_(r2 > 0)
            seen_real, seen_fake = view(x_real, f"real {d_step}"), view(x_fake, f"fake {d_step}")
            if r1 or r2:
                logits_real, logits_fake = D(seen_real, inputs), D(seen_fake, inputs)
            else:
                # In one call, as ours: spectral norm goes one iteration on in every call.
                logits_real, logits_fake = D(torch.cat((seen_real, seen_fake)), Inputs.cat((inputs, inputs))).chunk(2)
            loss_D = loss.discriminator(logits_real, logits_fake)
            for gamma, logits, x in ((r1, logits_real, x_real), (r2, logits_fake, x_fake)):
                if gamma:
                    loss_D = loss_D + gamma / 2 * options.penalty_every * gradient_penalty(logits, x)
            if due and options.wgan_gp_weight:
                u = uniform(f"between {d_step}", 1)[:, :, None, None]
                between = ((1 - u) * seen_real + u * seen_fake).detach().requires_grad_()
                norm = gradient_penalty(D(between, inputs), between).add(1e-12).sqrt()
                loss_D = loss_D + options.wgan_gp_weight * options.penalty_every * (norm - 1).square()
            adam_D.zero_grad()
            loss_D.mean().backward()
            adam_D.step()
            images += options.batch
        logits_fake = D(view(fake, "generator"), inputs)
        logits_real = D(view(real.detach(), "generator real"), inputs) if loss.relativistic else logits_fake
        objective = loss.generator(logits_real, logits_fake).mean()
        if options.path_length_weight and step % options.path_length_every == 0:
            styles = G.styles(z[::2], label[::2])
            y = draw("path length", fake[0].numel())[::2].view_as(fake[::2])
            lengths = path_lengths(G.synthesis(styles, z[::2]), styles, y)
            mean = torch.lerp(mean, lengths.detach().mean(), 0.01)
            weight = options.path_length_weight * options.path_length_every
            objective = objective + weight * (lengths - mean).square().mean()
        if options.orthogonal_weight:
            objective = objective + options.orthogonal_weight * orthogonal_penalty(G)
        adam_G.zero_grad()
        objective.backward()
        adam_G.step()
        with torch.no_grad():
            for name, half_life in half_lives.items():
                decay = ema_decay(options, images, half_life)
                for average, value in zip(averages[name].parameters(), G.parameters(), strict=True):
                    average.copy_(torch.lerp(value, average, decay))
                for average, value in zip(averages[name].buffers(), G.buffers(), strict=True):
                    average.copy_(torch.lerp(value, average, decay))
        step += 1
        yield {
            f"{name}/{key}": value
            for name, network in {"generator": G, "discriminator": D, **averages}.items()
            for key, value in network.state_dict().items()
        }


def plain_task_loop(options: TrainingOptions, data: Split, device: torch.device) -> Iterator[dict[str, Tensor]]:
    """The same for an image task, without mirroring, augmentation and penalties."""
    task = task_of(options.task)
    assert task is not None
    restyle = options.task if isinstance(options.task, Restyle) else None
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        G, D = (n.to(device).train() for n in build(options.network, data.image, options.task))
    average = copy.deepcopy(G)
    adam_G, adam_D = (
        torch.optim.Adam(network.parameters(), eps=1e-8, foreach=False, fused=False) for network in (G, D)
    )
    loss, order = LOSSES[options.loss], training_order(options, data)
    images, step = 0, 0
    while True:
        for adam, rate in ((adam_G, options.learning_rate_generator), (adam_D, options.learning_rate_discriminator)):
            adam.param_groups[0]["lr"] = at(rate, images, options) * learning_rate_factor(options, images)
            adam.param_groups[0]["betas"] = (options.adam_betas[0], at(options.adam_betas[1], images, options))
        weights = options.pixel_weight, options.feature_weight, options.adversarial_weight
        pixel, feature, adversarial = (at(weight, images, options) for weight in weights)
        index = order(images, images + options.batch)
        real, label, given, _ = data.batch(index, device)
        real = real.contiguous()
        z = torch.randn(options.batch, options.latent, generator=generator_for(options.seed, step, "latent 0"))
        if restyle is not None:
            u = torch.rand(options.batch, 2, generator=generator_for(options.seed, step, "source 0")).double().numpy()
            others = [
                np.flatnonzero(data.labels != row)[int(v * (data.labels != row).sum())]
                for row, (_, v) in zip(data.labels[index], u, strict=True)
            ]
            given, source = data.batch(np.array(others), device)[:2]
        elif options.task.name != "translate":
            rng = generator_for(options.seed, step, "degrade 0")
            given = task.degrade(real, torch.rand(options.batch, task.numbers(data.image), generator=rng).to(device))
        assert given is not None
        inputs = Inputs(z.to(device), label, given.contiguous())
        fake = G(inputs)
        if adversarial:
            logits_real, logits_fake = D(torch.cat((real, fake.detach())), Inputs.cat((inputs, inputs))).chunk(2)
            adam_D.zero_grad()
            loss.discriminator(logits_real, logits_fake).mean().backward()
            adam_D.step()
        images += options.batch
        if restyle is None:
            objective = pixel * task.difference(fake, real, given).mean()
        else:
            back, left = G(Inputs(inputs.z, source, fake)), G(Inputs(inputs.z, label, real))
            objective = restyle.cycle * (back - given).abs().mean() + restyle.identity * (left - real).abs().mean()
        if adversarial:
            made = D.features(fake, inputs)
            objective = objective + adversarial * loss.generator(logits_real, D.logits(made, inputs)).mean()
            if feature:
                seen = [layer.detach() for layer in D.features(real, inputs)]
                apart = [(a - b).abs().mean() for a, b in zip(made, seen, strict=True)]
                objective = objective + feature * torch.stack(apart).mean()
        adam_G.zero_grad()
        objective.backward()
        adam_G.step()
        with torch.no_grad():
            decay = ema_decay(options, images)
            for kept, value in zip(average.parameters(), G.parameters(), strict=True):
                kept.copy_(torch.lerp(value, kept, decay))
        step += 1
        yield {
            f"{name}/{key}": value
            for name, network in {"generator": G, "discriminator": D, "ema": average}.items()
            for key, value in network.state_dict().items()
        }


def random_split(folder: Path, image: ImageFormat, count: int = 2_000) -> Split:
    """Noise in the format of a data set; a step takes as long whatever the images show."""
    rng = np.random.default_rng(0)
    np.save(folder / "training-00000.npy", rng.integers(0, 256, (count, *image.shape), dtype=np.uint8))
    np.save(folder / "training-labels.npy", rng.integers(0, len(image.classes), count))
    return Split(folder, "training", image)
