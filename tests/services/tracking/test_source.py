"""Where a run comes from, as MLflow's pages show it."""

from __future__ import annotations

import sys

import pytest

from components.services.tracking.source import source_tags


def test_the_command_is_whole_behind_its_last_slash(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["run", "--workspace", "/home/ann/my faces", "--set", "train.storage=s3://ann:secret@host/bucket"]
    monkeypatch.setattr(sys, "argv", ["/opt/bin/ganflow", *arguments])
    monkeypatch.delenv("PREFECT__FLOW_ENTRYPOINT", raising=False)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    name = source_tags()["mlflow.source.name"]
    assert name == "ganflow run --workspace 'my faces' --set train.storage=bucket"
