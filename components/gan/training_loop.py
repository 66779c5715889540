"""The training loop: discriminator step(s), generator step, moving average; a generator that yields and never reports.

Everything random is a function of (seed, step, purpose, global index), see `draws.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from .curves import Averages, diversity
from .dataset import Split, TrainingBatch
from .draws import Draws
from .errors import DivergedError
from .inputs import Inputs
from .losses import LOSSES, feature_matching, gradient_penalty, of_images, orthogonal_penalty, path_lengths, wgan_gp
from .models import build
from .models.image_to_image import PatchDiscriminator
from .models.layers import Generator
from .options import Execution, TrainingOptions
from .order import training_order
from .penalties import GeneratorWeights, Penalty, Weights
from .players import Players
from .ranks import rank_and_ranks
from .tasks.image_task import Degrading, visible
from .tasks.translation import Restyling
from .views import view


class State(NamedTuple):
    """All that a resume needs: named tensors on the CPU, how far the training is, and which noise it draws."""

    tensors: dict[str, Tensor]
    images: int
    step: int
    attempt: int = 0


START = State({}, 0, 0)


class Progress(NamedTuple):
    """Metrics averaged over the images since the last Progress; `state` copies the full state when called.

    `averages` are the moving averages of the generator by their names in the state, of which "ema" is always there.
    """

    images: int
    metrics: dict[str, float]
    averages: Mapping[str, Generator]
    state: Callable[[], State]

    @property
    def ema(self) -> Generator:
        """The first of the averages."""
        return self.averages["ema"]


class Pairs(NamedTuple):
    """Real images and as many generated ones, (B, C, H, W) each, and the inputs that a row of both belongs to.

    `given` is what an image task shows, (B, K, h, w), which the discriminator looks at where it is in the inputs; None
    without such a task. `source` is the class of what is shown, (B,), where it is an image of another one.
    """

    real: Tensor
    fake: Tensor
    inputs: Inputs
    given: Tensor | None = None
    source: Tensor | None = None


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
    share = options.share(*rank_and_ranks())
    device = torch.device(execution.device)
    if device.type == "cuda" and execution.precision == "bf16":
        # What stays in fp32 may use TF32's products, which have more digits than bf16's.
        torch.set_float32_matmul_precision("high")
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        networks = build(options.network, data.image, options.task)
    players = Players(options, data.image, networks, device, execution.precision)
    if state.tensors:
        players.restore(state.tensors)
    images, step = state.images, state.step
    order = training_order(options, data)
    draws = Draws(options.seed, options.batch, share, device, state.attempt)
    averages = Averages()

    while images < options.images:
        players.schedule(images, step)

        # Discriminator: other images in each of its steps.
        before = images
        for d_step in range(options.d_steps):
            drawn = draws.at(step, d_step)
            index = order(images, images + options.batch)[share]
            batch = data.batch(index, device)
            if isinstance(players.task, Restyling):
                batch = data.with_others(batch, index, drawn.uniform("source", 2))
            # The last of these pairs also serve the generator, whose weights do not change in between.
            pairs = paired(players, batch, drawn, differentiable=d_step == options.d_steps - 1)
            weights = Weights.of(options, images, step * options.d_steps + d_step)
            if not weights.resting:
                averages.add(discriminator_step(players, pairs, drawn, weights))
            images += options.batch

        # Generator, and the moving average of its weights.
        averages.add(generator_step(players, pairs, draws.at(step), GeneratorWeights.of(options, before)))
        players.update_ema(images)
        step += 1

        # Progress, for whoever drives the loop.
        if images // options.log_every > before // options.log_every or images >= options.images:
            if players.augmentation is not None:
                averages.add({"augment_probability": players.augmentation.probability})
            metrics = averages.take()
            if broken := [name for name, value in metrics.items() if not math.isfinite(value)] or players.broken():
                raise DivergedError(f"training diverged before image {images:,} ({', '.join(broken)} not finite)")
            yield Progress(images, metrics, players.averages, partial(_state, players, images, step, state.attempt))


def paired(players: Players, batch: TrainingBatch, draws: Draws, differentiable: bool) -> Pairs:
    """Pair the real images of `batch`, mirrored at random if asked for, with generated ones of the same inputs.

    Each gets a latent of its own, or is made from what the task shows of its real image. With `differentiable` a loss
    of the generated images can go back to G.
    """
    options, task = players.options, players.task
    batch = batch._replace(real=batch.real.contiguous(memory_format=players.memory_format))
    if options.mirror:
        batch = batch.mirrored(draws.uniform("mirror", 1) >= 0.5)
    inputs, given = Inputs(draws.normal("latent", options.latent), batch.label, batch.condition), None
    if task is not None:
        if isinstance(task, Degrading):
            given = task.degrade(batch.real, draws.uniform("degrade", task.numbers(players.image)))
        else:
            given = batch.condition
        assert given is not None
        given = given.contiguous(memory_format=players.memory_format)
        inputs = replace(inputs, condition=given if task.judged_with_input else None)
    with players.autocast(), torch.set_grad_enabled(differentiable):
        made_from = inputs if given is None else replace(inputs, condition=given)
        return Pairs(batch.real, players.G(made_from).float(), inputs, given, batch.source)


def discriminator_step(players: Players, pairs: Pairs, draws: Draws, weights: Weights) -> dict[str, Tensor]:
    """Teach D to tell the real images of `pairs` from the generated ones (Goodfellow et al. 2014, algorithm 1).

    Returns: what the curves show of it, for each image (B,).
    """
    options, D, inputs = players.options, players.D, pairs.inputs
    loss = LOSSES[options.loss]
    # Leaves of the graph: R1 and R2 are gradients at the images before augmentation.
    real = pairs.real.detach().requires_grad_(weights.r1 > 0)
    fake = pairs.fake.detach().requires_grad_(weights.r2 > 0)

    # Logits of both. In one call where nobody asks for a gradient at the images of one side.
    D.requires_grad_(True)
    with players.autocast():
        view_real, given_real = _view(players, real, inputs, draws, "real")
        view_fake, given_fake = _view(players, fake, inputs, draws, "fake")
        if real.requires_grad or fake.requires_grad:
            logits_real, logits_fake = D(view_real, given_real).float(), D(view_fake, given_fake).float()
        else:
            both = torch.cat((view_real, view_fake)), Inputs.cat((given_real, given_fake))
            logits_real, logits_fake = D(*both).float().chunk(2)

    # Adversarial loss, and penalties where they are due.
    loss_D = of_images(loss.discriminator(logits_real, logits_fake))
    curves = {
        "discriminator_loss": loss_D.detach(),
        "discriminator_accuracy": of_images(loss.accuracy(logits_real, logits_fake)),
    }
    if pairs.given is None:
        # Images of a task differ as their conditions do.
        curves["diversity"] = diversity(pairs.fake, pairs.real, inputs.label)

    def between() -> Tensor:
        u = draws.uniform("between", 1)
        with players.autocast():
            return wgan_gp(lambda image: of_images(D(image, given_real)), view_real, view_fake, u)

    penalties = (
        Penalty("r1", weights.r1, options.penalty_every, lambda: gradient_penalty(of_images(logits_real), real)),
        Penalty("r2", weights.r2, options.penalty_every, lambda: gradient_penalty(of_images(logits_fake), fake)),
        Penalty("wgan_gp", weights.wgan_gp, options.penalty_every, between),
    )
    for penalty in penalties:
        if penalty.weight:
            value = penalty.value()
            loss_D = loss_D + penalty.weight * penalty.every * value
            curves[penalty.name] = value.detach()

    # Update D, and the probability of augmentation by how sure it is.
    players.step_discriminator(loss_D.sum() / options.batch)
    if players.augmentation is not None:
        players.augmentation.observe(of_images(logits_real).detach())
    return curves


def generator_step(players: Players, pairs: Pairs, draws: Draws, weights: GeneratorWeights) -> dict[str, Tensor]:
    """Teach G to make images that D takes for real (Goodfellow et al. 2014, algorithm 1), near a task's originals.

    `pairs` must be differentiable.

    Returns: what the curves show of it, for each image (B,) or a scalar.
    """
    options = players.options
    curves: dict[str, Tensor] = {}
    loss_G = torch.zeros((), device=players.device)
    if isinstance(players.task, Restyling):
        curves = _round_trips(players, pairs)
        loss_G = loss_G + players.task.options.cycle * curves["cycle_error"]
        loss_G = loss_G + players.task.options.identity * curves["identity_error"]
    elif players.task is not None:
        curves = _errors(players, pairs)
        loss_G = loss_G + weights.pixel * curves["pixel_error"]
    if weights.adversarial:
        # By a discriminator that is frozen: its own gradients are not computed. (Without shortcuts they are, and thrown
        # away.)
        players.D.requires_grad_(not options.shortcuts)
        adversarial, features = _opinion(players, pairs, draws, weights)
        loss_G = loss_G + weights.adversarial * adversarial
        if features is not None:
            loss_G = loss_G + weights.feature * features
            curves |= {"adversarial_loss": adversarial, "feature_error": features}
    curves["generator_loss"] = loss_G

    # Penalties where they are due.
    objective = loss_G.sum() / options.batch
    for penalty in _generator_penalties(players, pairs, draws):
        if penalty.weight:
            value = penalty.value()
            objective = objective + penalty.weight * penalty.every * value.sum() / penalty.images
            curves[penalty.name] = value

    # Update G.
    players.step_generator(objective)
    return {name: value.detach() for name, value in curves.items()}


def _errors(players: Players, pairs: Pairs) -> dict[str, Tensor]:
    """Mean absolute errors of each image that a task made, and of the baseline of the same condition, (B,) each."""
    task, given = players.task, pairs.given
    assert task is not None
    assert given is not None
    with torch.no_grad():
        baseline = task.difference(task.baseline(given), pairs.real, given)
    return {"pixel_error": task.difference(pairs.fake, pairs.real, given), "baseline_error": baseline}


def _round_trips(players: Players, pairs: Pairs) -> dict[str, Tensor]:
    """Mean absolute errors (B,) of what was given, carried back to its class, and of real images, left in theirs.

    Zhu et al. 2017, eq. 2 and section 5.2.
    """
    assert players.task is not None
    assert pairs.given is not None
    assert pairs.source is not None
    trips = {
        "cycle_error": (replace(pairs.inputs, label=pairs.source, condition=pairs.fake), pairs.given),
        "identity_error": (replace(pairs.inputs, condition=pairs.real), pairs.real),
    }
    with players.autocast():
        return {
            name: players.task.difference(players.G(inputs).float(), wanted, pairs.given)
            for name, (inputs, wanted) in trips.items()
        }


def _opinion(players: Players, pairs: Pairs, draws: Draws, weights: GeneratorWeights) -> tuple[Tensor, Tensor | None]:
    """Adversarial loss of each generated image (B,), and if it has a weight the error of its features (B,)."""
    D, inputs, loss = players.D, pairs.inputs, LOSSES[players.options.loss]
    features = None
    with players.autocast():
        seen = _view(players, pairs.fake, inputs, draws, "generator")
        if weights.feature:
            assert isinstance(D, PatchDiscriminator)
            made = D.features(*seen)
            with torch.no_grad():
                # Under the same augmentation, so that they stay pairs.
                real = D.features(*_view(players, pairs.real, inputs, draws, "generator"))
            features, logits_fake = feature_matching(made, real), D.logits(made, seen[1]).float()
        else:
            logits_fake = D(*seen).float()
        logits_real = logits_fake
        if loss.relativistic:
            logits_real = D(*_view(players, pairs.real, inputs, draws, "generator real")).float()
    return of_images(loss.generator(logits_real.detach(), logits_fake)), features


def _generator_penalties(players: Players, pairs: Pairs, draws: Draws) -> tuple[Penalty, ...]:
    """Path length (Karras et al. 2020, eq. 4) and orthogonality of the filters (Brock et al. 2019, eq. 3)."""
    options, G = players.options, cast(Any, players.G)
    # On every second image of the global batch, as the penalty needs many (Karras et al. 2020, section 3.2).
    second = slice(draws.share.start % 2, None, 2)

    def path_length() -> Tensor:
        half = pairs.inputs[second]
        y = draws.normal("path length", pairs.fake[0].numel())[second].view_as(pairs.fake[second])
        # In fp32: in bf16 the cosine of its gradient to this one was 0.95.
        styles = G.styles(half.z, half.label)
        return players.path_length(path_lengths(G.synthesis(styles, half.z), styles, y))

    due = draws.step % options.path_length_every == 0
    _, ranks = rank_and_ranks()
    return (
        Penalty(
            "path_length",
            weight=options.path_length_weight if due else 0.0,
            every=options.path_length_every,
            value=path_length,
            images=(options.batch + 1) // 2,
        ),
        # The same on every rank, and gradients are summed.
        Penalty("orthogonal", options.orthogonal_weight / ranks, 1, lambda: orthogonal_penalty(G)),
    )


def _view(players: Players, image: Tensor, inputs: Inputs, draws: Draws, purpose: str) -> tuple[Tensor, Inputs]:
    """Return what D sees of images and inputs: of image tasks what is visible, and all augmented."""
    probability = None if players.augmentation is None else players.augmentation.probability
    if players.task is not None:
        image = visible(image)
        if inputs.condition is not None:
            inputs = replace(inputs, condition=players.task.presented(inputs.condition))
    return view(image, inputs, players.options, probability, draws, purpose)


def _state(players: Players, images: int, step: int, attempt: int) -> State:
    return State(players.tensors(), images, step, attempt)


def bf16(gpu: bool) -> bool:
    """Whether this machine multiplies faster in bfloat16."""
    return bool(torch.cuda.is_bf16_supported() if gpu else torch.ops.mkldnn._is_mkldnn_bf16_supported())
