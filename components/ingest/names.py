"""What the names of files, columns and folders say of images."""

from __future__ import annotations

from pathlib import Path

from .parts import BY_CONTENT, SPLITS

IMAGE_ENDINGS = (
    *("jpg", "jpeg", "jpe", "mpo", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "pgm", "pbm", "npy"),
    *("avif", "jp2", "j2k", "ico", "tga", "pcx", "heic", "heif"),
)
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "category", "target", "cls")


def ending_of(name: str) -> str:
    """Return what stands behind the first dot, in small letters: `seg.png` of `0001.seg.png`."""
    return name.rpartition("/")[2].partition(".")[2].lower()


def split_of(path: Path) -> int:
    """Return the split that a file's name begins with, such as `train-00000.parquet` or `t10k-images-idx3-ubyte`."""
    return SPLITS.get(path.name.partition("-")[0].lower(), BY_CONTENT)


def is_hidden(name: str) -> bool:
    """Whether a name within an archive is of a file that people do not see."""
    return any(piece == "__MACOSX" or (piece.startswith(".") and piece not in (".", "..")) for piece in name.split("/"))


def leads_out(name: str) -> bool:
    """Whether a name within an archive is that of a file somewhere else."""
    return ".." in name.split("/")
