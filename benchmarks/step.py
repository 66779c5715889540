"""One full step (discriminator, generator, moving average) of our loop and of a plain loop over the same networks.

python -m benchmarks.step --model dcgan --resolution 64 --batch 32 --seconds 60
python -m benchmarks.step --model r3gan --width 96 --resolution 32 --batch 32 --seconds 60 --minimum 1.6

Both run in turns in one process, with the same batches, latents, losses, lazy intervals and threads. The plain loop is
what tutorials do: fp32, contiguous tensors, nothing frozen, Adam and the moving average one tensor after another.
Prints one JSON line; `ratio` is the median over rounds of ours / plain. With --minimum a lower ratio is an error.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from components.gan.dataset import Split, shuffled_order
from components.gan.losses import LOSSES, gradient_penalty, orthogonal_penalty, path_lengths
from components.gan.models import build
from components.gan.options import NETWORKS, Execution, ImageFormat, TrainingOptions
from components.gan.sampling import generator_for
from components.gan.schedules import at, ema_decay, learning_rate_factor
from components.gan.training_loop import bf16, training_loop

CLASSES = tuple("0123456789")
WARM_UP = 2


def plain_loop(options: TrainingOptions, data: Split, device: torch.device) -> Iterator[dict[str, Tensor]]:
    """The same training as `training_loop` on one rank without augmentation, as tutorials write it.

    Yields the weights of the generator, the discriminator and the moving average after every step.
    """
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        G, D = (n.to(device).train() for n in build(options.network, data.image))
    ema = copy.deepcopy(G)
    adam_G, adam_D = (
        torch.optim.Adam(network.parameters(), eps=1e-8, foreach=False, fused=False) for network in (G, D)
    )
    loss, order = LOSSES[options.loss], shuffled_order(len(data), options.seed)
    images, step, mean = 0, 0, torch.zeros((), device=device)

    def draw(purpose: str, size: int) -> Tensor:
        return torch.randn(options.batch, size, generator=generator_for(options.seed, step, purpose)).to(device)

    while True:
        for adam, rate in ((adam_G, options.learning_rate_generator), (adam_D, options.learning_rate_discriminator)):
            adam.param_groups[0]["lr"] = at(rate, images, options) * learning_rate_factor(options, images)
            adam.param_groups[0]["betas"] = (options.adam_betas[0], at(options.adam_betas[1], images, options))
        for d_step in range(options.d_steps):
            real, label, _ = data.batch(order(images, images + options.batch), device)
            real = real.contiguous()
            z = draw(f"latent {d_step}", options.network.latent)
            fake = G(z, label, None)
            due = (step * options.d_steps + d_step) % options.penalty_every == 0
            r1, r2 = (at(gamma, images, options) if due else 0.0 for gamma in (options.r1_gamma, options.r2_gamma))
            x_real, x_fake = real.requires_grad_(r1 > 0), fake.detach().requires_grad_(r2 > 0)
            if r1 or r2:
                logits_real, logits_fake = D(x_real, label, None), D(x_fake, label, None)
            else:
                # In one call, as ours: spectral norm goes one iteration on in every call.
                logits_real, logits_fake = D(torch.cat((x_real, x_fake)), label.repeat(2), None).chunk(2)
            loss_D = loss.discriminator(logits_real, logits_fake)
            for gamma, logits, x in ((r1, logits_real, x_real), (r2, logits_fake, x_fake)):
                if gamma:
                    loss_D = loss_D + gamma / 2 * options.penalty_every * gradient_penalty(logits, x)
            adam_D.zero_grad()
            loss_D.mean().backward()
            adam_D.step()
            images += options.batch
        logits_fake = D(fake, label, None)
        logits_real = D(real.detach(), label, None) if loss.relativistic else logits_fake
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
            decay = ema_decay(options, images)
            for average, value in zip(ema.parameters(), G.parameters(), strict=True):
                average.copy_(torch.lerp(value, average, decay))
            for average, value in zip(ema.buffers(), G.buffers(), strict=True):
                average.copy_(torch.lerp(value, average, decay))
        step += 1
        yield {
            f"{name}/{key}": value
            for name, network in (("generator", G), ("discriminator", D), ("ema", ema))
            for key, value in network.state_dict().items()
        }


def random_split(folder: Path, image: ImageFormat, count: int = 2_000) -> Split:
    """Noise in the format of a data set; a step takes as long whatever the images show."""
    rng = np.random.default_rng(0)
    np.save(folder / "training-00000.npy", rng.integers(0, 256, (count, *image.shape), dtype=np.uint8))
    np.save(folder / "training-labels.npy", rng.integers(0, len(image.classes), count))
    return Split(folder, "training", image)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=NETWORKS, default="dcgan")
    parser.add_argument("--width", type=int, help="of the network; default: its options' own")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto", help="of our loop")
    parser.add_argument("--minimum", type=float, default=0.0, help="exit with an error where the ratio is below")
    given = parser.parse_args()

    torch.set_num_threads(given.threads)
    network: dict[str, object] = {"name": given.model}
    if given.width:
        widths = {"width", "generator_width", "discriminator_width"} & set(NETWORKS[given.model].model_fields)
        if not widths:
            parser.error(f"{given.model} has no width")
        network |= dict.fromkeys(widths, given.width)
    gpu = torch.cuda.is_available()
    fast = bf16(gpu)
    precision = ("bf16" if fast and given.model != "mlp" else "fp32") if given.precision == "auto" else given.precision
    options = TrainingOptions.model_validate({"network": network, "images": 10**12, "batch": given.batch})
    # As many steps as the longest lazy interval, so that every round has each penalty as often.
    lazy = [options.penalty_every] if options.r1_gamma or options.r2_gamma else []
    lazy += [options.path_length_every] if options.path_length_weight else []
    steps = max(2, -(-max(lazy, default=0) // options.d_steps))
    options = options.model_copy(update={"log_every": steps * given.batch * options.d_steps})
    image = ImageFormat(height=given.resolution, width=given.resolution, channels=given.channels, classes=CLASSES)
    execution = Execution(workers=1, threads=given.threads, device="cuda" if gpu else "cpu", precision=precision)

    with TemporaryDirectory() as folder:
        data = random_split(Path(folder), image)
        ours, plain = training_loop(options, data, execution), plain_loop(options, data, torch.device(execution.device))

        def seconds(loop: Iterator[object], turns: int) -> float:
            began = time.perf_counter()
            for _ in range(turns):
                next(loop)
            if gpu:
                torch.cuda.synchronize()
            return time.perf_counter() - began

        for _ in range(WARM_UP):
            seconds(ours, 1), seconds(plain, steps)
        rounds: list[tuple[float, float]] = []
        end = time.perf_counter() + given.seconds
        while time.perf_counter() < end or len(rounds) < 3:
            rounds.append((seconds(ours, 1), seconds(plain, steps)))
    G, D = build(options.network, image)
    seen = steps * given.batch * options.d_steps
    result = {
        "model": given.model,
        "precision": precision,
        "device": torch.cuda.get_device_name() if gpu else f"cpu, {given.threads} threads",
        "images_per_second": round(seen / median(a for a, _ in rounds), 1),
        "plain_images_per_second": round(seen / median(b for _, b in rounds), 1),
        "ratio": round(median(b / a for a, b in rounds), 3),
        "rounds": len(rounds),
        "generator_parameters": sum(p.numel() for p in G.parameters()),
        "discriminator_parameters": sum(p.numel() for p in D.parameters()),
    }
    print(json.dumps(result))
    if result["ratio"] < given.minimum:
        sys.exit(f"our loop is {result['ratio']} times as fast as the plain one, which is below {given.minimum}")


if __name__ == "__main__":
    main()
