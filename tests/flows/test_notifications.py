"""Who is told of a run, by real runs and a receiver on this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components.services.notification import ADDRESSES
from tests.conftest import ganflow, succeeded
from tests.services.test_notification import webhook  # noqa: F401


@pytest.mark.long
def test_a_promotion_and_a_failure_are_told_and_what_changes_nothing_is_not(
    finished: Path,
    tmp_path: Path,
    webhook: tuple[str, list[dict[str, str]]],  # noqa: F811
) -> None:
    # A chat that takes Slack's plain format.
    address, heard = f"http://{webhook[0]}/hook", webhook[1]
    root = tmp_path / "digits"
    shutil.copytree(finished, root)
    # Its registry is gone: the same model is registered and judged anew.
    shutil.rmtree(root / "mlruns")
    succeeded(ganflow(root, "run", **{ADDRESSES: address}))
    text = heard[0]["text"]
    assert len(heard) == 1
    assert text.startswith("pipeline: version 1 promoted\n")
    assert "ganflow version 1: promote; it is the first that passes the checks" in text
    # A second run has nothing to do.
    succeeded(ganflow(root, "run", **{ADDRESSES: address}))
    assert len(heard) == 1

    shard = next((root / "artifacts" / "dataset").glob("training-*.npy"))
    damaged = bytearray(shard.read_bytes())
    damaged[-1] ^= 1
    shard.write_bytes(damaged)
    failed = ganflow(root, "run", "--set", "train.seed=5", **{ADDRESSES: address})
    assert failed.returncode == 2, failed.stdout + failed.stderr
    assert len(heard) == 2
    assert heard[1]["text"].startswith("pipeline: failed\n")
    assert shard.name in heard[1]["text"]
    # The address holds a token: it stands nowhere in the workspace.
    for file in (root / ".ganflow").rglob("*.jsonl"):
        assert address.encode() not in file.read_bytes(), file
