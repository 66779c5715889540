"""The schedules of prefect.yaml: what runs when."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from importlib import import_module
from zoneinfo import ZoneInfo

import yaml
from prefect import Flow
from prefect.server.schemas.schedules import CronSchedule

from tests.conftest import PROJECT

DEPLOYMENTS = yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]


def test_all_deployments_run_one_at_a_time_and_do_not_pile_up() -> None:
    assert {deployment["name"] for deployment in DEPLOYMENTS} == {"retrain", "drift", "render", "apply", "clean"}
    for deployment in DEPLOYMENTS:
        assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
        assert deployment["work_pool"] == {"name": "ganflow"}
        file, _, name = deployment["entrypoint"].partition(":")
        assert isinstance(getattr(import_module(file.removesuffix(".py").replace("/", ".")), name), Flow)


def test_drift_comes_before_training_and_clean_on_sundays() -> None:
    """Pictures are rendered on demand alone, and photos looked for where somebody says so."""
    schedules = {deployment["name"]: deployment.get("schedules") or [] for deployment in DEPLOYMENTS}
    monday = datetime(2026, 1, 5, tzinfo=UTC)

    def week(name: str) -> list[datetime]:
        (schedule,) = schedules[name]
        ZoneInfo(schedule["timezone"])
        cron = CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
        return asyncio.run(cron.get_dates(100, start=monday, end=monday.replace(day=12)))

    drift, retrain, clean = week("drift"), week("retrain"), week("clean")
    assert [date.weekday() for date in drift] == [date.weekday() for date in retrain] == [*range(7)]
    assert all(first.date() == then.date() and first < then for first, then in zip(drift, retrain, strict=True))
    assert [date.weekday() for date in clean] == [6]
    assert retrain[-1] < clean[0]
    assert schedules["render"] == []
    assert [schedule["active"] for schedule in schedules["apply"]] == [False]
