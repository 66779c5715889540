"""Two machines that share nothing but a bucket train together, and make the same bits as two workers on one."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.workspace.artifacts import Dataset, Evaluation, Model
from tests.conftest import ganflow, succeeded
from tests.services.two_nodes import BIN, TwoNodes, start

KEYS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "kept-out-of-every-log", "AWS_REGION": "us-east-1"}
CACHE = "/tmp/ganflow-cache"


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    with start(GANFLOW_CACHE=CACHE) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def bucket(nodes: TwoNodes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that speaks S3, on the first node; its address."""
    address, port = nodes.addresses[0], "9123"
    command = nodes.command(BIN / "moto_server", "-H", address, "-p", port)
    with (tmp_path_factory.mktemp("s3") / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    endpoint = f"http://{address}:{port}"
    code = (
        "import pyarrow.fs as f, sys; f.S3FileSystem(endpoint_override=sys.argv[1],"
        "scheme='http',allow_bucket_creation=True).create_dir('pictures')"
    )
    try:
        for _ in range(60):
            if nodes.run(BIN / "python", "-c", code, f"{address}:{port}", cwd=Path("/"), **KEYS).returncode == 0:
                break
            time.sleep(0.5)
        yield endpoint
    finally:
        server.kill()
        server.wait()


@pytest.mark.long
def test_two_machines_make_the_bits_of_one(nodes: TwoNodes, bucket: str, make_workspace: Callable[..., Path]) -> None:
    one, two = make_workspace("one"), make_workspace("two")
    workers = ("--set", "train.workers=2")
    for stage in ("preprocess", "train", "evaluate"):
        succeeded(ganflow(one, stage, *workers))

    def on_cluster(*command: str) -> str:
        done = nodes.run(BIN / "ganflow", *command, cwd=two, timeout=300, AWS_ENDPOINT_URL=bucket, **KEYS)
        assert done.returncode == 0, done.stdout + done.stderr
        assert KEYS["AWS_SECRET_ACCESS_KEY"] not in done.stdout + done.stderr
        return done.stdout

    storage = ("--set", "train.storage=s3://pictures/run")
    assert "registered ganflow version 1" in on_cluster("run", *workers, *storage)
    assert Dataset.load(one / "artifacts/dataset").files == Dataset.load(two / "artifacts/dataset").files
    ours, theirs = (Model.load(root / "artifacts/model") for root in (one, two))
    assert ours.execution.workers == 2
    assert ours == theirs.model_copy(update={"folder": ours.folder})
    assert Evaluation.load(one / "artifacts/evaluation").files == Evaluation.load(two / "artifacts/evaluation").files

    secret = KEYS["AWS_SECRET_ACCESS_KEY"].encode()
    logs = [path for path in nodes.logs.rglob("*") if path.is_file()]
    assert len(logs) > 10
    assert not [path for path in logs if secret in path.read_bytes()]

    # Whoever has the bucket has the training.
    shutil.rmtree(two / ".ganflow")
    shutil.rmtree(two / "artifacts" / "model")
    on_cluster("train", *workers, *storage)
    assert Model.load(two / "artifacts/model") == theirs

    if nodes.isolated:
        # One worker ran on each machine, and found the images nowhere but in the bucket.
        for node in nodes.processes:
            there = ["nsenter", f"--mount=/proc/{node.pid}/ns/mnt", "ls", f"{CACHE}/training", f"{CACHE}/datasets"]
            listed = subprocess.run(there, capture_output=True, text=True, check=True).stdout
            assert f"{theirs.key.id}-" in listed
            assert Dataset.load(two / "artifacts/dataset").content in listed


def test_a_dry_run_shows_the_machines_and_where_work_goes(nodes: TwoNodes, make_workspace: Callable[..., Path]) -> None:
    shown = nodes.run(BIN / "ganflow", "run", "--dry-run", cwd=make_workspace())
    assert shown.returncode == 0, shown.stderr
    for address in nodes.addresses if nodes.isolated else ():
        assert f"{address}: 1 CPUs" in shown.stdout
    assert "training: 2 workers on CPU, 1 CPU threads each" in shown.stdout


def test_a_cluster_that_is_too_small_or_shares_no_disk_says_so(
    nodes: TwoNodes, make_workspace: Callable[..., Path]
) -> None:
    root = make_workspace()
    assert nodes.run(BIN / "ganflow", "preprocess", cwd=root).returncode == 0
    refused = nodes.run(BIN / "ganflow", "train", "--set", "train.workers=3", cwd=root)
    assert refused.returncode == 2
    assert "train.workers = 3 needs a CPU for each, but the 2 nodes" in refused.stderr
    if nodes.isolated:
        refused = nodes.run(BIN / "ganflow", "train", cwd=root)
        assert refused.returncode == 2
        assert f"the node {nodes.addresses[1]} does not see {root}" in refused.stderr
        assert "train.storage" in refused.stderr


def test_a_wrong_bucket_is_one_sentence(nodes: TwoNodes, bucket: str, make_workspace: Callable[..., Path]) -> None:
    root = make_workspace()
    assert nodes.run(BIN / "ganflow", "preprocess", cwd=root).returncode == 0
    wrong = ("--set", "train.storage=s3://nowhere/run")
    refused = nodes.run(BIN / "ganflow", "train", *wrong, cwd=root, AWS_ENDPOINT_URL=bucket, **KEYS)
    assert refused.returncode == 2
    assert "there is no such bucket" in refused.stderr
    assert "Traceback" not in refused.stderr
