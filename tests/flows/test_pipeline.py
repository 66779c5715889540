"""The three ways in, run as users do, in a clone of their own under git and DVC."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.conftest import PROJECT, SMALL, Pixels, environment, idx, succeeded

STAGES = ("dataset", "model", "evaluation", "gallery")


class Clone:
    """The project's files in a folder of their own, with less data and a shorter training; its code is what runs."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def made(cls, root: Path, digits: tuple[Pixels, Pixels]) -> Clone:
        """A clone in the new folder `root`, under git and DVC."""
        clone = cls(root)
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], cwd=PROJECT, capture_output=True, text=True, check=True
        )
        for name in listed.stdout.splitlines():
            if (PROJECT / name).is_file() and not name.startswith(".dvc/sample"):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(PROJECT / name, root / name)
        (root / "params.yaml").write_text(SMALL)
        (root / "data.dvc").unlink()
        clone.write_data(digits, 700)
        clone("git", "init", "-q")
        clone("dvc", "add", "data")
        clone.commit("start")
        return clone

    def write_data(self, digits: tuple[Pixels, Pixels], count: int) -> None:
        data = self.root / "data"
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir()
        (data / "images.idx").write_bytes(idx(digits[0][:count]))
        (data / "labels.idx").write_bytes(idx(digits[1][:count]))

    def commit(self, message: str) -> None:
        self("git", "add", "-A")
        self("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", message)

    def __call__(self, *command: str) -> str:
        """What `command` prints, run with this clone's code."""
        env = environment(PYTHONPATH=str(self.root), DVC_GLOBAL_CONFIG_DIR=str(self.root / ".none"))
        result = subprocess.run(command, cwd=self.root, env=env, capture_output=True, text=True, timeout=400)
        return succeeded(result)

    def due(self) -> list[str]:
        """Stages that `ganflow run` would run."""
        lines = self("ganflow", "run", "--dry-run").splitlines()
        # The gate is no stage: `dvc repro` leaves it to whoever promotes.
        return [line.split()[0] for line in lines if "would run" in line and not line.startswith("  promote")]

    def changed(self) -> list[str]:
        """Stages that `dvc repro` would run for a change of their own."""
        status = json.loads(self("dvc", "status", "--json"))
        return [stage for stage in ("preprocess", "train", "evaluate", "postprocess", "register") if stage in status]

    def bytes(self) -> dict[str, str]:
        files = (p for stage in STAGES for p in sorted((self.root / "artifacts" / stage).rglob("*")) if p.is_file())
        return {p.relative_to(self.root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    def registered(self) -> list[tuple[str, int]]:
        with sqlite3.connect(self.root / "mlruns" / "mlflow.db") as database:
            return database.execute("SELECT name, version FROM model_versions ORDER BY version").fetchall()


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory, digits: tuple[Pixels, Pixels]) -> Clone:
    """A clone after `ganflow run`. To be copied, not changed."""
    clone = Clone.made(tmp_path_factory.mktemp("flow") / "clone", digits)
    out = clone("ganflow", "run")
    assert "ganflow runs preprocess -> train -> evaluate -> postprocess -> register" in out
    assert "ganflow version 1 (challenger, champion)" in out
    assert "recorded in dvc.lock" in out
    return clone


@pytest.fixture
def own(flow: Clone, tmp_path: Path) -> Clone:
    """A copy of `flow` to be changed."""
    return Clone(Path(shutil.copytree(flow.root, tmp_path / "own", symlinks=True)))


def test_after_the_flow_every_way_in_has_nothing_to_do(flow: Clone) -> None:
    assert "up to date" in flow("dvc", "status")
    assert "Nothing to do" in flow("ganflow", "run") and not flow.due()
    before = (flow.root / "dvc.lock").read_bytes()
    assert "Running" not in flow("dvc", "repro")
    assert (flow.root / "dvc.lock").read_bytes() == before


def test_prefect_keeps_the_run_and_its_tasks(flow: Clone) -> None:
    with sqlite3.connect(flow.root / ".ganflow" / "prefect" / "prefect.db") as database:
        runs = database.execute("SELECT name, state_type FROM flow_run").fetchall()
        assert runs == [("pipeline: version 1 promoted", "COMPLETED")]
        states = database.execute("SELECT name, state_type FROM task_run").fetchall()
        said = [message for (message,) in database.execute("SELECT message FROM log WHERE level = 20")]
    for words in ("preprocess: there is no dataset yet", "train 4,096 of 4,096 images", "version 1 is registered"):
        assert any(words in message for message in said), words
    assert "promote: version 1 promoted" in {name for name, _ in states}
    assert sorted(name.partition(":")[0] for name, _ in states) == sorted(
        ["preprocess", "train", "evaluate", "postprocess", "register", "promote"]
    )
    assert {state for _, state in states} == {"COMPLETED"}


def test_the_ledger_knows_the_flow_run_the_data_and_the_code(flow: Clone) -> None:
    with sqlite3.connect(flow.root / ".ganflow" / "prefect" / "prefect.db") as database:
        ((run,),) = database.execute("SELECT id FROM flow_run").fetchall()
    lines = (flow.root / ".ganflow" / "ledger.jsonl").read_text().splitlines()
    entries = {entry["kind"]: entry for entry in (json.loads(line)["entry"] for line in lines)}
    assert list(entries) == [*STAGES, "registration", "verdict"]
    assert {entry["flow_run"] for entry in entries.values()} == {run}
    head = flow("git", "rev-parse", "HEAD").strip()
    data = entries["dataset"]["facts"]
    assert f"md5: {data['dvc']}" in (flow.root / "data.dvc").read_text()
    assert data["commit"] == head
    assert entries["model"]["facts"]["commit"] == head
    assert entries["registration"]["facts"]["tags"]["commit"] == head


def test_the_lock_and_the_artifacts_name_no_place_or_date(flow: Clone) -> None:
    for path in (flow.root / "artifacts").rglob("*"):
        if path.is_file():
            assert str(flow.root).encode() not in path.read_bytes(), path
    assert str(flow.root) not in (flow.root / "dvc.lock").read_text()


def test_dvc_repro_makes_the_same_bytes(flow: Clone, tmp_path: Path, digits: tuple[Pixels, Pixels]) -> None:
    other = Clone.made(tmp_path / "clone", digits)
    other("dvc", "repro")
    assert other.bytes() == flow.bytes()
    assert (other.root / "dvc.lock").read_text() == (flow.root / "dvc.lock").read_text()
    assert "version 1: promote" in other("ganflow", "promote")
    assert "Nothing to do" in other("ganflow", "run")
    # No server was started to find that out.
    assert not (other.root / ".ganflow" / "prefect").exists()
    assert other.registered() == [("ganflow", 1)]


def test_a_deleted_mlruns_is_filled_again(own: Clone) -> None:
    shutil.rmtree(own.root / "mlruns")
    assert own.due() == ["register"] == own.changed()
    assert "ganflow version 1 (challenger, champion)" in own("ganflow", "run")
    assert own.registered() == [("ganflow", 1)]
    assert not own.due()
    assert not own.changed()


def test_an_edit_runs_what_depends_on_it_by_every_way_in(own: Clone) -> None:
    for file, expected in (
        ("gan/losses.py", ["train", "evaluate"]),
        ("pictures/finishing.py", ["postprocess"]),
        ("measures/metrics.py", ["evaluate", "postprocess"]),
    ):
        path = own.root / "components" / file
        original = path.read_text()
        # DVC starts the command for a remark too, which then finds its key unchanged.
        path.write_text(original + "\n# edited\n")
        assert own.changed() == expected, file
        assert not own.due(), file
        path.write_text(original + "\nEDITED = True\n")
        assert own.changed() == expected, file
        due = own.due()
        assert due[0] == expected[0]
        assert due == ["preprocess", "train", "evaluate", "postprocess", "register"][-len(due) :]
        path.write_text(original)
    assert not own.due()


def test_a_finishing_option_leaves_the_model_alone(own: Clone) -> None:
    model = (own.root / "artifacts/model/model.json").stat().st_mtime_ns
    params = own.root / "params.yaml"
    params.write_text(SMALL.replace("factor: 2", "factor: 3"))
    assert own.due() == ["postprocess", "register"]
    out = own("ganflow", "run")
    assert "ganflow runs postprocess -> register" in out
    assert (own.root / "artifacts/model/model.json").stat().st_mtime_ns == model
    # New finishing steps do not make another version of equal weights.
    assert own.registered() == [("ganflow", 1)]
    assert not own.changed()
    params.write_text(SMALL)
    own("dvc", "repro")
    assert not own.due()


@pytest.mark.long
def test_dvc_shows_metrics_and_plots_and_runs_experiments(own: Clone) -> None:
    own.commit("a run")
    assert "fd_classifier_500" in own("dvc", "metrics", "show")
    own("dvc", "plots", "show", "--json")
    own("dvc", "exp", "run", "-S", "train.images=2048")
    assert "train.images" in own("dvc", "params", "diff")
    assert "fd_classifier_500" in own("dvc", "metrics", "diff")
    assert len(own.registered()) == 2
    assert not own.due()
    assert "images: 2048" in (own.root / "params.yaml").read_text()


@pytest.mark.long
def test_other_data_is_trained_on_and_the_first_comes_back(own: Clone, digits: tuple[Pixels, Pixels]) -> None:
    own.commit("a run")
    own.write_data(digits, 600)
    assert "differs from data.dvc: run `dvc add data`" in own("ganflow", "run")
    own("dvc", "add", "data")
    own("dvc", "repro")
    assert not own.due()
    assert not own.changed()
    own.commit("less data")
    own("git", "checkout", "-q", "HEAD~1")
    own("dvc", "checkout", "--force")
    assert not own.due()
    assert not own.changed()
