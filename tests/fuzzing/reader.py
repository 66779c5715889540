"""What reads something of strangers, and the damages that its inputs get."""

from __future__ import annotations

import os
import random
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from components.gan.errors import UserError

NUMBERS = (0, 1, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
WORDS = (
    *(b"9" * 5_000, b"-1", b"1e999", b"NaN", b"null", b"[]", b"{}", b'""', b"\0", b"\xff\xfe", b"\n", b"\r\n"),
    *(b"[" * 2_000, b'{"a":' * 2_000, b"/" * 300, b"../" * 9, b"\x1b[2J", b"\xe2\x80\xae", b"=1+1", b"true"),
)


@dataclass
class Reader:
    """Something that reads what strangers write: good inputs, and how one is read."""

    name: str
    seeds: Callable[[], Sequence[bytes]]
    read: Callable[[bytes, Path], None]
    inputs: int = 0
    tracebacks: dict[str, bytes] = field(default_factory=dict)
    slowest: float = 0.0

    def try_one(self, content: bytes) -> None:
        """Read one input in a folder of its own."""
        self.inputs += 1
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="fuzz-", dir=scratch_folder()) as folder:
            try:
                self.read(content, Path(folder))
            except UserError as error:
                if "\n" in str(error):
                    self.tracebacks.setdefault("a sentence of several lines", content)
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)
                ours = [f for f in where if "components" in f.filename or "flows" in f.filename] or where
                place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
                self.tracebacks.setdefault(f"{type(error).__name__} at {place}: {str(error)[:100]}", content)
        self.slowest = max(self.slowest, time.perf_counter() - began)


def mutated(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Return an input with one to six damages, each of a random kind."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        # Headers decide more than what follows.
        end = len(data) if rng.random() < 0.5 else min(len(data), 128)
        at = rng.randrange(end) if end else 0
        kind = rng.randrange(9)
        if kind == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[at] = rng.randrange(256)
        elif kind == 2:
            size, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
            number = rng.choice(NUMBERS) % 256**size
            data[at : at + size] = number.to_bytes(size, order)
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            del data[at : at + rng.randrange(1, 65)]
        elif kind == 5:
            data[at:at] = data[at : at + rng.randrange(1, 300)]
        elif kind == 6:
            data[at:at] = rng.randbytes(rng.randrange(1, 33))
        elif kind == 7:
            data[at : at + rng.randrange(20)] = rng.choice(WORDS)
        else:
            other = rng.choice(others)
            data[at:] = other[rng.randrange(len(other) + 1) :]
        if len(data) > 2**18:
            break
    return bytes(data)


@cache
def scratch_folder() -> Path | None:
    """Memory, where there is some: a fuzz run writes hundreds of thousands of small files."""
    shm = Path("/dev/shm")
    return shm if shm.is_dir() and os.access(shm, os.W_OK) else None
