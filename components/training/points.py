"""What a point of the training curves says of the moving averages, and shows of them."""

from __future__ import annotations

from collections.abc import Mapping

from ..gan.dataset import Pixels


def row_of(scores: Mapping[str, float]) -> dict[str, float]:
    """Return what the curves say of the scores of the averages: the lowest, and where there are several, each."""
    each = {f"score_{name}": score for name, score in scores.items()} if len(scores) > 1 else {}
    return {"score": min(scores.values()), **each}


def scores_of(row: Mapping[str, float]) -> dict[str, float]:
    """Return the scores of the averages that a point of the curves tells, by name."""
    each = {name.removeprefix("score_"): score for name, score in row.items() if name.startswith("score_")}
    return each or {"ema": row["score"]}


def best_of(scores: Mapping[int, float]) -> int:
    """Which of the checkpoints, by their images, is published: that with the lowest score, of equal ones the newest."""
    return min(scores, key=lambda images: (scores[images], -images))


def contact_grid(images: Pixels, columns: int) -> Pixels:
    """Images (N, H, W, C), N a multiple of `columns`, side by side: (rows * H, columns * W, C)."""
    n, height, width, channels = images.shape
    rows = images.reshape(n // columns, columns, height, width, channels).swapaxes(1, 2)
    return rows.reshape(n // columns * height, columns * width, channels)
