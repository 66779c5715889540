"""Many images in one array: `.npz` files as MedMNIST and Keras have them, and `.npy` files of stacks of images."""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...gan.errors import UserError
from ...workspace.text import printable, shortened
from ..parts import BY_CONTENT, Builder, Note
from ..split_names import role_of
from .unpacking import container, grown

# Names of arrays of images, and what stands in their place for the labels; `train_images` and `x_train` are such.
_LABELS = {
    "images": ("labels", "label", "targets", "y"),
    "image": ("label", "labels"),
    "x": ("y",),
    "data": ("labels", "label", "target", "targets", "y"),
    "arr_0": ("arr_1",),
    "imgs": ("labels",),
}
_HEADER_BYTES = 1_000


class _Array(NamedTuple):
    name: str
    shape: tuple[int, ...]
    kind: np.dtype
    entry: zipfile.ZipInfo


def read_arrays(path: Path, plain: Path, builder: Builder, archive_name: str = "") -> None:
    """List the images of an .npz file, each laid out in the file `plain` as an array of its own.

    Raises:
        UserError: it is damaged, or holds no images.
    """
    with container(path, "an .npz file"), zipfile.ZipFile(path) as archive:
        arrays = {found.name: found for entry in archive.infolist() if (found := _described(archive, entry))}
        images = [array for array in arrays.values() if _is_images(array)]
        if not images:
            listed = shortened(", ".join(f"{printable(a.name)} {a.shape} {a.kind}" for a in arrays.values()))
            raise UserError(
                f"{printable(path.name)} holds no array of images, (N, H, W) or (N, H, W, C) of uint8; its arrays: "
                f"{listed or 'none'}"
            )
        total = sum(int(np.prod(array.shape)) * array.kind.itemsize for array in images)
        if total > max(2**24, builder.limits.growth * path.stat().st_size):
            raise grown(path, builder.limits)
        used: set[str] = set()
        with plain.open("wb") as file:
            for array in images:
                labels = _labels_of(array, arrays)
                used |= {array.name, *([labels.name] if labels else [])}
                _lay_out(path, archive, array, labels, file, plain, builder, archive_name)
        unused = [printable(name) for name in arrays if name not in used]
        if unused:
            builder.notes.append(
                Note(f"{printable(path.name)}: not used are its arrays {', '.join(unused[:8])}", False)
            )


def _described(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> _Array | None:
    """Return what an array says of itself."""
    with archive.open(entry) as file:
        head = file.read(_HEADER_BYTES + 12)
    stream = io.BytesIO(head)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, kind = read(stream, max_header_size=_HEADER_BYTES)
    if kind.hasobject or fortran:
        return None
    return _Array(entry.filename.removesuffix(".npy"), shape, kind, entry)


def _is_images(array: _Array) -> bool:
    if array.kind != np.uint8 or len(array.shape) not in (3, 4) or not all(array.shape):
        return False
    return len(array.shape) == 3 or array.shape[3] in (1, 2, 3, 4)


def _labels_of(images: _Array, arrays: dict[str, _Array]) -> _Array | None:
    """Return the array of as many whole numbers that the name of the images leads to."""
    for word, others in _LABELS.items():
        for other in others:
            name = re.sub(rf"(?i)(?<![a-z0-9]){word}(?![a-z0-9])", other, images.name.replace("_", " "))
            found = arrays.get(name.replace(" ", "_"))
            if found is not None and found.name != images.name and _fits(found, images):
                return found
    return None


def _fits(labels: _Array, images: _Array) -> bool:
    count = images.shape[0]
    return labels.kind.kind in "iub" and labels.shape in ((count,), (count, 1))


def _lay_out(
    path: Path,
    archive: zipfile.ZipFile,
    array: _Array,
    labels: _Array | None,
    file: Any,
    plain: Path,
    builder: Builder,
    archive_name: str,
) -> None:
    values = None if labels is None else _whole(archive, labels).reshape(-1)
    role = role_of(array.name)
    split = role[0] if role is not None else BY_CONTENT
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": tuple(map(int, array.shape[1:]))}
    )
    for row, content in enumerate(_rows(archive, array)):
        name = os.fsencode(f"#{array.name}[{row}]")
        offset = file.tell()
        size = file.write(header.getvalue() + content)
        label = None if values is None else str(int(values[row]))
        builder.add(plain, name, size, offset, label=label, split=split, archive=archive_name)


def _rows(archive: zipfile.ZipFile, array: _Array) -> Iterator[bytes]:
    size = int(np.prod(array.shape[1:]))
    with archive.open(array.entry) as file:
        np.lib.format.read_magic(file)
        length = int.from_bytes(file.read(2), "little")
        file.read(length)
        for _ in range(array.shape[0]):
            content = file.read(size)
            if len(content) != size:
                raise ValueError(f"the array {array.name} is cut short")
            yield content


def _whole(archive: zipfile.ZipFile, array: _Array) -> npt.NDArray[Any]:
    with archive.open(array.entry) as file:
        values: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return values
