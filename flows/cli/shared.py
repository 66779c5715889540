"""What the commands share: the folder that they work in, its parameters, and the servers that the user named."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from components.gan.errors import NotThereError, UnreachableError, UserError
from components.services import surroundings
from components.services.address import SERVERS, masked, unanswered
from components.workspace.files import disk_errors
from components.workspace.params import Params
from components.workspace.project import PROJECT, project_file
from components.workspace.workspace import Workspace

WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        metavar="DIR",
        help="folder with params.yaml, data/ and results; params.yaml and data/ are copied from the project where they "
        "are missing; default: this folder",
    ),
]


def _hush(asked: bool) -> bool:
    """Send what a command says to nowhere, and draw no bars; what goes wrong is still told."""
    if asked:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
        if isinstance(sys.stderr, io.TextIOWrapper):
            sys.stderr = _NoTerminal(sys.stderr.buffer, sys.stderr.encoding, "backslashreplace", line_buffering=True)
    return asked


class _NoTerminal(io.TextIOWrapper):
    """A stream on which nothing moves: bars are drawn on terminals alone."""

    def isatty(self) -> bool:
        """Say that it is none."""
        return False


QuietOption = Annotated[
    bool, typer.Option("--quiet", callback=_hush, help="say nothing but what is wrong; the exit code tells the rest")
]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
# Of commands that only look: they make nothing in the folder.
ExistingOption = Annotated[
    Path,
    typer.Option(
        "--workspace", metavar="DIR", help="the workspace to look at; default: this folder", show_default=False
    ),
]
SetOption = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="change a parameter for this run: --set train.images=64000"),
]

StrictOption = Annotated[
    bool,
    typer.Option(
        "--strict", help="the same as --set preprocess.strict=true: refuse data of which anything is lost or guessed"
    ),
]
STRICT = "preprocess.strict=true"

ModelOption = Annotated[
    str,
    typer.Option(
        metavar="VERSION", help="a version's number, champion, challenger, or workspace for the one in artifacts/model"
    ),
]


def typed(path: Path) -> Path:
    """Return a path as the user means it: of the folder that the shell is in, with ~ where the shell left it.

    Raises:
        UserError: it is another user's home, and there is none.
    """
    try:
        return path.expanduser().absolute()
    except RuntimeError:
        raise UserError(f"{path}: there is no such user; write ./{path} for a folder of that name") from None


def typed_place(named: str) -> str:
    """Return an address of a storage as it is, and the path that is meant by what was typed.

    Raises:
        UserError: as `typed`.
    """
    return named if "://" in named else str(typed(Path(named)))


def workspace_at(folder: Path | None) -> Workspace:
    """Return this folder's workspace, or the one named, with the project's parameters and data if it lacks them."""
    workspace = Workspace(typed(folder or Path()))
    surroundings.check_path(workspace.root)
    if workspace.root.is_file():
        raise UserError(f"{workspace.root} is a file: name a folder by --workspace")
    if folder is not None and workspace.root != PROJECT:
        with disk_errors(workspace.root):
            workspace.root.mkdir(parents=True, exist_ok=True)
            if not workspace.params.exists():
                shutil.copyfile(project_file("params.yaml"), workspace.params)
            if not workspace.data.exists() and (PROJECT / "data").exists():
                shutil.copytree(PROJECT / "data", workspace.data)
    workspace.check_own_files()
    return workspace


def existing_workspace(folder: Path) -> Workspace:
    """Return the workspace in `folder`, of which nothing is made.

    Raises:
        NotThereError: there is no such folder.
    """
    workspace = Workspace(typed(folder))
    surroundings.check_path(workspace.root)
    if not workspace.root.is_dir():
        raise NotThereError(f"there is no folder {workspace.root}: name a workspace by --workspace")
    return workspace


@contextmanager
def away(workspace: Workspace) -> Iterator[None]:
    """Work in a folder that holds no code and no settings.

    Prefect takes settings, and Ray's workers take modules, from the folder that they are in.
    """
    with disk_errors(workspace.state):
        workspace.state.mkdir(parents=True, exist_ok=True)
    with chdir(workspace.state):
        yield


def ready(folder: Path | None, overrides: Sequence[str]) -> tuple[Workspace, Params]:
    """Return the workspace, held until the process ends, and its parameters."""
    workspace = workspace_at(folder)
    params = Params.load(workspace.params, overrides)
    check_servers()
    workspace.exclusive()
    return workspace, params


def check_servers() -> None:
    """Ask the servers that the user named for an answer, and look at this machine, before any work is done."""
    surroundings.check()
    for variable, port in SERVERS.items():
        address = os.environ.get(variable, "")
        if error := unanswered(address, port):
            raise UnreachableError(
                f"{variable}={masked(address)} does not answer ({error}): start that server or unset it"
            )
