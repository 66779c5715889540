"""The commands `ganflow login` and `ganflow env`: the way into the servers that ganflow started for a workspace."""

from __future__ import annotations

import shlex
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from components.gan.errors import NotThereError, UserError
from components.services import password
from components.services.platform import Platform, running
from components.services.tracking import pages as tracking
from components.workspace.workspace import Workspace
from flows.cli.given import GIVEN
from flows.cli.shared import ExistingOption, existing_workspace


def login(
    folder: ExistingOption = Path(),
    pages: Annotated[bool, typer.Option("--open", help="open the pages in the browser too")] = False,
) -> None:
    """Show the addresses, user and password of the pages, on a terminal only."""
    workspace = existing_workspace(folder)
    if not sys.stdout.isatty():
        raise UserError(
            "a password is shown on a terminal only, never written to a file or a log: programs take it by "
            '`eval "$(ganflow env)"`'
        )
    known, platform = _known(workspace), running(workspace)
    if platform and "prefect" in platform.parts:
        print(f"Prefect   {platform.pages}\n          asks once for      {password.prefect_auth(known)}")
    mlflow = tracking.home(platform.mlflow, workspace) if platform else "the pages of `ganflow ui`"
    if platform is None or "mlflow" in platform.parts:
        print(f"MLflow    {mlflow}\n          user               {password.USER}\n          password           {known}")
    if pages and platform:
        for address in (platform.pages, mlflow):
            webbrowser.open(address)


def env(folder: ExistingOption = Path()) -> None:
    """Print what `prefect` and `mlflow` need in a shell: eval "$(ganflow env)"."""
    workspace = existing_workspace(folder)
    if sys.stdout.isatty():
        raise UserError('this is for a shell, and holds a password: type eval "$(ganflow env)"')
    platform = running(workspace)
    if platform is None:
        raise NotThereError("no platform of this workspace runs: `ganflow up --detach` starts it")
    for name, value in given(workspace, platform).items():
        print(f"export {name}={shlex.quote(value)}")


def given(workspace: Workspace, platform: Platform) -> dict[str, str]:
    """Return the variables by which the tools find the platform's servers and are let in."""
    found: dict[str, str] = {}
    if "prefect" in platform.parts:
        auth = password.prefect_auth(_known(workspace))
        found |= {"PREFECT_API_URL": platform.prefect, "PREFECT_API_AUTH_STRING": auth}
    if "mlflow" in platform.parts:
        found |= {
            "MLFLOW_TRACKING_URI": platform.mlflow,
            "MLFLOW_TRACKING_USERNAME": password.USER,
            "MLFLOW_TRACKING_PASSWORD": _known(workspace),
        }
    addresses = (found[name] for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI") if name in found)
    return found | {GIVEN: " ".join(addresses)}


def _known(workspace: Workspace) -> str:
    known = password.known(workspace)
    if known is None:
        raise NotThereError(
            f"there is no password of this workspace that you alone can read ({password.file(workspace)}): "
            "`ganflow down`, then `ganflow up`, or `ganflow ui`, makes one"
        )
    return known
