"""A storage that nodes share, against a server that speaks S3 and against a plain folder."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from moto.server import ThreadedMotoServer

from components.gan.errors import UserError
from components.gan.options import Execution, ImageFormat
from components.gan.training_loop import State
from components.services import storage as storage_module
from components.services.storage import Storage, passed_environment
from components.training.checkpoints import Checkpoint, TrainingFolder
from components.training.mirror import TrainingMirror
from components.training.shared_data import fetch_dataset, publish_dataset
from components.workspace.artifacts import Dataset, Key
from tests.conftest import PROJECT

EXECUTION = Execution(workers=1, threads=1, device="cpu", precision="fp32")


class Requests(logging.Handler):
    """The requests that the server answered, `GET /bucket/name ...`."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def count(self, method: str, name: str) -> int:
        return sum(f"{method} /" in line and name in line for line in self.lines)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Requests]]:
    """The address of an S3 server, and what it was asked."""
    requests, log = Requests(), logging.getLogger("werkzeug")
    log.addHandler(requests)
    log.setLevel(logging.INFO)
    log.propagate = False
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    yield f"http://127.0.0.1:{moto.get_host_and_port()[1]}", requests
    moto.stop()
    log.removeHandler(requests)


@pytest.fixture
def bucket(server: tuple[str, Requests], monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty bucket, whose server and keys the environment names."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server[0])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    urllib.request.urlopen(urllib.request.Request(f"{server[0]}/{name}", method="PUT"))
    return f"s3://{name}"


@pytest.fixture(params=["s3", "folder"])
def storage(request: pytest.FixtureRequest, bucket: str, tmp_path: Path) -> Storage:
    return Storage(f"{bucket}/some/prefix" if request.param == "s3" else str(tmp_path / "shared"))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "training-00000.npy").write_bytes(random.randbytes(300_000))
    (folder / "training-labels.npy").write_bytes(random.randbytes(2_000))
    (folder / "rejected.csv").write_text("")
    Dataset.describe(
        folder,
        Key(options="o", inputs="i", code="c"),
        image=ImageFormat(height=28, width=28, channels=1, classes=("0", "1")),
        splits={},
        class_counts={},
        mean=(0.5,),
        std=(0.5,),
        rejected=0,
        duplicates=0,
        source="s",
    )
    return Dataset.load(folder)


def text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def sentence(error: pytest.ExceptionInfo[UserError]) -> str:
    """What the user reads: one line without a secret."""
    message = str(error.value)
    assert "\n" not in message
    assert "hush-hush" not in message
    assert error.value.__cause__ is None
    return message


# --- files ---


def test_files_come_back_as_they_were(storage: Storage, tmp_path: Path) -> None:
    # More than two chunks of a download and several parts of an upload.
    contents = {"a/large.bin": random.randbytes(35_000_001), "a/b/empty": b"", "a b+c%.txt": b"odd name"}
    for name, content in contents.items():
        (tmp_path / "source").write_bytes(content)
        storage.put(tmp_path / "source", name)
    assert storage.sizes() == {name: len(content) for name, content in contents.items()}
    assert storage.sizes("a/b") == {"a/b/empty": 0}
    assert (storage / "a").sizes() == {"large.bin": 35_000_001, "b/empty": 0}
    for name, content in contents.items():
        assert storage.get(name, tmp_path / "out" / name)
        assert (tmp_path / "out" / name).read_bytes() == content


