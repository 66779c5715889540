"""A workspace from elsewhere, whose MLflow database names other places: none of them is read, fetched or written."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from components.gan.errors import RefusedError, UserError
from components.maintenance.verify import verify
from components.services.tracking import champions, connection, places, registry, runs
from components.services.tracking.named_model import named_model
from components.workspace.workspace import Workspace


@pytest.fixture
def workspace(old_workspace: Path) -> Workspace:
    found = Workspace(old_workspace)
    connection.open_client(found)
    return found


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine, its address and the paths that it was asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    server.server_close()


def point(workspace: Workspace, place: str) -> None:
    """Let version 2 lie at `place`, by all that MLflow says of it."""
    with closing(sqlite3.connect(workspace.mlruns / "mlflow.db")) as database, database:
        database.execute("UPDATE model_versions SET source = ?, storage_location = ? WHERE version = 2", (place, place))


def move(workspace: Workspace, place: str) -> None:
    """Let the logged models lie at `place`; the versions name them by their ids."""
    with closing(sqlite3.connect(workspace.mlruns / "mlflow.db")) as database, database:
        database.execute("UPDATE logged_models SET artifact_location = ?", (place,))


def outside(tmp_path: Path, workspace: Workspace, server: str) -> list[str]:
    secret = tmp_path / "secret"
    (secret / "artifacts").mkdir(parents=True)
    (secret / "artifacts" / "key").write_text("secret")
    (workspace.mlruns / "link").symlink_to(secret)
    root = workspace.mlruns.as_uri()
    return [
        f"{server}/model",
        f"{server}/../model",
        secret.as_uri(),
        str(secret),
        f"{root}/../../secret",
        f"{root}/%2e%2e/%2e%2e/secret",
        f"{root}/link",
        f"file://127.0.0.1{secret}",
        "s3://bucket/model",
        "mlflow-artifacts:/1/models",
        "ftp://127.0.0.1/model",
    ]


@pytest.mark.parametrize("by", [point, move])
def test_files_elsewhere_are_neither_read_nor_fetched(
    workspace: Workspace, tmp_path: Path, asked: tuple[str, list[str]], by: object
) -> None:
    server, paths = asked
    for place in outside(tmp_path, workspace, server):
        by(workspace, place)  # type: ignore[operator]
        with pytest.raises(RefusedError, match="outside of the workspace, where nothing is read") as refusal:
            named_model("champion", "ganflow", workspace)
        assert "\n" not in str(refusal.value)
        with pytest.raises(UserError):
            named_model("2", "ganflow", workspace)
        wrong = {v.name: v.wrong for v in registry.checked_versions(workspace)}["ganflow version 2"]
        assert wrong is not None
        assert "outside of the workspace, where nothing is read" in wrong
    assert paths == []


def test_verify_tells_it_and_goes_on(workspace: Workspace, asked: tuple[str, list[str]]) -> None:
    server, paths = asked
    point(workspace, f"{server}/model")
    found = {finding.part: finding.wrong for finding in verify(workspace)}
    assert found["ganflow version 1"] is None
    assert server in (found["ganflow version 2"] or "")
    assert paths == []


def test_a_link_among_the_files_is_not_followed(workspace: Workspace, tmp_path: Path) -> None:
    weights = named_model_file(workspace)
    (tmp_path / "secret").write_bytes(weights.read_bytes())
    weights.unlink()
    weights.symlink_to(tmp_path / "secret")
    with pytest.raises(RefusedError, match="include a link to"):
        champions.champion("ganflow", workspace)
    assert "include a link to" in (
        {v.name: v.wrong for v in registry.checked_versions(workspace)}["ganflow version 2"] or ""
    )


def named_model_file(workspace: Workspace) -> Path:
    version = champions.champion("ganflow", workspace)
    assert version is not None
    return version.folder / "generator.safetensors"


def test_nothing_is_written_into_a_run_elsewhere(workspace: Workspace, tmp_path: Path) -> None:
    with closing(sqlite3.connect(workspace.mlruns / "mlflow.db")) as database, database:
        database.execute("UPDATE runs SET artifact_uri = ?", ((tmp_path / "there").as_uri(),))
        key, *_ = database.execute("SELECT value FROM tags WHERE key = 'key'").fetchone()
    data = runs.UsedData("0" * 32, {})
    for write in (
        lambda: runs.attach(
            "ganflow", 2, workspace, {"report/card.md": b"text"}, runs.Descriptions("text", None), data
        ),
        lambda: runs.attached("ganflow", 2, ("report/card.md",), workspace),
        lambda: runs.ensure_run(connection.open_client(workspace), workspace, key, "name"),
    ):
        with pytest.raises(RefusedError, match="outside of the workspace"):
            write()
    assert not (tmp_path / "there").exists()


def test_a_version_that_ganflow_did_not_register_is_named(workspace: Workspace) -> None:
    with closing(sqlite3.connect(workspace.mlruns / "mlflow.db")) as database, database:
        database.execute("DELETE FROM model_version_tags WHERE version = 2")
    with pytest.raises(UserError, match="version 2 of ganflow was not registered by ganflow"):
        named_model("champion", "ganflow", workspace)


@pytest.mark.parametrize("place", ["file://[x", "http://[::1/x", "a\0b", "file:///%00", "\ud800"])
def test_what_is_no_place_is_none_of_the_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(RefusedError, match="outside of the workspace"):
        places.check_place(place, "files", Workspace(tmp_path))
