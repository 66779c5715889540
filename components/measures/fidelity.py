"""How near images are to their originals, pixel by pixel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..gan.dataset import Pixels

Values = npt.NDArray[np.float64]


def squared_errors(made: Pixels, originals: Pixels) -> Values:
    """Mean squared error of each image (N, H, W, C) to its original, in grey levels of 255: (N,)."""
    errors = np.subtract(made, originals, dtype=np.float64)
    return np.asarray(np.square(errors).mean((1, 2, 3)))


def psnr(squared: Values) -> float:
    """Peak signal-to-noise ratio in dB of all images together, by their squared errors (N,).

    Of the pooled error: a mean of ratios would be carried by images in which there is nothing to see. 100 where there
    is no error at all.
    """
    error = float(squared.mean())
    return 100.0 if error == 0 else float(10 * np.log10(255**2 / error))
