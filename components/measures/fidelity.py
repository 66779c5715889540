"""How near images are to their originals, pixel by pixel and in their structure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..gan.dataset import Pixels

Values = npt.NDArray[np.float64]


def squared_errors(made: npt.NDArray, originals: npt.NDArray) -> Values:
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


def luma(pixels: Pixels) -> npt.NDArray[np.float64]:
    """Brightness of RGB pixels (N, H, W, 3), unrounded levels of full range (ITU-R BT.601); of others the channels."""
    if pixels.shape[3] != 3:
        return pixels.astype(np.float64)
    return np.asarray(pixels @ np.array([[0.299], [0.587], [0.114]]))


def ssim(made: Pixels, originals: Pixels) -> Values:
    """Structural similarity of each image (N, H, W, C) to its original, 1 where they are the same: (N,)."""
    from skimage.metrics import structural_similarity

    pairs = zip(made, originals, strict=True)
    return np.array([structural_similarity(b, a, channel_axis=2, data_range=255) for a, b in pairs])


def colourfulness(pixels: Pixels) -> Values:
    """How colourful each RGB image (N, H, W, 3) is, 0 for grey (Hasler & Suesstrunk 2003, eq. 7): (N,)."""
    red, green, blue = np.moveaxis(pixels.astype(np.float64), 3, 0)
    opposites = np.stack([red - green, (red + green) / 2 - blue])
    deviation, mean = opposites.std((2, 3)), opposites.mean((2, 3))
    return np.asarray(np.sqrt((deviation**2).sum(0)) + 0.3 * np.sqrt((mean**2).sum(0)))
