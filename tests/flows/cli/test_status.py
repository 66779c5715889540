"""What `ganflow status` finds in a workspace, and how it shows it."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.services.tracking import champions
from components.workspace.workspace import Workspace
from flows.cli.platform import status
from flows.cli.status import ChampionStatus, NextRun, RunStatus, ServerStatus, Status, lines_of, status_of


@pytest.fixture
def workspace(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    shutil.copytree(finished, tmp_path / "workspace")
    return Workspace(tmp_path / "workspace")


def test_the_champion_is_that_of_the_journal(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    status(workspace.root, as_json=True)
    found = json.loads(capsys.readouterr().out)
    # What is not known is left out.
    assert list(found) == ["platform", "servers", "champion", "trainings", "free"]
    (trained,) = found["trainings"]
    assert (trained["version"], trained["verdict"]) == (1, "promote") and "kid_classifier" in trained["line"]
    (change,) = champions.history("ganflow", workspace)
    since = datetime.fromisoformat(change.time)
    assert found["champion"] == {
        "name": "ganflow",
        "version": 1,
        "since": str(since),
        "last_registered": 1,
        "last_verdict": "version 1: promote",
    }
    assert found["free"] > 0
    sizes = {file: file.stat().st_size for file in workspace.data.iterdir()}
    disk = status_of(workspace, sizes=True).disk
    assert disk and disk["data"] == sum(sizes.values())
    shutil.rmtree(workspace.registration)
    kept = status_of(workspace).champion
    assert kept and kept.model_dump(exclude_unset=True).keys() == {"name", "version", "since"}
    (workspace.mlruns / champions.JOURNAL).unlink()
    assert status_of(workspace).champion is None


def test_lines_say_what_the_record_says() -> None:
    now = datetime.now(UTC)
    found = Status(
        platform="running",
        servers={
            "prefect": ServerStatus(pid=7, healthy=True, address="http://127.0.0.1:4200"),
            "mlflow": ServerStatus(healthy=False, address="http://127.0.0.1:5000"),
            "worker": ServerStatus(pid=9, healthy=True),
        },
        runs=[
            RunStatus(name="retrain", state="Failed", message="m" * 300, began=now, seconds=61),
            RunStatus(name="drift", state="Completed", message=None, began=now, seconds=3),
        ],
        next=[],
        champion=ChampionStatus(
            name="faces", version=3, since=now - timedelta(hours=49), last_verdict="version 4: keep"
        ),
        free=5_000_000_000,
    )
    lines = dict(lines_of(found))
    assert lines["prefect"] == ["process 7, healthy, http://127.0.0.1:4200"]
    assert lines["mlflow"] == ["DOES NOT ANSWER, http://127.0.0.1:5000"]
    assert lines["worker"] == ["process 9, healthy"]
    began = f"{now.astimezone():%Y-%m-%d %H:%M}"
    assert lines["runs"][1] == f"{began} drift: Completed, 3 s"
    assert len(lines["runs"][0]) == 200 and lines["runs"][0].startswith(f"{began} retrain: Failed, 61 s; mmm")
    assert lines["next"] == ["nothing is scheduled"]
    assert lines["champion"] == ["faces version 3, for 2 days", "version 4: keep"]
    assert lines["disk"] == ["5.0 GB free; --sizes adds up what the workspace takes"]
    sized = found.model_copy(update={"disk": {"data": 3_000_000, "mlruns": 0}})
    assert dict(lines_of(sized))["disk"] == ["5.0 GB free", "data 3 MB"]
    due = found.model_copy(update={"next": [NextRun(deployment="drift/drift", at=now)]})
    assert dict(lines_of(due))["next"][0].startswith("drift/drift at ")
