"""The schedules of prefect.yaml, through both changes of the clocks."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from prefect.server.schemas.schedules import CronSchedule

from tests.conftest import PROJECT

DEPLOYMENTS = yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]
SCHEDULES = [schedule for deployment in DEPLOYMENTS for schedule in deployment.get("schedules") or []]


def test_all_deployments_run_one_at_a_time_and_do_not_pile_up() -> None:
    assert {deployment["name"] for deployment in DEPLOYMENTS} == {"retrain", "drift", "render", "clean"}
    for deployment in DEPLOYMENTS:
        assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
        assert deployment["work_pool"] == {"name": "ganflow"}
        assert (PROJECT / deployment["entrypoint"].partition(":")[0]).is_file()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s["cron"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_clocks_that_change_neither_lose_nor_repeat_a_run(schedule: dict[str, Any], zone: str) -> None:
    """A year of runs at the same local times; hourly ones follow the hours that there really are."""
    ZoneInfo(schedule["timezone"])
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    cron = CronSchedule(cron=schedule["cron"], timezone=zone)
    dates = asyncio.run(cron.get_dates(9000, start=begin, end=begin + timedelta(days=364)))
    local = [date.astimezone(ZoneInfo(zone)) for date in dates]
    assert len({date.astimezone(UTC) for date in local}) == len(local)
    minute, hour, *_ = schedule["cron"].split()
    assert {date.minute for date in local} == {int(minute)}
    if hour != "*":
        assert {date.hour for date in local} == {int(hour)}
        each = Counter(date.date() for date in local)
        assert set(each.values()) == {1}
        gaps = {(b - a).total_seconds() / 3600 for a, b in pairwise(local)}
        days = 7 if schedule["cron"].split()[4] != "*" else 1
        assert all(days * 24 - 1 <= gap <= days * 24 + 1 for gap in gaps)
    else:
        assert len(local) >= 364 * 24 - 3
