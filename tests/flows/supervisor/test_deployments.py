"""Which entry of prefect.yaml a schedule on the server belongs to. What is done with it: `test_supervisor.py`."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.schedules import CronSchedule

from components.gan.errors import UserError
from components.workspace.workspace import Workspace
from flows.supervisor.deployments import Deployed, Plan, _paired, _recognised, _Schedule
from tests.conftest import PROJECT


def entry(cron: str, **more: str) -> dict[str, str]:
    return {"cron": cron, "timezone": "UTC", **more}


def schedule(cron: str) -> DeploymentSchedule:
    return DeploymentSchedule(schedule=CronSchedule(cron=cron, timezone="UTC"))


def test_an_entry_is_known_by_its_slug_then_by_its_text_then_by_its_place() -> None:
    one, two, named = entry("1 * * * *"), entry("2 * * * *"), entry("3 * * * *", slug="third")
    known = [_Schedule(id=uuid4(), entry=each) for each in (one, two, named)]
    assert _paired(known, [one, two, named]) == ([(one, known[0]), (two, known[1]), (named, known[2])], [])
    # In another order, with another time, one more and one less.
    later = entry("9 * * * *", slug="third")
    assert _paired(known, [later, two, one]) == ([(later, known[2]), (two, known[1]), (one, known[0])], [])
    changed, more = entry("8 * * * *"), entry("7 * * * *")
    assert _paired(known, [changed, two]) == ([(changed, known[0]), (two, known[1])], [known[2]])
    assert _paired(known[:1], [one, more]) == ([(one, known[0]), (more, None)], [])
    assert _paired(known, []) == ([], known)


def test_where_nothing_is_remembered_the_same_is_the_same_and_more_is_somebody_elses() -> None:
    one, two = entry("1 * * * *"), entry("2 * * * *")
    there = [schedule("5 * * * *"), schedule("2 * * * *"), schedule("6 * * * *")]
    assert [(each.id, each.entry) for each in _recognised(there, [one, two])] == [(there[1].id, two), (there[0].id, {})]
    assert _recognised([], [one]) == ()


def test_the_memory_is_of_where_the_workspace_was(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    workspace.root.mkdir()
    assert Deployed.of(workspace).moved_from(workspace) is None
    Deployed(root=str(workspace.root)).remember(workspace)
    assert Deployed.of(workspace).moved_from(workspace) is None
    (tmp_path / "link").symlink_to(workspace.root)
    assert Deployed.of(workspace).moved_from(Workspace(tmp_path / "link")) is None
    moved = Workspace(workspace.root.rename(tmp_path / "moved"))
    assert Deployed.of(moved).moved_from(moved) == str(workspace.root)


@pytest.mark.parametrize(
    "wrong",
    ["{", "deployments: 3", "[]", "deployments: [{name: a}]", "deployments: [{name: a, entrypoint: nowhere.py:b}]"],
)
def test_a_file_that_is_none_is_refused_before_anything_is_changed(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "prefect.yaml").write_text(wrong)
    with pytest.raises(UserError, match="was not deployed"):
        Plan(Workspace(tmp_path))


def test_a_time_that_is_none_is_refused(tmp_path: Path) -> None:
    described = yaml.safe_load((PROJECT / "prefect.yaml").read_text())
    described["deployments"][0]["schedules"] = [entry("every night")]
    (tmp_path / "prefect.yaml").write_text(yaml.safe_dump(described))
    with pytest.raises(UserError, match=r"was not deployed: .*cron"):
        Plan(Workspace(tmp_path))
