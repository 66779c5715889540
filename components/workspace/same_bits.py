"""Earlier code that made the same bits as the present one."""

from __future__ import annotations

from collections.abc import Mapping

SAME_BITS: Mapping[str, tuple[str, ...]] = {}
