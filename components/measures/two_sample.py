"""Whether two sets of features come from one distribution."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .distances import Features


class TwoSample(NamedTuple):
    """Unbiased squared maximum mean discrepancy, and how often chance alone gives at least as much."""

    statistic: float
    p_value: float


def one_of_each(groups: npt.NDArray[np.int64], chance: npt.NDArray[np.uint64] | None = None) -> npt.NDArray[np.int64]:
    """Return the index of one member of each group, in order: the first, or the one with the least `chance` (N,).

    Frames of one film are no independent draws. With one of each group the draws of the test are independent.
    """
    order = np.arange(len(groups)) if chance is None else np.argsort(chance, kind="stable")
    _, first = np.unique(groups[order], return_index=True)
    return np.asarray(np.sort(order[first]), np.int64)


def two_sample(new: Features, reference: Features, permutations: int, rng: np.random.Generator) -> TwoSample:
    """Kernel two-sample test with the kernel of KID and a permutation null (Gretton et al. 2012, section 5).

    Exact at any size: the p-value of sets that are exchangeable is at most u with a probability of at most u.
    Shapes: (N, F), (M, F).
    """
    both = np.concatenate([new, reference]).astype(np.float64)
    # A typical image has a kernel of 8 with itself, so that all powers of the kernel have a voice.
    both /= np.sqrt(np.square(both).mean())
    kernel = ((both @ both.T) / both.shape[1] + 1) ** 3
    np.fill_diagonal(kernel, 0)
    n, m = len(new), len(reference)
    # Columns of 1 / n for what counts as new and of -1 / m for the rest: the first is what was observed.
    marks = np.full((n + m, permutations + 1), -1 / m)
    marks[:n, 0] = 1 / n
    for column in range(1, permutations + 1):
        marks[rng.permutation(n + m)[:n], column] = 1 / n
    pulls = kernel @ marks
    first = marks > 0
    within_new = np.where(first, pulls, 0).sum(0) * n
    # Row sums of the kernel over each of the two groups, from which the three means follow.
    sums = kernel.sum(0)
    new_rows = first.T.astype(np.float64) @ sums
    total = sums.sum()
    # pulls summed over the new ones: (own / n - cross / m), with own + cross = their row sums.
    own_new = (within_new / n + new_rows / m) / (1 / n + 1 / m)
    cross = new_rows - own_new
    own_reference = total - own_new - 2 * cross
    values = own_new / (n * (n - 1)) + own_reference / (m * (m - 1)) - 2 * cross / (n * m)
    # A tolerance, for a permutation may be the observed one in another order of summing.
    at_least = (values[1:] >= values[0] - 1e-9 * abs(values[0])).sum()
    return TwoSample(float(values[0]), float((1 + at_least) / (1 + permutations)))
