"""What a training cost: seconds of processors and GPUs, and an estimate of the energy.

Each process of the first worker keeps a small file in the training's folder, with the sum over all workers, and writes
it again at each point of the curves. The sum over the files is the cost of all restarts; what a killed worker spent
after its last point is missing.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from pydantic import Field

from ..workspace.files import write_whole
from ..workspace.journal import Record

# Assumed, not measured: a busy core with its share of memory, board and power supply, and a GPU at work.
WATTS_PER_CORE = 10.0
WATTS_PER_GPU = 350.0
FOLDER = "cost"


class Cost(Record):
    """What a training cost, with all its restarts."""

    cpu_seconds: float
    gpu_seconds: float
    energy_kwh: float = Field(description="estimated")

    @property
    def words(self) -> str:
        """What was used, in words."""
        gpu = f", {self.gpu_seconds:,.0f} s of GPUs" if self.gpu_seconds else ""
        return f"{self.cpu_seconds:,.0f} s of processors{gpu}, about {1000 * self.energy_kwh:,.3g} Wh"


class _Seconds(Record):
    """What one process spent, as its file says."""

    cpu_seconds: float = Field(ge=0, allow_inf_nan=False)
    gpu_seconds: float = Field(ge=0, allow_inf_nan=False)


class Meter:
    """Counts what this process spends: of processors from its start, of a GPU from its first training, busy or not."""

    def __init__(self, training: Path, gpu: bool) -> None:
        name, self._began = _process()
        self._file = training / FOLDER / f"{name}.json"
        self._gpu = gpu

    def seconds(self) -> tuple[float, float]:
        """Of this worker: of processors, summed over its threads, and of its GPU."""
        return time.process_time(), time.monotonic() - self._began if self._gpu else 0.0

    def keep(self, seconds: Sequence[float]) -> None:
        """Write down the sum over all workers.

        Raises:
            UserError: there is no space left.
        """
        write_whole(self._file, json.dumps({"cpu_seconds": seconds[0], "gpu_seconds": seconds[1]}))


def spent(training: Path) -> Cost | None:
    """Read the cost of a training from its folder; None where it is not known."""
    known = []
    for file in sorted((training / FOLDER).glob("*.json")):
        # A power cut may leave one empty.
        with suppress(ValueError):
            known.append(_Seconds.model_validate_json(file.read_bytes()))
    if not known:
        return None
    cpu = round(sum(seconds.cpu_seconds for seconds in known), 1)
    gpu = round(sum(seconds.gpu_seconds for seconds in known), 1)
    energy = (WATTS_PER_CORE * cpu + WATTS_PER_GPU * gpu) / 3.6e6
    return Cost(cpu_seconds=cpu, gpu_seconds=gpu, energy_kwh=round(energy, 9))


@cache
def _process() -> tuple[str, float]:
    """Return a name that no other process has, on whichever machine, and when it was asked for first."""
    return uuid.uuid4().hex, time.monotonic()
