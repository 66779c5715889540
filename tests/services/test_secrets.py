"""Passwords that the user gave are used, and stand nowhere afterwards: planted ones are looked for everywhere."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import pytest
from jsonschema import Draft202012Validator

from components.gan.errors import UserError
from components.services.address import masked
from components.services.tracking import connection
from components.workspace.params import Params
from tests.conftest import environment, ganflow, refused, succeeded

PLANTED = "xyzzy-planted"


def test_addresses_are_masked() -> None:
    for address, shown in {
        f"http://me:{PLANTED}@host:5000/api": "http://host:5000/api",
        f"postgresql://me:{PLANTED}@host/db": "postgresql://host/db",
        # As it should not be written, but is.
        f"http://me:{PLANTED}/a?b#c@d@host/api": "http://host/api",
        f"https://{PLANTED}@host": "https://host",
        f"s3://bucket/p?secret_key={PLANTED}&region=x": "s3://bucket/p?secret_key=***&region=x",
        f"API request to http://me:{PLANTED}@host/a failed (retried http://me:{PLANTED}@host/b)": (
            "API request to http://host/a failed (retried http://host/b)"
        ),
        f"http://me:12/{PLANTED}@host/api": "http://***@host/api",
        f"redis://me:1?{PLANTED}@host:80": "redis://***@host:80",
        f"cannot reach me:5000/{PLANTED}@host:80": "cannot reach ***@host:80",
        # Which may be a password too.
        "http://host:5000/who?at=a@b": "http://***@b",
        "host:6379": "host:6379",
        "sqlite:////tmp/a@b/mlflow.db": "sqlite:////tmp/a@b/mlflow.db",
        "embedded": "embedded",
    }.items():
        assert masked(address) == shown


def test_the_server_is_reached_with_its_password_and_named_without(monkeypatch: pytest.MonkeyPatch) -> None:
    from components.workspace.workspace import Workspace

    address = f"http://me:{PLANTED}@host:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert connection.uri(Workspace(Path())) == address
    assert connection.address() == "http://host:5000"


@pytest.mark.parametrize("key", ["train.storage", "retrain.inbox"])
def test_no_password_in_parameters(tmp_path: Path, key: str) -> None:
    (tmp_path / "params.yaml").write_text("")
    # By which Prefect's server checks what was typed.
    form = Draft202012Validator(Params.model_json_schema())
    section, name = key.split(".")

    def nested(place: str) -> dict[str, dict[str, str]]:
        return {section: {name: place}}

    for place in (f"s3://me:{PLANTED}@bucket/p", f"s3://bucket/p?secret_key={PLANTED}", f"s3://me:{PLANTED}/x@bucket"):
        with pytest.raises(UserError, match="AWS_") as refusal:
            Params.load(tmp_path / "params.yaml", [f"{key}={place}"])
        assert PLANTED not in str(refusal.value)
        assert not form.is_valid(nested(place))
    for place in ("s3://bucket/p", "abfs://container@account/p", "/shared/a:b@c", "inbox"):
        Params.load(tmp_path / "params.yaml", [f"{key}={place}"])
        assert form.is_valid(nested(place))


@pytest.mark.parametrize("variable", ["RAY_ADDRESS", "PREFECT_API_URL", "MLFLOW_TRACKING_URI"])
def test_a_server_that_does_not_answer(make_workspace: Callable[..., Path], variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    scheme = "ray" if variable == "RAY_ADDRESS" else "http"
    for password in (PLANTED, f"{PLANTED}/{PLANTED}"):
        sentence = refused(
            make_workspace(password), "train", **{variable: f"{scheme}://me:{password}@127.0.0.1:{port}"}
        )
        assert f"{variable}={scheme}://127.0.0.1:{port} does not answer" in sentence
        assert PLANTED not in sentence


def test_a_server_that_fails(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(finished, root)
    with failing_server() as port:
        sentence = refused(root, "rollback", MLFLOW_TRACKING_URI=f"http://me:{PLANTED}@127.0.0.1:{port}")
    assert f"MLflow at http://127.0.0.1:{port} did not do what was asked" in sentence
    assert PLANTED not in sentence


@contextmanager
def failing_server() -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(403)
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - named by http.server

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def mlflow_server(folder: Path) -> Iterator[int]:
    """A server with a database of its own below `folder`, and what it says in a file there."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = int(unused.getsockname()[1])
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    places = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", f"{folder}/artifacts"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", *command, *places], env=environment(), stdout=log, stderr=log)
    try:
        for _ in range(300):
            try:
                urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait(120)


def holders(*folders: Path) -> list[str]:
    """Files below the folders that hold a planted password, in their bytes or name."""
    return [
        str(file)
        for folder in folders
        for file in folder.rglob("*")
        if PLANTED in str(file) or (file.is_file() and PLANTED.encode() in file.read_bytes())
    ]


def test_a_run_writes_no_password_down(make_workspace: Callable[..., Path], tmp_path: Path) -> None:
    root, server, shared = make_workspace(), tmp_path / "server", tmp_path / "shared"
    server.mkdir()
    secrets = {
        "AWS_ACCESS_KEY_ID": f"{PLANTED}-1",
        "AWS_SECRET_ACCESS_KEY": f"{PLANTED}-2",
        "MLFLOW_TRACKING_PASSWORD": f"{PLANTED}-3",
        "PREFECT_API_AUTH_STRING": f"me:{PLANTED}-4",
        # Given to the workers by its name.
        "GANFLOW_PASS_ENV": "HUSH",
        "HUSH": f"{PLANTED}-5",
    }
    # Ray's sockets need a short path.
    with tempfile.TemporaryDirectory(dir="/tmp") as ray, mlflow_server(server) as port:
        address = f"http://me:{PLANTED}-6@127.0.0.1:{port}"
        named = {**secrets, "MLFLOW_TRACKING_URI": address, "RAY_TMPDIR": ray}
        result = ganflow(root, "run", "--set", f"train.storage={shared}", **named)
        said = succeeded(result) + result.stderr
        assert f"http://127.0.0.1:{port}" in (root / "mlruns" / "registration" / "registration.json").read_text()
        # All of it was looked at: the databases of Prefect and MLflow, the ledger, Ray's logs, the shared folder.
        searched = [root, server, shared, Path(ray)]
        assert all(any(file.is_file() for file in folder.rglob("*")) for folder in searched)
        assert (root / ".ganflow" / "prefect" / "prefect.db").exists() and (server / "server.db").exists()
        assert holders(*searched) == []
    assert PLANTED not in said
    # The search finds what is there.
    (root / "found").write_text(f"... {PLANTED} ...")
    assert holders(*searched[:1]) == [str(root / "found")]
