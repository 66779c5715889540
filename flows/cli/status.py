"""What `ganflow status` shows: servers, runs, schedules, the champion and the disk, as a record and in lines."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from components.gan.errors import NotThereError
from components.provenance.history import past_runs
from components.services.address import answers
from components.services.platform import Platform, is_held, running, where
from components.services.process import folder_id
from components.services.tracking import champions
from components.services.tracking import pages as tracking_pages
from components.workspace.artifacts import Registration
from components.workspace.params import Params
from components.workspace.verdict import Verdict
from components.workspace.workspace import Workspace
from flows.cli.history import line_of
from flows.supervisor import supervisor
from flows.supervisor.members import members

RUNS = 5
# Whose sizes are shown.
FOLDERS = ("data", "artifacts", "mlruns", ".ganflow", ".dvc/cache")


class _Part(BaseModel):
    """A part of the status; what was not set is not known, and is not shown."""

    model_config = ConfigDict(frozen=True)


class ServerStatus(_Part):
    """A server of the platform, or its worker; `pid` where it is a process of the platform's own."""

    pid: int | None = None
    healthy: bool
    address: str | None = None


class RunStatus(_Part):
    """A flow run that was begun."""

    name: str
    state: str | None
    message: str | None
    began: datetime | None
    seconds: int


class NextRun(_Part):
    """When a deployment is due."""

    deployment: str
    at: datetime


class TrainingStatus(_Part):
    """A training, what it scored, its version and what the gate said of it; `line` has all of it."""

    name: str
    version: int | None
    verdict: str | None
    line: str


class ChampionStatus(_Part):
    """The champion, since when it is, and what was registered and judged last."""

    name: str
    version: int
    since: datetime
    last_registered: int | None = None
    last_verdict: str | None = None


class Status(_Part):
    """A workspace at this moment; `runs` and `next` where Prefect's server answers.

    In bytes: `free` on the disk that it lies on, and in `disk` what its folders take, if that was asked.
    """

    platform: str
    remedy: str | None = None
    servers: Mapping[str, ServerStatus]
    runs: Sequence[RunStatus] | None = None
    next: Sequence[NextRun] | None = None
    champion: ChampionStatus | None
    trainings: Sequence[TrainingStatus] = ()
    free: int
    disk: Mapping[str, int] | None = None


def status_of(workspace: Workspace, sizes: bool = False) -> Status:
    """Look at a workspace and the servers that belong to it; `sizes`: at every file of it too."""
    platform = running(workspace)
    server = os.environ.get("PREFECT_API_URL") or (platform.prefect if platform else None)
    asked: dict[str, object] = {}
    if server and answers(f"{server}/health"):
        supervisor.use(workspace)
        asked = {"runs": last_runs(), "next": next_runs()}
    if sizes:
        asked["disk"] = {name: _size(workspace.root / name) for name in FOLDERS}
    return Status.model_validate(
        {
            **_state(workspace),
            "servers": _servers(platform, workspace) if platform else {},
            "champion": _champion(workspace),
            "trainings": last_trainings(workspace),
            "free": shutil.disk_usage(workspace.root).free,
            **asked,
        }
    )


def _state(workspace: Workspace) -> dict[str, str]:
    """Return in a word whether the platform runs, and what can be done where that is not plain."""
    if running(workspace):
        return {"platform": "running"}
    if is_held(workspace):
        return {"platform": "running elsewhere", "remedy": f"it {where(workspace)}"}
    if left := members(folder_id(workspace)):
        numbers = ", ".join(str(process.pid) for process in left)
        words = (
            f"its supervisor was killed and left processes {numbers}; `ganflow up` starts it anew, `ganflow down` ends"
        )
        return {"platform": "not running", "remedy": f"{words} them"}
    return {"platform": "not running"}


def last_runs() -> list[RunStatus]:
    """Ask Prefect's server for the runs that were begun last."""
    from flows.supervisor import prefect_api

    return [
        RunStatus(
            name=run.name,
            state=run.state_name,
            message=run.state.message if run.state else None,
            began=run.start_time,
            seconds=round(run.estimated_run_time.total_seconds()),
        )
        for run in prefect_api.last_runs(RUNS)
    ]


