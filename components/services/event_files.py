"""TensorBoard's event files: the curves and sample grids of a training, under the names that MLflow has them by."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter

from ..pictures.opening import opened
from ..workspace.files import disk_errors
from .tracking.names import curve_name


class EventFiles:
    """The folder of one training, begun anew; each point is written once, in the order of the images seen.

    Raises:
        UserError: there is no space left.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._last = folder, 0
        with disk_errors(folder):
            if folder.exists():
                shutil.rmtree(folder)
            # Written at once: who looks at it meanwhile sees the newest point.
            self._writer = SummaryWriter(str(folder), max_queue=1, flush_secs=1)

    def add(self, rows: Iterable[Mapping[str, Any]], samples: Path) -> int:
        """Write those `rows` of progress that are new, with the grids that lie in `samples`, and return their number.

        Raises:
            UserError: there is no space left.
        """
        added = 0
        with disk_errors(self._folder):
            for row in rows:
                # Notes have no images; what a resumed training repeats is there already.
                if (step := int(row.get("images", 0))) <= self._last:
                    continue
                for name, value in row.items():
                    if name != "images" and isinstance(value, int | float) and math.isfinite(value):
                        self._writer.add_scalar(curve_name(name), value, step)
                if (grid := samples / f"{step:012d}.png").exists():
                    with opened(grid) as image:
                        self._writer.add_image("samples", np.asarray(image.convert("RGB")), step, dataformats="HWC")
                self._last, added = step, added + 1
            self._writer.flush()
        return added

    def close(self) -> None:
        """End the file."""
        self._writer.close()
