"""The password of a workspace's servers: made once, readable by its user alone, and of no copy of the workspace."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from components.services import password
from components.workspace.workspace import Workspace


def test_it_is_made_once_and_private_whatever_the_umask(tmp_path: Path) -> None:
    workspace, before = Workspace(tmp_path), os.umask(0)
    try:
        assert password.known(workspace) is None
        made = password.ensure(workspace)
    finally:
        os.umask(before)
    assert len(made) >= 43 and password.ensure(workspace) == made == password.known(workspace)
    assert [file.name for file in workspace.state.iterdir()] == ["password.json"]
    assert password.file(workspace).stat().st_mode & 0o777 == 0o600


def _opened(file: Path) -> None:
    file.chmod(0o640)


def _of_somebody_else(file: Path) -> None:
    if os.getuid():
        pytest.skip("only root can give a file away")
    os.chown(file, 65534, 65534)


def _a_link(file: Path) -> None:
    file.replace(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")


def _torn(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:30])


def _removed(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("spoil", [_opened, _of_somebody_else, _a_link, _torn, _removed])
def test_what_somebody_else_may_know_is_replaced(spoil: Callable[[Path], None], tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    made, file = password.ensure(workspace), password.file(workspace)
    users = password.users(workspace)
    users.parent.mkdir()
    users.touch()
    spoil(file)
    assert password.known(workspace) is None
    renewed = password.ensure(workspace)
    assert renewed != made and password.known(workspace) == renewed
    assert file.stat().st_mode & 0o777 == 0o600 and file.stat().st_uid == os.getuid() and not file.is_symlink()
    # MLflow would go on asking for the old one.
    assert not users.exists()


def test_a_copy_of_a_workspace_has_another_one(tmp_path: Path) -> None:
    original = Workspace(tmp_path / "original")
    original.root.mkdir()
    made = password.ensure(original)
    shutil.copytree(original.root, tmp_path / "copy")
    copy = Workspace(tmp_path / "copy")
    assert password.known(copy) is None and password.ensure(copy) != made
    original.root.rename(tmp_path / "moved")
    assert password.known(Workspace(tmp_path / "moved")) == made


def test_what_the_user_has_set_for_servers_of_prefect_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "admin:own:with:colons")
    guard = password.for_prefect_server(password.prefect_auth("generated"), "http://127.0.0.1:4200")
    assert {guard["PREFECT_SERVER_API_AUTH_STRING"], guard["PREFECT_API_AUTH_STRING"]} == {"admin:own:with:colons"}
    assert guard["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:4200,http://localhost:4200"


def test_two_commands_at_once_agree_on_one(tmp_path: Path) -> None:
    start = Barrier(16)

    def made(number: int) -> tuple[int, str]:
        start.wait()
        return number // 16, password.ensure(Workspace(tmp_path / str(number // 16)))

    for number in range(10):
        (tmp_path / str(number)).mkdir()
    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(made, range(160)))) == 10


def test_the_users_of_mlflow_are_closed_to_others(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    password.for_mlflow_server(password.ensure(workspace), workspace)
    password.users(workspace).chmod(0o666)
    password.for_mlflow_server(password.ensure(workspace), workspace)
    assert password.users(workspace).stat().st_mode & 0o077 == 0
