"""The inbox, into which anybody may put anything: a folder and a bucket."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from components.gan.errors import UserError
from components.ingest.inbox import inbox
from components.ingest.inbox.inbox import arrived, ingest
from components.workspace.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    root = tmp_path / "w"
    (root / "data").mkdir(parents=True)
    (root / ".ganflow").mkdir()
    (tmp_path / "in").mkdir()
    return Workspace(root)


def put(folder: Path, name: str, content: bytes = b"x", age: float = 60) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    os.utime(file, (time.time() - age, time.time() - age))
    return file


def test_no_link_is_followed_and_only_files_are_read(workspace: Workspace, tmp_path: Path) -> None:
    incoming = tmp_path / "in"
    secret = put(tmp_path / "home", "id_rsa", b"secret")
    (incoming / "key.png").symlink_to(secret)
    (incoming / "folder").symlink_to(secret.parent, target_is_directory=True)
    (incoming / "loop").symlink_to(incoming, target_is_directory=True)
    os.mkfifo(incoming / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(incoming / "socket.png"))
        put(incoming, "a/good.png")
        found = ingest("../in", workspace)
    assert found.added == ["a/good.png"]
    assert found.left == {
        "folder": "a link, which is not followed",
        "key.png": "a link, which is not followed",
        "loop": "a link, which is not followed",
        "pipe.png": "not a regular file",
        "socket.png": "not a regular file",
    }
    assert [file.name for file in workspace.data.rglob("*") if file.is_file()] == ["good.png"]


def test_a_link_that_comes_after_the_look_is_not_followed(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that was one when it was looked at is another's when it is read."""
    incoming = tmp_path / "in"
    put(tmp_path / "home", "a.png", b"secret")
    put(incoming, "sub/a.png")
    names = inbox.ready_names

    def then_replaced(folder: Path, left: dict[str, str]) -> Iterator[str]:
        found = [*names(folder, left)]
        (incoming / "sub").rename(tmp_path / "away")
        (incoming / "sub").symlink_to(tmp_path / "home")
        yield from found

    monkeypatch.setattr(inbox, "ready_names", then_replaced)
    found = ingest("../in", workspace)
    assert found.added == []
    assert list(found.left) == ["sub/a.png"]


def test_one_name_keeps_no_other_out(workspace: Workspace, tmp_path: Path) -> None:
    incoming = tmp_path / "in"
    hostile = ["n" * 240 + ".png", "a\x1b[2Jb.png", "a\nb.png", "a\u202egnp.exe", os.fsdecode(b"\xff\xfe.png")]
    for index, name in enumerate(hostile):
        put(incoming, name, bytes([index]))
    put(incoming, "/".join("d" * 150) + "/deep.png", b"deep")
    put(incoming, "猫 (1).png", b"good")
    found = ingest("../in", workspace)
    assert found.added == ["猫 (1).png"]
    assert found.left.keys() >= {*hostile}
    assert len(found.left) == len(hostile) + 1
    assert found.message.isprintable()


def test_times_in_the_future_and_uploads_that_stall_are_told(workspace: Workspace, tmp_path: Path) -> None:
    incoming = tmp_path / "in"
    put(incoming, "stalled.png")
    put(incoming, "young.png", b"y", age=0)
    ahead = put(incoming, "ahead.png", b"z", age=-3600)
    with (incoming / "stalled.png").open("ab"):
        os.utime(incoming / "stalled.png", (time.time() - 60, time.time() - 60))
        found = ingest("../in", workspace)
        assert found == ([], {"stalled.png": "is still being written"})
    assert ingest("../in", workspace).added == ["stalled.png"]
    # A clock that was wrong when they were written: what the system says of the last change counts.
    assert time.time() - ahead.stat().st_ctime < 60


