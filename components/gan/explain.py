"""What a generator varies and what a discriminator looks at: pure functions of trained networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from .dataset import Pixels, to_pixels
from .models import biggan, dcgan, mlp, r3gan, stylegan2
from .sampling import latents

# Latents to see how far w spreads, and by which a network is described whose layers are not known here.
DRAWN = 500


def latent_directions(generator: nn.Module, latent: int, count: int) -> Tensor:
    """Directions of the latent space that change most, strongest first: (count, size), orthonormal.

    Closed-form factorisation (SeFa: Shen & Zhou 2021, arXiv 2007.06600, eq. 5): the eigenvectors of A^T A with the
    largest eigenvalues, where A are the weights of the first layer that takes z (B, `latent`). BigGAN has such layers
    in all blocks, and StyleGAN2 those that take w, so that `size` is w's. Of any other network A is the linear map
    from z to the image that fits best, by least squares.
    """
    match generator:
        case mlp.Generator():
            weights = next(generator.layers.parameters())[:, :latent]
        case dcgan.Generator(project=first) | r3gan.Generator(coefficients=first):
            weights = first.weight[:, :latent]
        case biggan.Generator():
            weights = _biggan_weights(generator)
        case stylegan2.Generator():
            styled = (*generator.layers, *generator.to_images)
            weights = torch.cat([layer.conv.style.weight for layer in styled])
        case _:
            weights = _linear_fit(generator, latent)
    return principal_directions(weights, count)


def principal_directions(weights: Tensor, count: int) -> Tensor:
    """The first right singular vectors of A (outputs, inputs), their largest entry positive: (count, inputs)."""
    a = weights.detach().double()
    # Of A^T A, which is small whatever A has for outputs; eigenvalues come in rising order.
    vectors = torch.linalg.eigh(a.T @ a).eigenvectors.flip(1)[:, :count].T
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    return (vectors * largest.sign()).float()


@torch.inference_mode()
def latent_walk(
    generator: nn.Module, z: Tensor, label: Tensor, directions: Tensor, deviations: Sequence[float]
) -> Pixels:
    """Images of z (B, latent) with label (B,), moved along each of the `directions` (D, size) of its latent.

    By so many standard deviations of the latent in that direction: 1 in z; in w what it is over z for that label.

    Returns: (D, B, len(deviations), H, W, C) uint8.
    """
    generator.eval()
    steps = torch.tensor(deviations)
    noise, labels = z.repeat_interleave(len(steps), 0), label.repeat_interleave(len(steps))
    at, unit = z, torch.ones(len(directions), len(z))
    if isinstance(generator, stylegan2.Generator):
        at = generator.mapping(z, label)
        drawn = latents(range(DRAWN), z.shape[1]).repeat(len(z), 1)
        w = generator.mapping(drawn, label.repeat_interleave(DRAWN)).view(len(z), DRAWN, -1)
        unit = (w @ directions.T).std(1).T
    made = []
    for direction, length in zip(directions, unit, strict=True):
        moved = (at[:, None] + (length[:, None] * steps)[:, :, None] * direction).flatten(0, 1)
        if isinstance(generator, stylegan2.Generator):
            image = generator.synthesis(moved[:, None].expand(-1, len(generator.layers), -1), noise)
        else:
            image = generator(moved, labels, None)
        pixels = to_pixels(image)
        made.append(pixels.reshape(len(at), len(steps), *pixels.shape[1:]))
    return np.stack(made)


def saliency(discriminator: nn.Module, image: Tensor, label: Tensor) -> Tensor:
    """How much each pixel moves the logit: |d logit / d pixel|, summed over channels (Simonyan et al. 2014).

    Images should be all real or all generated, as in training: networks with minibatch statistics look at all of them.

    Shapes: (B, C, H, W), (B,) -> (B, H, W).
    """
    discriminator.eval()
    image = image.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(image, label, None).sum(), image)
    return gradient.abs().sum(1)


def _biggan_weights(generator: biggan.Generator) -> Tensor:
    """All that BigGAN's parts of z are multiplied with, block by block, in the columns of their part."""
    columns = torch.arange(sum(generator.parts)).split(generator.parts)
    readers: list[tuple[biggan.SpectralLinear, Tensor]] = [(generator.project, columns[0])]
    for block, part in zip(generator.blocks, columns[1:], strict=True):
        norms = (norm for norm in block.modules() if isinstance(norm, biggan.ConditionalBatchNorm))
        readers += [(layer, part) for norm in norms for layer in (norm.gain, norm.bias)]
    rows = []
    with torch.no_grad():
        for layer, part in readers:
            weight = layer.norm(layer.weight)
            row = weight.new_zeros(len(weight), sum(generator.parts))
            # The embedding of the class comes before the part of z.
            row[:, part] = weight[:, weight.shape[1] - len(part) :]
            rows.append(row)
    return torch.cat(rows)


@torch.inference_mode()
def _linear_fit(generator: nn.Module, latent: int) -> Tensor:
    """The linear map from z to the image, (pixels, latent), that fits best for the first class."""
    z = latents(range(max(DRAWN, 4 * latent)), latent)
    generator.eval()
    none = torch.zeros(DRAWN, dtype=torch.long)
    image = torch.cat([generator(part, none[: len(part)], None).flatten(1) for part in z.split(DRAWN)])
    return torch.linalg.lstsq(z - z.mean(0), image - image.mean(0)).solution.T
