"""What is computed in fp32, computed in float64: two ways to the same sum then agree far below any real difference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def in_float64() -> Iterator[None]:
    """Make float64 the type of new tensors and of what `Tensor.float` returns.

    The sums of a gradient that are taken in another order differ by n * eps * the sum of their magnitudes: in fp32 by
    up to 1e-3 of some gradients, depending on the processor, in float64 by less than 1e-9 of any.
    """
    default, single = torch.get_default_dtype(), Tensor.float
    torch.set_default_dtype(torch.float64)
    Tensor.float = Tensor.double  # type: ignore[method-assign]
    try:
        yield
    finally:
        Tensor.float = single  # type: ignore[method-assign]
        torch.set_default_dtype(default)