def test_a_file_is_replaced_and_removed(storage: Storage, tmp_path: Path) -> None:
    for content in ("first", "second"):
        storage.put(text(tmp_path / "source", content), "a/file")
    storage.put(tmp_path / "source", "a/other")
    assert storage.get("a/file", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "second"
    storage.delete("a/file")
    storage.delete("a/file")
    assert storage.sizes() == {"a/other": 6}
    storage.delete("a")
    assert storage.sizes() == storage.sizes("a") == {}


def test_what_is_missing_leaves_no_trace(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "back").write_text("old")
    assert not storage.get("nothing", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "old"
    assert [path.name for path in tmp_path.glob("back*")] == ["back"]


# --- one sentence for each mistake ---


def test_a_wrong_bucket_is_named(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        Storage("s3://no-such-bucket/p").put(text(tmp_path / "f", "x"), "f")
    assert sentence(error) == (
        "cannot use the storage s3://no-such-bucket/p: there is no such bucket: create it or correct the address"
    )


def waiting(listener: socket.socket) -> int:
    """How many connections were made that nobody has accepted yet."""
    listener.setblocking(False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            count += 1
    return count


@pytest.mark.parametrize("kind", ["refuses", "is silent", "does not accept"])
def test_an_endpoint_that_does_not_answer_is_given_up(
    bucket: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert storage_module.ATTEMPTS * storage_module.TIMEOUT < 13, "seconds that a user waits"
    monkeypatch.setattr(storage_module, "TIMEOUT", 1.0)
    with socket.socket() as listener, contextlib.ExitStack() as clients:
        listener.bind(("127.0.0.1", 0))
        address = listener.getsockname()
        if kind != "refuses":
            listener.listen(0 if kind == "does not accept" else 100)
        if kind == "does not accept":
            for _ in range(4):
                client = clients.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(address)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{address[1]}")
        storage, file = Storage(bucket), text(tmp_path / "f", "x")
        # A put that meets silence takes longer, but is never the first to meet it.
        calls: list[Callable[[], object]] = [storage.sizes] if kind == "is silent" else [lambda: storage.put(file, "f")]
        if kind == "refuses":
            calls += [storage.sizes, lambda: storage.get("f", file), lambda: storage.delete("f")]
        for call in calls:
            with pytest.raises(UserError) as error:
                call()
            assert sentence(error).endswith("it does not answer: check the network and AWS_ENDPOINT_URL")
        if kind == "is silent":
            assert waiting(listener) == storage_module.ATTEMPTS


def assert_denied(storage: Storage, file: Path) -> None:
    for call in (lambda: storage.put(file, "f"), lambda: storage.get("f", file), storage.sizes):
        with pytest.raises(UserError) as error:
            call()
        assert "access is denied: check AWS_ACCESS_KEY_ID" in sentence(error)


def test_wrong_keys_are_one_sentence(server: tuple[str, Requests], bucket: str, tmp_path: Path) -> None:
    def deny_after(requests: str) -> None:
        plain = {"Content-Type": "text/plain"}
        address = f"{server[0]}/moto-api/reset-auth"
        urllib.request.urlopen(urllib.request.Request(address, requests.encode(), plain, method="POST"))

    deny_after("0")
    try:
        assert_denied(Storage(bucket), text(tmp_path / "f", "x"))
    finally:
        deny_after("inf")


class Refusing(BaseHTTPRequestHandler):
    """Answers an unsigned request as S3 does; moto breaks down."""

    def do_HEAD(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(500 if "Authorization" in self.headers else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


def test_missing_keys_are_one_sentence(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as refusing:
        threading.Thread(target=refusing.serve_forever).start()
        try:
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{refusing.server_port}")
            monkeypatch.delenv("AWS_ACCESS_KEY_ID")
            monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
            monkeypatch.setenv("HOME", str(tmp_path))
            assert_denied(Storage(bucket), text(tmp_path / "f", "x"))
        finally:
            refusing.shutdown()


@pytest.mark.parametrize(
    "uri",
    [
        "relative/path",
        "",
        "s3://",
        "s4://bucket",
        "s3://somebody:hush-hush@bucket/p",
        "s3://bucket/p?secret_key=hush-hush",
        "hdfs://somebody:hush-hush@nowhere/p",
    ],
)
def test_a_wrong_address_is_one_sentence(uri: str, bucket: str) -> None:
    with pytest.raises(UserError) as error:
        Storage(uri)
    assert "as a storage: give an absolute path, s3://bucket/prefix" in sentence(error)


def test_a_wrong_endpoint_is_one_sentence(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "minio:9000")
    with pytest.raises(UserError) as error:
        Storage(bucket)
    assert "https://host:9000" in sentence(error)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    text(tmp_path / "file", "no folder")
    with pytest.raises(UserError) as error:
        Storage(f"{tmp_path}/file").put(tmp_path / "file", "a/b")
    assert sentence(error).startswith(f"cannot use the storage {tmp_path}/file: ")


def test_only_listed_variables_travel_and_values_are_hidden(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hush-hush-too")
    monkeypatch.setenv("OTHER", "stays")
    monkeypatch.setenv("GANFLOW_PASS_ENV", "HF_TOKEN, NOT_SET")
    passed = passed_environment()
    assert sorted(passed) == ["AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"]
    assert passed["AWS_SECRET_ACCESS_KEY"] == "hush-hush"
    assert "hush" not in f"{passed} {passed!r} {[passed]}"


# --- data sets ---


def test_a_data_set_is_published_once_and_fetched_once(
    storage: Storage, dataset: Dataset, tmp_path: Path, server: tuple[str, Requests]
) -> None:
    publish_dataset(dataset, storage)
    fetched = fetch_dataset(dataset.content, storage, tmp_path / "cache").verified()
    assert fetched.model_dump(exclude={"folder"}) == dataset.model_dump(exclude={"folder"})
    server[1].lines.clear()
    publish_dataset(dataset, storage)
    fetch_dataset(dataset.content, storage, tmp_path / "cache")
    assert server[1].count("PUT", "datasets/") == server[1].count("POST", "datasets/") == 0
    assert not [line for line in server[1].lines if "GET" in line and "list-type" not in line]


def test_only_what_is_absent_or_of_another_size_is_uploaded(dataset: Dataset, bucket: str, tmp_path: Path) -> None:
    put: list[str] = []

    class Recording(Storage):
        def put(self, file: Path, name: str) -> None:
            put.append(name)
            super().put(file, name)

    storage = Recording(bucket)
    publish_dataset(dataset, storage)
    assert put.pop() == "dataset.json"
    assert sorted(put) == sorted(dataset.files)
    put.clear()
    target = storage / f"datasets/{dataset.content}"
    target.delete("rejected.csv")
    Storage.put(target, text(tmp_path / "short", "x"), "training-labels.npy")
    publish_dataset(dataset, storage)
    assert sorted(put) == ["rejected.csv", "training-labels.npy"]


def test_processes_of_a_node_download_once(
    dataset: Dataset, bucket: str, tmp_path: Path, server: tuple[str, Requests]
) -> None:
    publish_dataset(dataset, Storage(bucket))
    server[1].lines.clear()
    code = (
        "import sys; from pathlib import Path; from components.services.storage import Storage;"
        "from components.training.shared_data import fetch_dataset;"
        "fetch_dataset(sys.argv[1], Storage(sys.argv[2]), Path(sys.argv[3])).verified()"
    )
    command = [sys.executable, "-c", code, dataset.content, bucket, str(tmp_path / "cache")]
    workers = [
        subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(3)
    ]
    # Nor does the end of such a process say a word, as an S3 client that was not closed would.
    assert [(worker.communicate()[0], worker.returncode) for worker in workers] == [("", 0)] * 3
    for name in ["dataset.json", "training-00000.npy", "training-labels.npy"]:
        assert server[1].count("GET", name) == 1


def test_an_interrupted_download_goes_on(dataset: Dataset, bucket: str, tmp_path: Path) -> None:
    got: list[str] = []

    class Failing(Storage):
        def get(self, name: str, file: Path) -> bool:
            if name == "training-labels.npy" and got.count(name) == 0:
                got.append(name)
                raise UserError("the network went away")
            got.append(name)
            return super().get(name, file)

    storage = Failing(bucket)
    publish_dataset(dataset, storage)
    with pytest.raises(UserError, match="went away"):
        fetch_dataset(dataset.content, storage, tmp_path / "cache")
    with pytest.raises(UserError, match="there is no dataset"):
        Dataset.load(tmp_path / "cache" / dataset.content)
    fetch_dataset(dataset.content, storage, tmp_path / "cache").verified()
    assert got.count("training-00000.npy") == 1


def test_a_damaged_cache_is_mended(storage: Storage, dataset: Dataset, tmp_path: Path) -> None:
    publish_dataset(dataset, storage)
    folder = fetch_dataset(dataset.content, storage, tmp_path / "cache").folder
    for name in ("training-00000.npy", "training-labels.npy", "dataset.json"):
        whole = (folder / name).read_bytes()
        for damaged in (whole[:-9], b"?" + whole[1:], b""):
            (folder / name).write_bytes(damaged)
            fetch_dataset(dataset.content, storage, tmp_path / "cache").verified()
            assert (folder / name).read_bytes() == whole


@pytest.mark.parametrize("name", ["training-00000.npy", "dataset.json"])
@pytest.mark.parametrize("damage", ["another byte", "truncated", "missing"])
def test_a_damaged_object_is_one_sentence(
    storage: Storage, dataset: Dataset, tmp_path: Path, name: str, damage: str
) -> None:
    publish_dataset(dataset, storage)
    whole = (dataset.folder / name).read_bytes()
    if damage == "missing":
        storage.delete(f"datasets/{dataset.content}/{name}")
    else:
        bad = whole[: len(whole) // 2] if damage == "truncated" else b"?" + whole[1:]
        (tmp_path / "bad").write_bytes(bad)
        storage.put(tmp_path / "bad", f"datasets/{dataset.content}/{name}")
    for _ in range(2):
        with pytest.raises(UserError) as error:
            fetch_dataset(dataset.content, storage, tmp_path / "cache")
        object_ = f"{storage.uri}/datasets/{dataset.content}/{name}"
        assert sentence(error).startswith(f"{object_} is missing or damaged: delete it and run again")
    storage.delete(f"datasets/{dataset.content}/{name}")
    publish_dataset(dataset, storage)
    fetch_dataset(dataset.content, storage, tmp_path / "cache").verified()


# --- trainings ---


def checkpoint(images: int, score: float, seed: int = 0) -> Checkpoint:
    tensors = {"ema/w": torch.full((50, 50), float(images + seed)), "discriminator/w": torch.ones(3)}
    scores = {1: 9.0, 2: 5.0, 3: 7.0, 4: 6.0, 5: 4.0} | {images: score}
    history = [{"images": float(i), "score": scores[i]} for i in range(1, images + 1)]
    return Checkpoint(State(tensors, images, images), history, EXECUTION)


def step(run: TrainingFolder, images: int, score: float, seed: int = 0) -> None:
    """What the first worker does between two pushes."""
    run.samples.mkdir(parents=True, exist_ok=True)
    (run.samples / f"{images:012d}.png").write_bytes(b"png" * images)
    run.save(checkpoint(images, score, seed))
    run.append_progress({"images": images, "score": score})


def names(folder: Path) -> dict[str, bytes]:
    """All files but the space that the first worker takes for the reason of a failure."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "failure"]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def test_a_training_goes_on_elsewhere(storage: Storage, tmp_path: Path) -> None:
    here, there, driver = (TrainingFolder(tmp_path / name) for name in ("here", "there", "driver"))
    worker = TrainingMirror(here.path, storage / "t")
    worker.pull()
    watcher = TrainingMirror(driver.path, storage / "t")
    watcher.pull_progress()
    assert driver.read_progress() == ([], (0, 0))
    position = (0, 0)
    for images, score in ((1, 9.0), (2, 5.0), (3, 7.0)):
        step(here, images, score)
        worker.push()
        watcher.pull_progress()
        rows, position = driver.read_progress(position)
        assert rows[-1]["images"] == images
        assert (driver.samples / f"{images:012d}.png").exists()
    assert not driver.checkpoints.exists()
    second = TrainingMirror(there.path, storage / "t")
    second.pull()
    assert names(there.path) == names(here.path)
    assert sorted(p.name for p in there.checkpoints.iterdir()) == ["000000000002", "000000000003"]
    newest = there.newest()
    assert newest is not None
    assert newest.state.images == 3
    assert torch.equal(newest.state.tensors["ema/w"], torch.full((50, 50), 3.0))
    there.start_progress(newest.history)
    step(there, 4, 6.0)
    second.push()
    watcher.pull()
    assert names(driver.path) == names(there.path)
    assert driver.best().state.images == 2


def test_nothing_is_sent_twice(bucket: str, tmp_path: Path, server: tuple[str, Requests]) -> None:
    run = TrainingFolder(tmp_path / "run")
    mirror = TrainingMirror(run.path, Storage(bucket))
    step(run, 1, 9.0)
    mirror.push()
    other = TrainingMirror(tmp_path / "other", Storage(bucket))
    other.pull()
    server[1].lines.clear()
    mirror.push()
    other.push()
    assert server[1].lines == []
    other.pull()
    assert server[1].count("GET", "state.safetensors") == server[1].count("GET", ".png") == 0
    run.append_progress({"images": 2})
    server[1].lines.clear()
    mirror.push()
    assert len(server[1].lines) == server[1].count("PUT", "progress.jsonl") == 1


def test_a_checkpoint_of_other_bytes_replaces_its_namesake(storage: Storage, tmp_path: Path) -> None:
    first, second = TrainingFolder(tmp_path / "first"), TrainingFolder(tmp_path / "second")
    step(first, 1, 9.0)
    TrainingMirror(first.path, storage).push()
    step(second, 1, 9.0, seed=7)
    TrainingMirror(second.path, storage).push()
    TrainingMirror(first.path, storage).pull()
    assert names(first.path) == names(second.path)


def test_a_damaged_checkpoint_does_not_replace_a_whole_one(
    storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = TrainingFolder(tmp_path / "run")
    step(run, 1, 9.0)
    mirror = TrainingMirror(run.path, storage)
    mirror.push()
    storage.put(text(tmp_path / "bad", "bad"), "checkpoints/000000000001/state.safetensors")
    before = names(run.path)
    fresh = TrainingFolder(tmp_path / "fresh")
    TrainingMirror(fresh.path, storage).pull()
    assert fresh.newest() is None
    assert "000000000001 is damaged (its hash differs) and is not used" in capsys.readouterr().err
    (run.checkpoints / "000000000001" / "checkpoint.json").write_text("{}")
    mirror.pull()
    assert names(run.path).keys() == before.keys()


class Stops(Exception):  # noqa: N818
    pass


def test_a_reader_sees_whole_checkpoints_at_any_moment(tmp_path: Path) -> None:
    """The writer dies before its n-th act, for every n."""

    class Mortal(Storage):
        acts = 10**9

        def _act(self) -> None:
            Mortal.acts -= 1
            if Mortal.acts < 0:
                raise Stops

        def put(self, file: Path, name: str) -> None:
            self._act()
            super().put(file, name)

        def delete(self, name: str) -> None:
            self._act()
            super().delete(name)

    for acts in range(30):
        Mortal.acts = 10**9
        storage = Mortal(str(tmp_path / f"shared-{acts}"))
        run, reader = TrainingFolder(tmp_path / f"run-{acts}"), TrainingFolder(tmp_path / f"reader-{acts}")
        mirror = TrainingMirror(run.path, storage)
        step(run, 1, 9.0)
        mirror.push()
        Mortal.acts, died = acts, False
        try:
            # The best, a worse one, another with its name, and one that is better than all before.
            for images, score, seed in ((2, 5.0, 0), (3, 7.0, 0), (3, 7.0, 1), (5, 4.0, 0)):
                step(run, images, score, seed)
                mirror.push()
        except Stops:
            died = True
        TrainingMirror(reader.path, storage).pull()
        for folder in reader.checkpoints.iterdir():
            assert sorted(names(folder)) == ["checkpoint.json", "state.safetensors"]
        assert reader.newest() is not None
        assert len(list(reader._whole())) == len(list(reader.checkpoints.iterdir()))
        # Its successor finds all that was kept, and leaves nothing behind.
        Mortal.acts = 10**9
        TrainingMirror(run.path, storage).push()
        again = TrainingFolder(tmp_path / f"again-{acts}")
        TrainingMirror(again.path, storage).pull()
        assert names(again.checkpoints) == names(run.checkpoints)
        assert storage.sizes("checkpoints").keys() == {f"checkpoints/{name}" for name in names(run.checkpoints)}
        if not died:
            return
    pytest.fail("the writer never came to its end")
