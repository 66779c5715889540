"""What is deployed of prefect.yaml: what the file changed since the last start; else what stands in Prefect's pages.

Prefect's own `deploy` would start every paused schedule and deployment again, and leave what the file no longer names.
So it deploys all but the schedules, which are set here, each by the file where its entry is another one than at the
last start. What was made in the pages is left alone.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from prefect.cli.deploy._schedules import _schedule_config_to_deployment_schedule
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.flows import load_flow_arguments_from_entrypoint
from pydantic import Field

from components.gan.errors import UserError
from components.gan.options import Options
from components.workspace.project import PROJECT, project_file
from components.workspace.workspace import Workspace
from components.workspace.yaml_text import read_yaml
from flows.supervisor.commands import POOL
from flows.supervisor.logs import log_of


class _Schedule(Options):
    """A schedule on the server, and the entry of prefect.yaml that it was made of."""

    id: UUID
    entry: Mapping[str, Any]


class _Deployment(Options):
    """What prefect.yaml said of a deployment when it was deployed last."""

    name: str
    paused: bool | None = None
    schedules: tuple[_Schedule, ...] = ()


class Deployed(Options):
    """What was deployed from a workspace, by the ids that Prefect's server gave, and where the workspace was then."""

    root: str = ""
    deployments: Mapping[UUID, _Deployment] = Field(default_factory=dict)

    @classmethod
    def of(cls, workspace: Workspace) -> Deployed:
        """Return what is remembered; nothing is where nothing was deployed yet."""
        try:
            return cls.model_validate_json(_memory(workspace).read_text())
        except (OSError, ValueError):
            return cls()

    def moved_from(self, workspace: Workspace) -> str | None:
        """Where the workspace was when this was deployed, if that is not where it is."""
        same = Path(self.root or workspace.root).resolve() == workspace.root.resolve()
        return None if same else self.root

    def remember(self, workspace: Workspace) -> None:
        """Write it down."""
        staged = _memory(workspace).with_suffix(".tmp")
        staged.parent.mkdir(parents=True, exist_ok=True)
        staged.write_text(self.model_dump_json(indent=2))
        staged.replace(_memory(workspace))


class Plan:
    """A workspace's prefect.yaml, or the project's, against what was deployed before and what the server has."""

    def __init__(self, workspace: Workspace) -> None:
        """Read both.

        Raises:
            UserError: the file cannot be read, or one of its schedules is none.
        """
        self._workspace, self._before = workspace, Deployed.of(workspace)
        own = workspace.root / "prefect.yaml"
        file = own if own.exists() else project_file("prefect.yaml")
        try:
            self._described: dict[str, Any] = read_yaml(file.read_text())
            self._named = {_full_name(entry): entry for entry in self._described["deployments"]}
            # As it is remembered: dates are text.
            listed = {name: entry.get("schedules") or [] for name, entry in self._named.items()}
            self._schedules: dict[str, list[dict[str, Any]]] = json.loads(json.dumps(listed, default=str))
            for schedules in self._schedules.values():
                for schedule in schedules:
                    _made(schedule)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{file} was not deployed: {' '.join(str(error).split())[:300]}") from None

    def file(self) -> Path:
        """Write what `prefect deploy` is to deploy: without schedules, and paused where the pages say so."""
        log = log_of(self._workspace, "runs")
        # Into a file: written to the worker, which would pass it on, a run would die at its next line after it did.
        output = f'exec "$0" -m prefect.engine >>{shlex.quote(str(log))} 2>&1'
        command = shlex.join(["sh", "-c", output, sys.executable])
        with get_client(sync_client=True) as client:
            there = {name: _find(client, name) for name in self._named}
        deployments = []
        for name, entry in self._named.items():
            pool = entry.get("work_pool") or {}
            variables = {"command": command, **(pool.get("job_variables") or {})}
            deployments.append(
                {
                    **{key: value for key, value in entry.items() if key != "schedules"},
                    "parameters": {**(entry.get("parameters") or {}), "workspace": str(self._workspace.root)},
                    "work_pool": {"name": POOL, **pool, "job_variables": variables},
                    "paused": self._paused(entry, there[name]),
                }
            )
        file = self._workspace.state / "platform" / "prefect.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump({**self._described, "deployments": deployments}, sort_keys=False))
        return file

    def _paused(self, entry: Mapping[str, Any], there: DeploymentResponse | None) -> bool:
        wanted = entry.get("paused")
        if there is None:
            return bool(wanted)
        before = self._before.deployments.get(there.id)
        return bool(wanted) if wanted is not None and before and wanted != before.paused else there.paused

    def remove_dropped(self) -> Iterator[str]:
        """Remove the deployments that were made of entries which the file has no more; a sentence for each."""
        kept = dict(self._before.deployments)
        with get_client(sync_client=True) as client:
            for id, deployment in self._before.deployments.items():
                if deployment.name in self._named:
                    continue
                del kept[id]
                with suppress(ObjectNotFound):
                    # Somebody else's by now, on a server that several use: it has got another workspace.
                    if client.read_deployment(id).parameters.get("workspace") == self._before.root:
                        client.delete_deployment(id)
                        yield f"{deployment.name} is not in prefect.yaml any more: its deployment is removed"
        self._before = self._before.model_copy(update={"deployments": kept})
        self._before.remember(self._workspace)

    def set_schedules(self) -> Iterator[str]:
        """Give each deployment, which is on the server by now, its schedules; a sentence for what changes."""
        deployed = {}
        with get_client(sync_client=True) as client:
            for name, entry in self._named.items():
                there = _find(client, name)
                if there is None:
                    continue
                before = self._before.deployments.get(there.id)
                schedules, said = _set(client, there, self._schedules[name], before)
                deployed[there.id] = _Deployment(name=name, paused=entry.get("paused"), schedules=schedules)
                yield from (f"{name}: {line}" for line in said)
        Deployed(root=str(self._workspace.root), deployments=deployed).remember(self._workspace)


