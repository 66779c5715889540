"""How much of one set of features lies in the manifold of another: precision, recall, density, coverage."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .distances import Features
from .intervals import Estimate, Values, left_out, mean, share

# Groups of images that are left out in turn, and how many of an image's nearest are looked through for its neighbours
# without a group. All of them are of one group only where the group is nearly all there is.
GROUPS, NEAREST = 20, 64
# Rows of distances at a time.
BLOCK = 1_000


class Manifolds(NamedTuple):
    """Precision, recall, density and coverage of a set of features, each with its interval."""

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


def manifolds(real: Features, fake: Features) -> Manifolds:
    """Return all four of a set of fakes. Shapes: (N, F), (M, F)."""
    return Manifolds(
        share(precision_recall(real, fake)[0]),
        recall_estimate(real, fake),
        mean(density_coverage(real, fake)[0]),
        coverage_estimate(real, fake),
    )


def precision_recall(real: Features, fake: Features, k: int = 3) -> tuple[Values, Values]:
    """Whether each fake lies within the reals' manifold, and each real within the fakes' (Kynkaanniemi et al. 2019).

    A manifold is the union of balls that reach each point's k-th neighbour (eq. 1-2).
    Shapes: (N, F), (M, F) -> (M,), (N,).
    """
    r, f = _prepared(real), _prepared(fake)

    def covered(points: Tensor, centres: Tensor) -> Values:
        radius = _radii(centres, k)
        blocks = [(torch.cdist(part, centres) <= radius).any(1) for part in points.split(BLOCK)]
        return _numpy(torch.cat(blocks))

    return covered(f, r), covered(r, f)


def density_coverage(real: Features, fake: Features, k: int = 5) -> tuple[Values, Values]:
    """In how many of the reals' balls each fake lies, over k, and whether each real's ball holds one.

    Naeem et al. 2020 (arXiv 2002.09797), eq. 5 and 6. Unlike precision's, one outlier's
    large ball counts little; density may exceed 1. Shapes: (N, F), (M, F) -> (M,), (N,).
    """
    r, f = _prepared(real), _prepared(fake)
    radius, inside, held = _radii(r, k), [], torch.zeros(len(r), dtype=torch.bool)
    for part in f.split(BLOCK):
        within = torch.cdist(part, r) <= radius
        inside.append(within.sum(1) / k)
        held |= within.any(0)
    return _numpy(torch.cat(inside)), _numpy(held)


def recall_estimate(real: Features, fake: Features, k: int = 3) -> Estimate:
    """Recall of `precision_recall`, its interval by leaving out groups of both.

    All reals share the fakes: where a fake is missing, its neighbours among the reals are lost together. As a mean over
    the reals alone, recall would seem known to within 60 to 70 % of its error. Shapes: (N, F), (M, F).
    """
    r, f = _prepared(real), _prepared(fake)
    real_group, fake_group = _groups(len(r)), _groups(len(f))
    radius, without = _balls(f, k, fake_group)
    # A ball whose centre is left out holds nothing.
    without[fake_group, torch.arange(len(f))] = -1
    held, left = [], []
    for part in r.split(BLOCK):
        distance = torch.cdist(part, f)
        held.append((distance <= radius).any(1))
        left.append(torch.stack([(distance <= reach).any(1) for reach in without]))
    return _share_left(torch.cat(held), torch.cat(left, 1), real_group)


def coverage_estimate(real: Features, fake: Features, k: int = 5) -> Estimate:
    """Coverage of `density_coverage`, its interval by leaving out groups of both. Shapes: (N, F), (M, F)."""
    r, f = _prepared(real), _prepared(fake)
    real_group, fake_group = _groups(len(r)), _groups(len(f))
    radius, without = _balls(r, k, real_group)
    # Of each real the nearest fake of each group: (groups, N).
    nearest = torch.full((int(fake_group.max()) + 1, len(r)), torch.inf)
    for number in range(len(nearest)):
        for part in f[fake_group == number].split(BLOCK):
            nearest[number] = torch.minimum(nearest[number], torch.cdist(part, r).amin(0))
    left = []
    for number, reach in enumerate(without):
        others = nearest[torch.arange(len(nearest)) != number]
        left.append(others.amin(0) <= reach)
    return _share_left(nearest.amin(0) <= radius, torch.stack(left), real_group)


def _share_left(held: Tensor, left: Tensor, group: Tensor) -> Estimate:
    """Share of the reals that are `held` (N,), by those that are so without each group of both: (groups, N)."""
    shares = [float(each[group != number].double().mean()) for number, each in enumerate(left)]
    found, alone = left_out(float(held.double().mean()), shares, 0, 1), share(held.numpy())
    # Where none or all are held, leaving out tells nothing; as if the reals had nothing in common is the least.
    return Estimate(found.value, min(found.low, alone.low), max(found.high, alone.high))


def _groups(count: int) -> Tensor:
    """Which group each of `count` images is in, by chance: (count,)."""
    return torch.from_numpy(np.random.default_rng(0).permutation(count) % min(GROUPS, count // 2))


def _balls(x: Tensor, k: int, group: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of each point to its k-th neighbour, (N,), and without each group: (groups, N)."""
    whole, without = [], []
    for part in x.split(BLOCK):
        near, index = torch.cdist(part, x).topk(min(len(x), max(NEAREST, k + 1)), dim=1, largest=False)
        whole.append(near[:, k])
        of = group[index]
        # The point itself counts too, as long as its group does.
        counts = torch.stack([(of != number).cumsum(1) for number in range(int(group.max()) + 1)])
        place = (counts < k + 1).sum(2).clamp(max=near.shape[1] - 1)
        without.append(near.expand(len(counts), -1, -1).gather(2, place[:, :, None])[:, :, 0])
    return torch.cat(whole), torch.cat(without, 1)


def _radii(x: Tensor, k: int) -> Tensor:
    """Distance of each point to its k-th neighbour."""
    # Three times as fast as the one value.
    return torch.cat([torch.cdist(part, x).topk(k + 1, largest=False).values[:, k] for part in x.split(BLOCK)])


def _prepared(features: Features) -> Tensor:
    """In fp32, whose errors are far below the spread that is asked for."""
    return torch.from_numpy(np.ascontiguousarray(features, np.float32))


def _numpy(values: Tensor) -> Values:
    found: Values = values.double().numpy()
    return found
