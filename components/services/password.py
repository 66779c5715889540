"""The password of the servers that ganflow starts for a workspace: who does not know it gets nothing from them.

Other users of the machine reach a server on 127.0.0.1, and so do the pages that are open in the user's browser.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..gan.options import Options
from ..workspace.files import disk_errors, write_whole
from ..workspace.workspace import Workspace
from .process import folder_id

USER = "ganflow"


class _Kept(Options):
    """A password, and what the kernel knows the workspace by that it was made for: a copy has one of its own."""

    folder: str
    password: str


def known(workspace: Workspace) -> str | None:
    """Return the password of the workspace's servers; None if there is none that nobody else can have read."""
    with suppress(OSError, ValueError):
        descriptor = os.open(file(workspace), os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as opened:
            found = os.fstat(descriptor)
            private = stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
            kept = _Kept.model_validate_json(opened.read(10_000))
        if private and kept.folder == folder_id(workspace):
            return kept.password
    return None


def ensure(workspace: Workspace) -> str:
    """Return the password of the workspace's servers, a new one if there is none that nobody else can have read.

    Raises:
        UserError: there is no space left.
    """
    if password := known(workspace):
        return password
    kept = _Kept(folder=folder_id(workspace), password=secrets.token_urlsafe(32))
    target = file(workspace)
    with disk_errors(target), _alone(target.parent):
        # `ganflow up` and `ganflow ui` may be started at once.
        if password := known(workspace):
            return password
        write_whole(target, kept.model_dump_json(), mode=0o600)
        # MLflow takes the password of its user only when it makes the list of users.
        users(workspace).unlink(missing_ok=True)
    return kept.password


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let other processes wait that make a password in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Some network disks lock no folders: there the last of two would win.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def file(workspace: Workspace) -> Path:
    """Return the file that holds the password, which only this user may read."""
    return workspace.state / "password.json"


def users(workspace: Workspace) -> Path:
    """Return MLflow's database of users, with a hash of the password."""
    return workspace.state / "platform" / "mlflow-users.db"


def prefect_auth(password: str) -> str:
    """Return what Prefect's server and its pages ask for: what the user has set for servers, or else ganflow's own."""
    return os.environ.get("PREFECT_SERVER_API_AUTH_STRING") or f"{USER}:{password}"


def for_prefect_server(auth: str, origin: str) -> dict[str, str]:
    """Return the environment of a server of Prefect whose pages are at `origin`, such as http://127.0.0.1:4200.

    Pages of another origin may not ask it, nor write without the token that it gave them.
    """
    return {
        "PREFECT_SERVER_API_AUTH_STRING": auth,
        "PREFECT_API_AUTH_STRING": auth,
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"{origin},{origin.replace('127.0.0.1', 'localhost')}",
    }


def for_mlflow_server(password: str, workspace: Workspace) -> dict[str, str]:
    """Return the environment of `mlflow server --app-name basic-auth`; its settings go into a file beside its users.

    Raises:
        UserError: there is no space left.
    """
    settings = users(workspace).with_name("mlflow-auth.ini")
    address = f"sqlite:///{users(workspace).absolute()}".replace("%", "%%")
    with disk_errors(settings):
        settings.parent.mkdir(parents=True, exist_ok=True)
        users(workspace).touch(mode=0o600)
        # It may have been made, or copied, open to others, who could put their own password into it.
        users(workspace).chmod(0o600)
        settings.write_text(f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = {address}\n")
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings.absolute()),
        "MLFLOW_AUTH_ADMIN_USERNAME": USER,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        # What signs its forms: new at each start, for there is one process.
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(32),
    }
