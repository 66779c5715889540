"""What is not needed is found and removed, and nothing else ever is."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from components.gan.options import ImageFormat
from components.maintenance.cleanup import cleanup
from components.maintenance.cleanup.findings import Found
from components.maintenance.cleanup.survey import unneeded
from components.provenance import ledger
from components.provenance.entries import DatasetEntry, DatasetFacts
from components.services import versioning
from components.services.tracking import connection, inventory, registry
from components.workspace.artifacts import Evaluation, Gallery, Key, Model
from components.workspace.params import Clean
from components.workspace.workspace import Workspace
from tests.conftest import SMALL, ganflow, succeeded

ALL = Clean(keep_days=0)
HEX = "0123456789abcdef"


# --- the graph ---


@pytest.mark.parametrize("seed", range(200))
def test_nothing_that_a_root_reaches_is_unneeded_and_all_else_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 40))
    adjacent = rng.random((n, n)) < rng.uniform(0, 3) / n
    rooted = rng.random(n) < rng.uniform(0, 0.3)
    # Some of what is named does not lie there.
    there = rng.random(n) < rng.uniform(0.5, 1)
    names = np.array([f"node {i}" for i in range(n)])
    edges = {names[i]: set(names[adjacent[i]]) for i in range(n) if adjacent[i].any()}

    found = unneeded(names[there], edges, names[rooted])

    closure = np.eye(n, dtype=bool) | adjacent
    for _ in range(n):
        closure = closure | (closure.astype(int) @ closure.astype(int) > 0)
    reached = closure[rooted].any(0)
    assert found == {*names[there & ~reached]}
    # Whatever is needed besides, nothing more is removed.
    more = {**edges, names[rng.integers(n)]: {*names}}
    assert unneeded(names[there], more, [*names[rooted], names[rng.integers(n)]]) <= found


# --- a workspace ---


@pytest.fixture
def workspace(finished: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(finished, tmp_path / "home")
    return Workspace(tmp_path / "home")


def test_a_finished_workspace_needs_all_that_it_has(workspace: Workspace) -> None:
    assert cleanup(ALL, workspace) == Found([], [])


def register_again(workspace: Workspace, key: str) -> int:
    """A further version of the same networks, as if another training had made them."""
    folder = workspace.root.parent / f"model-{key}"
    shutil.copytree(workspace.model, folder)
    model = Model.load(workspace.model)
    (folder / Model.manifest).unlink()
    facts = {name: getattr(model, name) for name in Model.model_fields if name not in ("key", "files", "folder")}
    Model.describe(folder, Key(options=key, inputs=key, code=key), **facts)
    again = Model.load(folder)
    version = registry.register(
        "ganflow", again, Evaluation.load(workspace.evaluation), Gallery.load(workspace.gallery), None, workspace
    )
    shutil.copytree(workspace.state / "training" / model.key.id, workspace.state / "training" / again.key.id)
    return version


def planted(workspace: Workspace) -> list[Path]:
    """What a workspace gathers in a year; the paths of what of it nobody needs."""
    import mlflow

    version, challenger = register_again(workspace, "second"), register_again(workspace, "third")
    assert (version, challenger) == (2, 3)
    client = mlflow.MlflowClient()
    second = client.get_model_version("ganflow", "2")
    # A version needs its run whatever MLflow calls it.
    client.delete_run(second.run_id)
    deleted = client.create_run(client.get_experiment_by_name(connection.EXPERIMENT).experiment_id).info.run_id
    client.log_text(deleted, "nothing", "note.txt")
    client.delete_run(deleted)
    # Of the user's own, with its files elsewhere.
    client.delete_run(client.create_run("0", tags={"user": "own"}).info.run_id)

    state, artifacts = workspace.state, workspace.mlruns / "artifacts"
    present = Model.load(workspace.model)
    needed = (
        state / "gate" / f"{HEX}.npz",
        state / "drift" / present.dataset[:16] / "held.npy",
        state / "training" / "ray" / present.key.id / "storage",
        artifacts / "traces" / "something-of-the-user",
        state / "prefect" / "prefect.db",
        state / "sweeps" / HEX / "result.json",
        workspace.root / ".data-abc" / "the-users-images.zip",
    )
    unneeded = (
        workspace.root / "artifacts" / ".model-abc123" / "generator.safetensors",
        workspace.mlruns / ".verdict-abc123" / "verdict.html",
        state / "training" / HEX / "checkpoints" / "000000002048" / "state.safetensors",
        state / "training" / "ray" / HEX / "storage",
        state / "training" / ".trash-abc" / "checkpoints" / "000000002048" / "state.safetensors",
        state / "features" / f"classifier-{HEX}.npy",
        state / "gate" / f"{HEX[::-1]}.npz",
        state / "drift" / HEX / "held.npy",
        state / "preprocess" / HEX / "part-000000.npy",
        state / "data" / f"{HEX * 4}.sha256s",
        state / "sweep-abc" / "trial",
        artifacts / (HEX * 2) / "artifacts" / "metrics.json",
        artifacts / "models" / f"m-{HEX * 2}" / "artifacts" / "generator.safetensors",
    )
    for file in (*needed, *unneeded):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"12345")
    # Measured before there was the present data set's feature net.
    os.utime(unneeded[6], (1e9, 1e9))
    return [
        *unneeded[:2],
        *(state / "training" / name for name in (HEX, f"ray/{HEX}", ".trash-abc")),
        *unneeded[5:7],
        *(state / name / HEX for name in ("drift", "preprocess")),
        unneeded[9],
        state / "sweep-abc",
        artifacts / (HEX * 2),
        artifacts / "models" / f"m-{HEX * 2}",
        artifacts / deleted,
        # Its curves and cost stay.
        state / "training" / second.tags["key"] / "checkpoints",
    ]


def files(workspace: Workspace) -> set[Path]:
    return {path for path in workspace.root.rglob("*") if path.is_file()}


def test_exactly_what_nobody_needs_is_listed_and_removed(workspace: Workspace) -> None:
    planned = planted(workspace)
    expected = {path.parent if path.parent.name.startswith((".model", ".verdict")) else path for path in planned}
    found = cleanup(ALL, workspace)
    assert not found.kept
    assert {item.path for item in found.items} == expected
    assert found.summary(False, "set remove").startswith(f"{len(expected)} things, ")
    assert all(item.words and 0 <= item.age < 1 for item in found.items)
    before = files(workspace)

    # By default what is young stays, and without the option all does.
    assert "Everything is needed" in succeeded(ganflow(workspace.root, "clean"))
    listed = succeeded(ganflow(workspace.root, "clean", "--set", "clean.keep_days=0"))
    assert all(str(path.relative_to(workspace.root)) in listed for path in expected)
    assert f"{len(expected)} things" in listed.splitlines()[-1]
    assert before <= files(workspace)

    out = succeeded(ganflow(workspace.root, "clean", "--remove", "--set", "clean.keep_days=0"))
    assert out.splitlines()[-1].endswith("are removed")
    gone = {file for file in before if any(path in (file, *file.parents) for path in expected)}
    assert len(gone) > len(expected)
    assert before - files(workspace) == gone
    assert cleanup(ALL, workspace) == Found([], [])
    known = inventory.take_inventory(workspace)
    assert [version.number for version in known.versions] == [1, 2, 3]
    # All but the deleted one, that which its version needs among them.
    assert len(known.runs) == 4
    assert len([time for time in known.runs.values() if time]) == 1

    *verified, _ = succeeded(ganflow(workspace.root, "verify")).splitlines()
    assert {line.split()[0] for line in verified} == {"ok"}
    assert "Nothing to do" in succeeded(ganflow(workspace.root, "run"))
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{workspace.root}/mlruns/mlflow.db")
    for model in ("models:/ganflow@champion", "models:/ganflow/2", "models:/ganflow@challenger"):
        assert mlflow.pyfunc.load_model(model).predict([], params={"n": 2}).shape == (2, 28, 28, 1)


def test_what_is_younger_than_told_stays_with_all_that_it_reaches(workspace: Workspace) -> None:
    training, ray = workspace.state / "training", workspace.state / "training" / "ray"
    for name in (HEX, HEX[::-1]):
        (ray / name).mkdir(parents=True)
    (training / HEX).mkdir()
    # Younger than all else, whatever the speed: of tomorrow. (What is older cannot be made: a change of times is one.)
    tomorrow = time.time() + 86_400
    os.utime(training / HEX, (tomorrow, tomorrow))
    assert [item.path for item in cleanup(Clean(keep_days=0), workspace).items] == [ray / HEX[::-1]]


def test_nothing_is_removed_beside_a_run(workspace: Workspace) -> None:
    (workspace.state / "preprocess" / HEX).mkdir(parents=True)
    with workspace.exclusive():
        result = ganflow(workspace.root, "clean", "--remove", "--set", "clean.keep_days=0")
    assert result.returncode == 3
    assert "in use" in result.stderr
    assert (workspace.state / "preprocess" / HEX).exists()


def one_line_less(workspace: Workspace) -> None:
    lines = workspace.ledger.read_text().splitlines(keepends=True)
    workspace.ledger.write_text("".join(lines[:2] + lines[3:]))


def another_schema(workspace: Workspace) -> None:
    """As a later MLflow would leave it."""
    with closing(sqlite3.connect(workspace.mlruns / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '0123456789ab'")


@pytest.mark.parametrize(
    ("break_it", "kept"),
    [
        (lambda workspace: (workspace.mlruns / "mlflow.db").unlink(), "rebuild-registry"),
        (lambda workspace: (workspace.mlruns / "mlflow.db").write_bytes(b"no database" * 1000), "cannot be read"),
        (another_schema, "not tried with"),
        (one_line_less, "damaged"),
        (lambda workspace: workspace.ledger.unlink(), "ledger may name them, and is gone"),
        (lambda workspace: (workspace.dataset / "dataset.json").write_text("{}"), "dataset.json is damaged"),
        (lambda workspace: (workspace.data / "more.txt").write_text("more"), "changed since the last run"),
    ],
)
def test_what_cannot_be_judged_stays(workspace: Workspace, break_it: Callable[[Workspace], object], kept: str) -> None:
    keys = workspace.state / "training" / HEX, workspace.state / "preprocess" / HEX
    for folder in keys:
        folder.mkdir(parents=True)
    run = workspace.mlruns / "artifacts" / Model.load(workspace.model).key.id.ljust(32, "0")
    run.mkdir()
    assert {item.path for item in cleanup(ALL, workspace).items} == {*keys, run}
    before = files(workspace)
    break_it(workspace)
    before &= files(workspace)
    found = cleanup(ALL, workspace, remove=True)
    assert any(kept in sentence for sentence in found.kept)
    assert keys[0].exists()
    assert before <= files(workspace)
    # Neither of the two is what a damaged data set could tell of.
    assert run.exists() == ("dataset.json" not in kept and "last run" not in kept)
    assert [item.path for item in found.items if item.kind == "preprocessing"] == [keys[1]]


def test_what_a_server_may_need_stays(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    run = workspace.mlruns / "artifacts" / (HEX * 2)
    run.mkdir()
    found = cleanup(ALL, workspace, remove=True)
    assert not found.items
    assert any("MLflow's runs and models" in sentence and "127.0.0.1:9" in sentence for sentence in found.kept)
    assert run.exists()


# --- DVC's cache ---


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def data_version(workspace: Workspace, name: str) -> str:
    """Put a version of the data under DVC: one file that all have, one of its own; its hash."""
    workspace.data.mkdir(exist_ok=True)
    (workspace.data / "own.txt").write_text(name)
    (workspace.data / "shared.txt").write_text("shared")
    assert "is tracked" in versioning.add(workspace, 10)
    return next(line.split()[-1] for line in (workspace.root / "data.dvc").read_text().splitlines() if "md5:" in line)


def objects(workspace: Workspace) -> set[str]:
    cache = workspace.root / ".dvc" / "cache" / "files" / "md5"
    return {path.parent.name + path.name for path in cache.glob("??/*")}


@pytest.fixture(scope="session")
def versions_made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, str]]:
    """A workspace with versions of the data in git, in the ledger, and nowhere."""
    workspace = Workspace(tmp_path_factory.mktemp("versions"))
    workspace.params.write_text(SMALL)
    git(workspace.root, "init", "-q", "-b", "main")
    made = {"first": data_version(workspace, "first")}
    git(workspace.root, "add", "-A", ".")
    git(workspace.root, "commit", "-qm", "first")
    # Of a branch of which only the commit was merged, not what it says.
    git(workspace.root, "checkout", "-qb", "side")
    made["side"] = data_version(workspace, "side")
    git(workspace.root, "commit", "-qam", "side")
    git(workspace.root, "checkout", "-q", "main")
    git(workspace.root, "merge", "-q", "-s", "ours", "side", "-m", "ours")
    git(workspace.root, "branch", "-qD", "side")
    made["ledger"] = data_version(workspace, "ledger")
    facts = DatasetFacts(
        source=HEX * 4,
        image=ImageFormat(height=28, width=28, channels=1, classes=("all",)),
        splits={"training": 1, "holdout": 1},
        class_counts={"training": {"all": 1}, "holdout": {"all": 1}},
        rejected=0,
        duplicates=0,
        files=None,
        dvc=made["ledger"],
        commit=None,
    )
    entry = DatasetEntry(
        key=HEX, content=HEX * 4, parents={}, facts=facts, flow_run=None, time="2025-01-01T00:00:00+00:00"
    )
    ledger.Ledger(workspace).append(entry)
    made["orphan"] = data_version(workspace, "orphan")
    made["present"] = data_version(workspace, "present")
    return workspace, made


@pytest.fixture
def versions(versions_made: tuple[Workspace, dict[str, str]], tmp_path: Path) -> tuple[Workspace, dict[str, str]]:
    shutil.copytree(versions_made[0].root, tmp_path / "versions", symlinks=True)
    return Workspace(tmp_path / "versions"), versions_made[1]


def test_of_dvcs_cache_only_what_nothing_names_is_removed(
    versions: tuple[Workspace, dict[str, str]],
) -> None:
    workspace, made = versions
    before = objects(workspace)
    assert len(before) == 5 * 2 + 1
    assert cleanup(Clean(), workspace) == Found([], [])
    found = cleanup(ALL, workspace, remove=True)
    assert not found.kept
    orphan = made.pop("orphan")
    assert {item.kind for item in found.items} == {"DVC cache"}
    gone = before - objects(workspace)
    assert len(gone) == 2
    assert orphan in gone
    from dvc.repo import Repo

    # All others can be brought back.
    for name, version in made.items():
        size = len(name) + len("shared")
        (workspace.root / "data.dvc").write_text(
            f"outs:\n- md5: {version}\n  size: {size}\n  nfiles: 2\n  hash: md5\n  path: data\n"
        )
        with Repo(str(workspace.root)) as repo:
            repo.checkout([str(workspace.root / "data.dvc")], force=True)
        assert (workspace.data / "own.txt").read_text() == name
        assert (workspace.data / "shared.txt").read_text() == "shared"


@pytest.mark.parametrize("what", ["shared", "busy", "shallow", "list", "no git"])
def test_dvcs_cache_stays_where_more_may_be_needed_of_it(
    versions: tuple[Workspace, dict[str, str]], what: str, tmp_path: Path
) -> None:
    workspace, made = versions
    git_folder, cache = workspace.root / ".git", workspace.root / ".dvc" / "cache"
    if what == "shared":
        with (workspace.root / ".dvc" / "config").open("a") as config:
            config.write(f"[cache]\n    dir = {tmp_path}/elsewhere\n")
    elif what == "shallow":
        (git_folder / "shallow").write_text(git(workspace.root, "rev-parse", "HEAD"))
    elif what == "list":
        first = made["first"]
        (cache / "files" / "md5" / first[:2] / first[2:]).chmod(0o644)
        (cache / "files" / "md5" / first[:2] / first[2:]).write_text('[{"md5": "')
    elif what == "no git":
        shutil.rmtree(git_folder / "objects")
    before = objects(workspace)
    if what == "busy":
        code = "import sys\nfrom dvc.repo import Repo\nwith Repo(sys.argv[1]).lock:\n print(1, flush=True)\n input()"
        command = [sys.executable, "-c", code, str(workspace.root)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline()
            found = cleanup(ALL, workspace, remove=True)
            holder.communicate("\n")
    else:
        found = cleanup(ALL, workspace, remove=True)
    assert not found.items
    assert len(found.kept) == 1
    assert "DVC" in found.kept[0]
    assert objects(workspace) == before
