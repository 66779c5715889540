"""The image of the training pair whose input is nearest: what a person would take who has the pairs at hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ..gan.dataset import Pixels, Split, to_signed
from ..measures.transparency import over_grey

# Inputs are compared as small as that, so that edges need not lie on each other.
_SIDE = 16
_PART = 1_000


class Nearest:
    """Finds training pairs by their inputs, compared pixel by pixel at 16x16 over grey."""

    def __init__(self, training: Split) -> None:
        self._training = training
        index = np.array_split(np.arange(len(training)), -(-len(training) // _PART))
        self._inputs = torch.cat([_small(to_signed(torch.from_numpy(training.inputs(part)))) for part in index])

    def given(self, given: Tensor) -> Pixels:
        """Return the images (N, H, W, C) of the pairs nearest to inputs (N, C, H, W)."""
        nearest: npt.NDArray[np.int64] = torch.cdist(_small(given), self._inputs).argmin(1).numpy()
        return self._training.pixels(nearest)


def _small(images: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(over_grey(images.float()), _SIDE).flatten(1).double()
