"""Tensors from files in the format of safetensors, which nobody need have written as it should be."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
from torch import Tensor, nn

from .errors import DamagedError


def read_weights(source: bytes | Path) -> dict[str, Tensor]:
    """Return tensors by name; a file is named in errors, bytes are those of a model.

    Raises:
        DamagedError: they are not in that format.
    """
    try:
        return safetensors.torch.load(source.read_bytes() if isinstance(source, Path) else source)
    except OSError:
        raise
    # Rust's errors, and what Python raises for kinds and shapes that torch does not have.
    except Exception as error:
        name = source if isinstance(source, Path) else "a file of weights"
        reason = " ".join(str(error).split())[:200]
        raise DamagedError(f"{name} is damaged ({reason}): delete it, and `ganflow run` makes it again") from None


def fill(net: nn.Module, file: Path) -> None:
    """Load a net's weights from a file.

    Raises:
        DamagedError: it is damaged, or holds those of another net.
    """
    try:
        net.load_state_dict(read_weights(file))
    except RuntimeError:
        raise DamagedError(
            f"{file} holds weights of another net: delete it, and `ganflow run` makes it again"
        ) from None