def last_trainings(workspace: Workspace) -> list[TrainingStatus]:
    """Return the trainings that ended last, as the ledger knows them."""
    return [
        TrainingStatus(
            name=run.name,
            version=next((version.version for version in run.versions), None),
            verdict=run.verdict,
            line=line_of(run),
        )
        for run in islice(past_runs(workspace), RUNS)
    ]


def next_runs() -> list[NextRun]:
    """Ask Prefect's server for the next run of each deployment."""
    from flows.supervisor import prefect_api

    return [NextRun(deployment=name, at=due) for name, due in prefect_api.next_runs()]


def lines_of(found: Status) -> Iterator[tuple[str, list[str]]]:
    """Yield each part of the status, with a line or more on it."""
    remedy = found.remedy or "`ganflow up` starts it"
    yield "platform", [found.platform + ("" if found.platform == "running" else f": {remedy}")]
    for name, server in found.servers.items():
        process = "" if server.pid is None else f"process {server.pid}, "
        health = "healthy" if server.healthy else "DOES NOT ANSWER"
        yield name, [f"{process}{health}{f', {server.address}' if server.address else ''}"]
    if found.runs is not None:
        shown = [
            f"{_minute(run.began)}{run.name}: {run.state}, {run.seconds} s"
            + (f"; {run.message}" if run.message else "")
            for run in found.runs
        ]
        yield "runs", [line[:200] for line in shown] or ["none yet"]
    if found.next is not None:
        yield "next", next_lines(found.next)
    yield "trained", [training.line for training in found.trainings] or ["nothing yet"]
    yield "champion", _champion_lines(found.champion) if found.champion else ["none yet"]
    free = f"{found.free / 1e9:,.1f} GB free"
    if found.disk is None:
        yield "disk", [f"{free}; --sizes adds up what the workspace takes"]
    else:
        sizes = [f"{name} {size / 1e6:,.0f} MB" for name, size in found.disk.items() if size]
        yield "disk", [free, ", ".join(sizes) or "nothing"]


def _minute(began: datetime | None) -> str:
    """Return when a run began, to stand before its name, which says what it did."""
    return f"{began.astimezone():%Y-%m-%d %H:%M} " if began else ""


def next_lines(runs: Sequence[NextRun]) -> list[str]:
    """Return a line for each run that is due."""
    return [f"{run.deployment} at {run.at.astimezone():%a %Y-%m-%d %H:%M %Z}" for run in runs] or [
        "nothing is scheduled"
    ]


def _servers(platform: Platform, workspace: Workspace) -> dict[str, ServerStatus]:
    own: dict[str, dict[str, object]] = {
        name: {"pid": part.pid, "healthy": part.find() is not None} for name, part in platform.parts.items()
    }
    for name, api, pages in (
        ("prefect", platform.prefect, platform.pages),
        ("mlflow", platform.mlflow, tracking_pages.home(platform.mlflow, workspace)),
    ):
        # The user's own server is no process of the platform.
        own[name] = {**own.get(name, {}), "address": pages, "healthy": answers(f"{api}/health")}
    return {name: ServerStatus.model_validate(described) for name, described in own.items()}


def _champion(workspace: Workspace) -> ChampionStatus | None:
    name = Params.load(workspace.params).register.name
    change = next(champions.newest_changes(name, workspace), None)
    if change is None:
        return None
    found = ChampionStatus(name=name, version=change.version, since=datetime.fromtimestamp(change.seconds, UTC))
    try:
        judged = Verdict.of(workspace)
        registered = Registration.load(workspace.registration)
    except NotThereError:
        return found
    last = {"last_registered": registered.version}
    verdict = {"last_verdict": f"version {judged.challenger}: {judged.answer}"} if judged else {}
    return found.model_copy(update=last | verdict)


def _champion_lines(champion: ChampionStatus) -> list[str]:
    days = (datetime.now(UTC) - champion.since).total_seconds() / 86_400
    age = f"{days:.0f} days" if days >= 2 else f"{days * 24:.0f} hours"
    judged = [champion.last_verdict] if champion.last_verdict else []
    return [f"{champion.name} version {champion.version}, for {age}", *judged]


def _size(folder: Path) -> int:
    """Sum up the bytes below a folder; files that vanish meanwhile count for nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(Path(place) / name).st_size
            except OSError:
                continue
    return total