def test_a_move_to_another_disk_is_whole_or_not_at_all(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "in", "big.npy", b"0123456789" * 1000)
    other = Path("/dev/shm") / f"ganflow-{uuid.uuid4().hex}"
    other.mkdir()
    try:
        if other.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("/dev/shm is no disk of its own here")
        workspace.data.rmdir()
        workspace.data.symlink_to(other)

        def cut_off(source: Path, target: Path) -> None:
            target.write_bytes(source.read_bytes()[:100])
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr("components.ingest.inbox.inbox.shutil.copyfile", cut_off)
            with pytest.raises(KeyboardInterrupt):
                ingest("../in", workspace)
        assert not [file for file in other.iterdir() if not file.name.startswith(".")]
        assert ingest("../in", workspace).added == ["big.npy"]
        assert [file.name for file in other.iterdir()] == ["big.npy"]
    finally:
        for file in other.iterdir():
            file.unlink()
        other.rmdir()


# --- a bucket ---


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    yield f"http://127.0.0.1:{moto.get_host_and_port()[1]}"
    moto.stop()


@pytest.fixture
def objects(server: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Stores or removes an object; returns the bucket's address."""
    values = {"ENDPOINT_URL": server, "ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s", "DEFAULT_REGION": "us-east-1"}
    for name, value in values.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    # A second is enough to tell one object from the next.
    monkeypatch.setattr("components.ingest.inbox.bucket.SETTLED_SECONDS", -1)
    bucket = f"bucket-{uuid.uuid4().hex[:8]}"

    client = boto3.client("s3")
    client.create_bucket(Bucket=bucket)

    def ask(key: str, content: bytes | None = b"") -> str:
        if content is None:
            client.delete_object(Bucket=bucket, Key=key)
        else:
            client.put_object(Bucket=bucket, Key=key, Body=content)
        return f"s3://{bucket}"

    return ask


def test_a_replaced_object_of_equal_size_is_fetched(workspace: Workspace, objects: Callable[..., str]) -> None:
    address = objects("a.png", b"one")
    assert ingest(address, workspace).added == ["a.png"]
    assert ingest(address, workspace) == ([], {})
    time.sleep(1.1)
    objects("a.png", b"two")
    (added,) = ingest(address, workspace).added
    assert (workspace.data / added).read_bytes() == b"two"
    # No second copy of the data stays.
    assert [file.name for file in (workspace.state / "inbox").rglob("*") if file.is_file()] == ["seen.json"]


def test_one_key_blocks_no_other(workspace: Workspace, objects: Callable[..., str]) -> None:
    keys = ["c//d.png", "e", "e/f.png", "n" * 300 + ".png", "x\x01y.png", "good.png"]
    for key in keys:
        address = objects(key, key.encode())
    found = ingest(address, workspace)
    assert {"good.png", "e"} <= {*found.added} or {"good.png", "e/f.png"} <= {*found.added}
    assert {"c//d.png", "n" * 300 + ".png", "x\x01y.png"} <= found.left.keys()
    assert len(found.added) + len(found.left) == len(keys)
    assert found.message.isprintable()


def test_what_was_taken_down_does_not_come_back(workspace: Workspace, objects: Callable[..., str]) -> None:
    address = objects("a/face.png", b"face")
    assert list(arrived(address, workspace).files) == ["a/face.png"]
    assert ingest(address, workspace).added == ["a/face.png"]
    objects("a/face.png", None)
    (workspace.data / "a" / "face.png").unlink()
    assert ingest(address, workspace) == ([], {})
    objects("a/other.png", b"other")
    assert list(arrived(address, workspace).files) == ["a/other.png"]
    objects("a/other.png", None)
    assert ingest(address, workspace) == ([], {})


@pytest.mark.parametrize(
    "named", ["file:///tmp/%00x", "a\0b", "http://[::1/x", "~nobody-of-this-name/x", "file://other/x"]
)
def test_an_inbox_that_is_no_place_is_named(tmp_path: Path, named: str) -> None:
    workspace = Workspace(tmp_path)
    workspace.data.mkdir()
    with pytest.raises(UserError):
        arrived(named, workspace)
