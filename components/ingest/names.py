"""What the names of files, columns and folders say of images."""

from __future__ import annotations

import re
from functools import lru_cache

IMAGE_ENDINGS = (
    *("jpg", "jpeg", "jpe", "mpo", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "pgm", "pbm", "npy"),
    *("avif", "jp2", "j2k", "ico", "tga", "pcx", "heic", "heif"),
)
# Names of archives that one data set was cut into, before their numbers.
_PIECES = re.compile(
    r"(.*[_\-. ])?(part|shard|chunk|batch|piece|archive|volume|vol|split|fold|file|images?|imgs?|data|"
    r"pictures?|photos?|set)?[_\-. ]*",
    re.I,
)
# Folders that hold pictures and say nothing of them.
PICTURE_FOLDERS = re.compile(
    r"(color_?)?(images?|imgs?|pictures?|photos?|jpe?g(images)?|png|rgb|data|train_images|leftimg8bit)",
    re.I,
)
NAME_COLUMNS = ("path", "file_name", "filename", "file", "image", "image_path", "image_id", "img", "id", "name")
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "category", "target", "cls")


def ending_of(name: str) -> str:
    """Return what stands behind the first dot, in small letters: `seg.png` of `0001.seg.png`."""
    return name.rpartition("/")[2].partition(".")[2].lower()


def stem(name: str) -> str:
    """Return the name of a file without folders and ending."""
    last = name.rpartition("/")[2]
    return last.rpartition(".")[0] or last


@lru_cache(maxsize=1024)
def piece_name(name: str) -> str:
    """Return the folder that an archive counts as: its name, but no number by which the archives were counted."""
    folder, slash, name = name.rpartition("/")
    plain = re.sub(r"(\.(tar|zip|tgz|gz|npz|parquet))+$", "", name, flags=re.I)
    head = re.sub(r"\d+([_\-. ]*of[_\-. ]*\d+)?$", "", plain)
    if head != plain and _PIECES.fullmatch(head) and not (not head and not plain.startswith("0")):
        plain = head.rstrip("_-. ")
    return f"{folder}{slash}{plain}".strip("/")
