"""What a generator varies and what a discriminator looks at: pure functions of trained networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from .dataset import Pixels, to_pixels
from .inputs import Inputs
from .models.layers import Generator
from .sampling import latents

# Latents to see how far a style spreads, and by which a network is described of which no layer reads it linearly.
DRAWN = 500


def latent_directions(generator: Generator, latent: int, count: int) -> Tensor:
    """Directions of the latent space that change most, strongest first: (count, size), orthonormal.

    Closed-form factorisation (SeFa: Shen & Zhou 2021, arXiv 2007.06600, eq. 5): the eigenvectors of A^T A with the
    largest eigenvalues, where A are the weights of the first layers that read the latent. BigGAN has such layers in all
    blocks, and StyleGAN2 those that take w, so that `size` is w's. Of a network without such layers A is the linear map
    from z (B, `latent`) to the image that fits best, by least squares.
    """
    weights = generator.latent_weights()
    return principal_directions(_linear_fit(generator, latent) if weights is None else weights, count)


def principal_directions(weights: Tensor, count: int) -> Tensor:
    """Return the first right singular vectors of A (outputs, inputs), their largest entry positive: (count, inputs)."""
    a = weights.detach().double()
    # Of A^T A, which is small whatever A has for outputs; eigenvalues come in rising order.
    vectors = torch.linalg.eigh(a.T @ a).eigenvectors.flip(1)[:, :count].T
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    return (vectors * largest.sign()).float()


@torch.inference_mode()
def latent_walk(generator: Generator, inputs: Inputs, directions: Tensor, deviations: Sequence[float]) -> Pixels:
    """Images of `inputs` (B rows), moved along each of the `directions` (D, size) of the latent.

    By so many standard deviations of the latent in that direction: 1 in z; in w what it is over z for that label.

    Returns: (D, B, len(deviations), H, W, C) uint8.
    """
    generator.eval()
    steps = torch.tensor(deviations)
    at, unit = generator.style(inputs), torch.ones(len(directions), len(inputs))
    if at is not inputs.z:
        every = inputs[torch.arange(len(inputs)).repeat_interleave(DRAWN)]
        drawn = latents(range(DRAWN), inputs.z.shape[1]).repeat(len(inputs), 1)
        style = generator.style(Inputs(drawn, every.label, every.condition)).view(len(inputs), DRAWN, -1)
        unit = (style @ directions.T).std(1).T
    repeated = inputs[torch.arange(len(inputs)).repeat_interleave(len(steps))]
    made = []
    for direction, length in zip(directions, unit, strict=True):
        moved = (at[:, None] + (length[:, None] * steps)[:, :, None] * direction).flatten(0, 1)
        pixels = to_pixels(generator.styled(moved, repeated))
        made.append(pixels.reshape(len(at), len(steps), *pixels.shape[1:]))
    return np.stack(made)


def saliency(discriminator: nn.Module, image: Tensor, inputs: Inputs) -> Tensor:
    """How much each pixel moves the logit: |d logit / d pixel|, summed over channels (Simonyan et al. 2014).

    Images should be all real or all generated, as in training: networks with minibatch statistics look at all of them.

    Shapes: (B, C, H, W), B rows of inputs -> (B, H, W).
    """
    discriminator.eval()
    image = image.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(image, inputs).sum(), image)
    return gradient.abs().sum(1)


@torch.inference_mode()
def _linear_fit(generator: Generator, latent: int) -> Tensor:
    """Return the linear map from z to the image, (pixels, latent), that fits best for the first class."""
    z = latents(range(max(DRAWN, 4 * latent)), latent)
    generator.eval()
    drawn = Inputs(z, torch.zeros(len(z), dtype=torch.long))
    image = torch.cat([generator(part).flatten(1) for part in drawn.split(DRAWN)])
    return torch.linalg.lstsq(z - z.mean(0), image - image.mean(0)).solution.T