def _set(
    client: SyncPrefectClient,
    there: DeploymentResponse,
    entries: Sequence[Mapping[str, Any]],
    before: _Deployment | None,
) -> tuple[tuple[_Schedule, ...], list[str]]:
    """Set the schedules of a deployment; those that its entries have by now, and what is to be told."""
    present = {schedule.id: schedule for schedule in there.schedules}
    remembered = before.schedules if before else _recognised(there.schedules, entries)
    pairs, dropped = _paired(remembered, entries)
    found, said = [], []
    for entry, known in pairs:
        if known and known.entry == entry:
            # As it is in the pages: with another time, paused, or deleted.
            found.append(known)
        elif known and known.id in present:
            wanted = _made(entry)
            client.update_deployment_schedule(
                there.id,
                known.id,
                active=wanted.active if "active" in entry else None,
                schedule=wanted.schedule,
                parameters=wanted.parameters,
            )
            found.append(_Schedule(id=known.id, entry=entry))
            still = "" if present[known.id].active or "active" in entry else ", and stays paused"
            said.append(f"a schedule follows its change in prefect.yaml{still}")
        else:
            (made,) = client.create_deployment_schedules(there.id, [_made(entry)])
            found.append(_Schedule(id=made.id, entry=entry))
    for known in dropped:
        if known.id in present:
            client.delete_deployment_schedule(there.id, known.id)
            said.append("a schedule is not in prefect.yaml any more, and is removed")
    return tuple(found), said


def _recognised(present: Sequence[DeploymentSchedule], entries: Sequence[Mapping[str, Any]]) -> tuple[_Schedule, ...]:
    """Which schedules on the server are those of the file, where nothing is remembered: the same, then the next."""
    others, left = list(present), list(entries)
    found = []
    for entry in entries:
        wanted = _made(entry).schedule.model_dump(mode="json")
        if same := next((each for each in others if each.schedule.model_dump(mode="json") == wanted), None):
            found.append(_Schedule(id=same.id, entry=entry))
            others.remove(same)
            left.remove(entry)
    return (*found, *(_Schedule(id=other.id, entry={}) for other, _ in zip(others, left, strict=False)))


def _paired(
    known: Sequence[_Schedule], entries: Sequence[Mapping[str, Any]]
) -> tuple[list[tuple[Mapping[str, Any], _Schedule | None]], list[_Schedule]]:
    """Each entry with what was made of it: of the same slug, else of the same text, else the next; and what is left."""
    left = list(known)
    pairs: dict[int, _Schedule] = {}
    rules: tuple[Callable[[Mapping[str, Any], Mapping[str, Any]], bool], ...] = (
        lambda entry, before: "slug" in entry and entry["slug"] == before.get("slug"),
        lambda entry, before: entry == before,
        lambda entry, before: entry.get("slug") == before.get("slug"),
    )
    for same in rules:
        for number, entry in enumerate(entries):
            if number not in pairs and (made := next((each for each in left if same(entry, each.entry)), None)):
                pairs[number] = made
                left.remove(made)
    return [(entry, pairs.get(number)) for number, entry in enumerate(entries)], left


def _made(entry: Mapping[str, Any]) -> DeploymentScheduleCreate:
    """Return what Prefect makes of an entry.

    Raises:
        ValueError: it is no schedule.
    """
    made: dict[str, Any] = _schedule_config_to_deployment_schedule(dict(entry))
    return DeploymentScheduleCreate(**{key: value for key, value in made.items() if value is not None})


def _find(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    with suppress(ObjectNotFound):
        return client.read_deployment_by_name(name)
    return None


def _full_name(entry: Mapping[str, Any]) -> str:
    """Return `flow/deployment`."""
    file, _, function = str(entry["entrypoint"]).rpartition(":")
    entrypoint = f"{PROJECT / file}:{function}" if file else function
    flow = load_flow_arguments_from_entrypoint(entrypoint, {"name"})["name"]
    return f"{flow}/{entry['name']}"


def _memory(workspace: Workspace) -> Path:
    return workspace.state / "platform" / "deployed.json"
