"""Fills of holes that people know, beside the one that a repair begins from.

python -m benchmarks.fills --photos /usr/share/games/endless-sky/images/land

Holes of 5 to 40 % in pieces of held-out photographs, as in training. Prints PSNR of the holes alone and of the whole
pieces, all together, SSIM and seconds of the processor a thousand pieces: of the smooth fill, of OpenCV's by Telea
(2004) and by Navier-Stokes (Bertalmio et al. 2001), with radius 3, and of scikit-image's biharmonic one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from skimage.restoration import inpaint_biharmonic

from benchmarks.image_tasks import SIDE, pieces
from components.gan.dataset import Pixels, to_pixels
from components.gan.options import ImageFormat
from components.gan.sampling import conditions
from components.gan.tasks.image_tasks import task_of
from components.gan.tasks.options import Inpaint
from components.measures.fidelity import psnr, squared_errors, ssim

Fill = Callable[[Pixels, Pixels], Pixels]


def opencv(method: int) -> Fill:
    """A fill of a picture (H, W, 3) where a mask (H, W) is 1."""
    return lambda image, mask: np.asarray(cv2.inpaint(image, mask, 3, method), np.uint8)


def biharmonic(image: Pixels, mask: Pixels) -> Pixels:
    made = inpaint_biharmonic(image / 255, mask > 0, channel_axis=2)
    return (made.clip(0, 1) * 255).round().astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--pieces", type=int, default=100, help="how many; the biharmonic fill takes its time")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    originals = pieces(arguments.photos)[1][: arguments.pieces]
    task = task_of(Inpaint())
    assert task is not None
    image = ImageFormat(height=SIDE, width=SIDE, channels=3, classes=("photo",))
    given = conditions(task, originals, range(len(originals)), image)
    mask = (given[:, -1].numpy() > 0).astype(np.uint8)
    # What lies in a hole must not be of use to anybody.
    holed = np.where(mask[..., None] > 0, 0, originals).astype(np.uint8)

    def told(name: str, fill: Callable[[], Pixels]) -> None:
        began = time.process_time()
        made = np.where(mask[..., None] > 0, fill(), originals)
        seconds = 1000 * (time.process_time() - began) / len(made)
        inside = (np.square(np.subtract(made, originals, dtype=np.float64)).mean(3) * mask).sum((1, 2)) / mask.sum(
            (1, 2)
        )
        whole, similar = psnr(squared_errors(made, originals)), ssim(made, originals).mean()
        print(f"{name:>14}  holes {psnr(inside):.2f} dB, whole {whole:.2f} dB, SSIM {similar:.3f}, ", end="")
        print(f"{seconds:.1f} s a thousand", flush=True)

    def each(fill: Fill) -> Callable[[], Pixels]:
        return lambda: np.stack([fill(one, hole) for one, hole in zip(holed, mask, strict=True)])

    told("smooth fill", lambda: to_pixels(task.baseline(task.condition(given[:, :3], given[:, 3:]))))
    told("Telea", each(opencv(cv2.INPAINT_TELEA)))
    told("Navier-Stokes", each(opencv(cv2.INPAINT_NS)))
    told("biharmonic", each(biharmonic))


if __name__ == "__main__":
    main()
