"""What must answer or be there: servers, folders and buckets that are named."""

from __future__ import annotations

import configparser
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...gan.errors import UserError
from ...services.address import SERVERS, masked, unanswered
from ...workspace.params import Params
from ...workspace.workspace import Workspace
from .diagnosis import Diagnosis


def servers(environment: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Whether each server that the user named answers."""
    for name, port in SERVERS.items():
        address = environment.get(name, "")
        if not address:
            yield Diagnosis("servers", None, f"{name} is not set: the embedded default is used")
        elif wrong := unanswered(address, port):
            words = f"{name} = {masked(address)} does not answer ({wrong})"
            yield Diagnosis("servers", False, words, f"start that server, or unset {name}")
        else:
            yield Diagnosis("servers", True, f"{name} = {masked(address)} answers")


def places(workspace: Workspace, environment: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Whether the folders and buckets exist that the parameters and DVC's default remote name."""
    named = {"DVC's remote": _remote(workspace.root)}
    if workspace.params.exists():
        try:
            params = Params.load(workspace.params)
            named |= {"train.storage": params.train.storage, "retrain.inbox": params.retrain.inbox}
        except UserError as error:
            yield Diagnosis("parameters", False, masked(str(error)), "correct params.yaml: `ganflow params` lists all")
    for name, place in named.items():
        if place is None:
            yield Diagnosis("storage", None, f"{name} is not set")
        elif wrong := _unreachable(place, workspace, environment):
            remedy = f"make it, or correct {name}; buckets: check the network and AWS_ENDPOINT_URL"
            yield Diagnosis("storage", False, f"{name} = {masked(place)}: {wrong}", remedy)
        else:
            yield Diagnosis("storage", True, f"{name} = {masked(place)} is there")


def _unreachable(place: str, workspace: Workspace, environment: Mapping[str, str]) -> str | None:
    scheme, mark, rest = place.partition("://")
    if not mark or scheme == "file":
        folder = workspace.root / (rest if mark else place)
        return None if folder.is_dir() else "there is no such folder"
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    address = {
        "s3": environment.get("AWS_ENDPOINT_URL_S3")
        or environment.get("AWS_ENDPOINT_URL")
        or f"https://s3.{f'{region}.' if region else ''}amazonaws.com",
        "gs": "https://storage.googleapis.com",
        "ssh": f"ssh://{rest}",
        "http": place,
        "https": place,
    }.get(scheme)
    wrong = unanswered(address, 22) if address else None
    return wrong and f"{masked(address or '')} does not answer ({wrong})"


def _remote(root: Path) -> str | None:
    """Where DVC's default remote is."""
    settings = dvc_settings(root)
    if settings is None:
        return None
    dvc, config = settings
    try:
        name = config.get("core", "remote", fallback=None)
        url = name and config.get(f"'remote \"{name}\"'", "url", fallback=None)
    except configparser.Error:
        return None
    # A folder is named from where the file lies.
    return str(dvc / url) if url and "://" not in url else url


def dvc_settings(root: Path) -> tuple[Path, configparser.ConfigParser] | None:
    """DVC's folder and settings in it, by its own files: its import takes seconds. None: there are none to be read."""
    dvc = next((at / ".dvc" for at in (root, *root.parents) if (at / ".dvc").is_dir()), None)
    if dvc is None:
        return None
    config = configparser.ConfigParser(interpolation=None)
    try:
        config.read([dvc / "config", dvc / "config.local"])
    except (configparser.Error, UnicodeDecodeError):
        return None
    return dvc, config
