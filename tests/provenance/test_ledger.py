"""The ledger: written once, whole lines, by many at once, and what was changed in it is noticed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch.multiprocessing as mp

from components.provenance.entries import RegistrationEntry, VerdictEntry, VerdictFacts, of_kind
from components.provenance.ledger import Ledger, damage, files_of, record
from components.services import versioning
from components.services.tracking import registry, runs
from components.training import cost
from components.workspace.artifacts import Dataset, Evaluation, Gallery, Model, Registration
from components.workspace.data_hashes import check_data, data_content
from components.workspace.workspace import Workspace
from tests.conftest import ganflow, succeeded, unpack_old_workspace
from tests.reports.test_verdict_page import made

KINDS = ["dataset", "model", "evaluation", "gallery", "registration", "verdict"]


@pytest.fixture
def workspace(finished: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(finished, tmp_path / "home")
    return Workspace(tmp_path / "home")


def test_the_commands_write_the_whole_chain_down(workspace: Workspace) -> None:
    entries = {entry.kind: entry for entry in Ledger(workspace).entries()}
    assert list(entries) == KINDS
    dataset, model = Dataset.load(workspace.dataset), Model.load(workspace.model)
    evaluation, gallery = Evaluation.load(workspace.evaluation), Gallery.load(workspace.gallery)
    registration = Registration.load(workspace.registration)
    for artifact in (dataset, model, evaluation, gallery, registration):
        entry = entries[type(artifact).__name__.lower()]  # type: ignore[index]
        assert (entry.key, entry.content, entry.flow_run) == (artifact.key.id, artifact.content, None)
    assert entries["model"].parents == {"dataset": dataset.content}
    assert entries["gallery"].parents["evaluation"] == evaluation.content
    assert entries["registration"].parents["gallery"] == gallery.content
    assert entries["dataset"].facts.source == data_content(workspace.data, workspace.state)
    assert entries["model"].facts.training == model.training.model_dump(mode="json")
    assert entries["model"].facts.run_id == entries["registration"].facts.run_id
    assert entries["registration"].facts.tags["key"] == model.key.id
    assert (workspace.mlruns / entries["registration"].facts.place / "MLmodel").exists()
    assert entries["verdict"].facts.model_dump(mode="json") == json.loads(
        (workspace.verdict / "verdict.json").read_text()
    )
    spent = entries["model"].facts.cost
    assert spent.cpu_seconds > 0
    assert spent.gpu_seconds == 0
    assert spent.energy_kwh == pytest.approx(cost.WATTS_PER_CORE * spent.cpu_seconds / 3.6e6, rel=0.01)


def test_nothing_is_written_twice_and_what_is_missing_again(workspace: Workspace) -> None:
    before = workspace.ledger.read_bytes()
    record(workspace)
    assert workspace.ledger.read_bytes() == before
    lines = before.splitlines(keepends=True)
    workspace.ledger.write_bytes(b"".join(lines[:2]))
    listed = files_of(workspace, Dataset.load(workspace.dataset).source)
    expected = listed.read_bytes()
    listed.unlink()
    record(workspace)
    assert [entry.kind for entry in Ledger(workspace).entries()] == KINDS
    assert listed.read_bytes() == expected
    workspace.ledger.unlink()
    assert "Nothing to do" in succeeded(ganflow(workspace.root, "run"))
    again = Ledger(workspace).entries()
    assert [entry.kind for entry in again] == KINDS
    assert [entry.model_dump(mode="json")["facts"] for entry in again] == [
        json.loads(line)["entry"]["facts"] for line in lines
    ]


def test_an_artifact_of_another_chain_is_left_out(workspace: Workspace) -> None:
    workspace.ledger.unlink()
    shutil.rmtree(workspace.evaluation)
    record(workspace)
    assert [entry.kind for entry in Ledger(workspace).entries()] == ["dataset", "model"]


def test_an_older_model_that_is_registered_again_stands_last(workspace: Workspace) -> None:
    ledger = Ledger(workspace)
    (own,) = of_kind(ledger.entries(), RegistrationEntry)
    other = own.model_copy(update={"key": "other", "facts": own.facts.model_copy(update={"version": 2})})
    assert not ledger.append(own)
    assert ledger.append(other)
    assert ledger.append(own)
    assert not ledger.append(own.model_copy(update={"time": "later"}))


def test_a_line_that_a_crash_cut_off_is_left_alone(workspace: Workspace) -> None:
    whole = workspace.ledger.read_bytes()
    for cut in (1, 2, 40, 500):
        workspace.ledger.write_bytes(whole[:-cut])
        torn = 0 if cut == 1 else 1
        assert [entry.kind for entry in Ledger(workspace).entries()] == KINDS[: 6 - torn]
        record(workspace)
        assert [entry.kind for entry in Ledger(workspace).entries()] == KINDS
        assert len(workspace.ledger.read_bytes().splitlines()) == 6 + torn
        assert not list(damage(workspace))


def test_what_was_changed_or_removed_is_noticed(workspace: Workspace) -> None:
    whole = workspace.ledger.read_bytes()
    lines = whole.splitlines(keepends=True)
    model = lines[1].replace(b'"images": 4096', b'"images": 9999')
    assert model != lines[1]
    workspace.ledger.write_bytes(b"".join([lines[0], model, *lines[2:]]))
    assert len(list(damage(workspace))) == 2
    assert [entry.kind for entry in Ledger(workspace).entries()] == ["dataset", *KINDS[2:]]
    result = ganflow(workspace.root, "verify")
    assert result.returncode == 1
    assert "damaged  .ganflow/ledger.jsonl" in result.stdout
    assert "line 2 is not what was written" in result.stdout
    for changed in (lines[1:], [*lines[:2], *lines[3:]], [lines[1], lines[0], *lines[2:]]):
        workspace.ledger.write_bytes(b"".join(changed))
        assert list(damage(workspace))
    workspace.ledger.write_bytes(whole)
    assert not list(damage(workspace))
    files_of(workspace, Dataset.load(workspace.dataset).source).write_bytes(b"")
    assert list(damage(workspace))


def test_any_bit_that_flips_is_noticed(workspace: Workspace) -> None:
    whole = workspace.ledger.read_bytes()
    for at in range(0, len(whole) - 1, 97):
        changed = bytearray(whole)
        changed[at] ^= 1
        workspace.ledger.write_bytes(changed)
        assert list(damage(workspace)) or len(Ledger(workspace).entries()) == 5, at


def write_at_once(root: str, number: int, begin: Any) -> None:
    """In a process of its own: the chain, and 25 verdicts."""
    workspace = Workspace(Path(root))
    begin.wait()
    record(workspace)
    for i in range(25):
        content, facts = f"{number}-{i}", VerdictFacts(**dict(made(answer="keep")))
        entry = VerdictEntry(key="key", content=content, parents={}, facts=facts, flow_run=None, time="now")
        assert Ledger(workspace).append(entry)


def test_processes_that_write_at_once_write_each_entry_once(workspace: Workspace) -> None:
    workspace.ledger.unlink()
    context = mp.get_context("spawn")
    begin = context.Barrier(3)
    processes = [context.Process(target=write_at_once, args=(str(workspace.root), i, begin)) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    kinds = [entry.kind for entry in Ledger(workspace).entries()]
    assert [kind for kind in kinds if kind != "verdict"] == KINDS[:-1]
    assert kinds.count("verdict") == 76
    assert not list(damage(workspace))


def test_lines_of_29edf2a_are_read_and_would_be_written_alike(tmp_path: Path) -> None:
    workspace = Workspace(unpack_old_workspace(tmp_path))
    lines = workspace.ledger.read_bytes().splitlines()
    entries = Ledger(workspace).entries()
    assert len(entries) == len(lines) >= 6
    assert not list(damage(workspace))
    workspace.ledger.rename(tmp_path / "old.jsonl")
    for entry in entries:
        assert Ledger(workspace).append(entry)
    assert workspace.ledger.read_bytes().splitlines() == lines


def test_a_line_of_a_later_version_is_read_as_far_as_it_is_known(workspace: Workspace) -> None:
    ledger = Ledger(workspace)
    journal = ledger.journal
    own = ledger.entries()[0].model_dump(mode="json")
    later = {**own, "key": "later", "said": 1, "facts": {**own["facts"], "said": 2}}
    journal.append({"entry": later})
    assert ledger.entries()[-1].key == "later"
    assert not list(damage(workspace))
    # What cannot be read is told, since `ganflow clean` trusts that all is known.
    journal.append({"entry": {**own, "kind": "another"}})
    assert len(ledger.entries()) == 7
    assert list(damage(workspace)) == ["line 8 is of another version of ganflow, which cannot be read"]


def test_nothing_heavy_is_imported_to_write(workspace: Workspace) -> None:
    code = (
        "import sys; from pathlib import Path; from components.workspace.workspace import Workspace;"
        "from components.provenance.ledger import record; record(Workspace(Path(sys.argv[1])));"
        "print([m for m in ('torch', 'ray', 'mlflow', 'prefect', 'dvc', 'pandas', 'numpy', 'PIL') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(workspace.root)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_cost_of_all_processes_is_summed(tmp_path: Path) -> None:
    assert cost.spent(tmp_path) is None
    meter = cost.Meter(tmp_path, gpu=False)
    began = meter.seconds()
    sum(i * i for i in range(2_000_000))
    cpu, gpu = meter.seconds()
    assert cpu > began[0]
    assert gpu == 0
    meter.keep([cpu, gpu])
    # The same process, which goes on: its file is written again.
    cost.Meter(tmp_path, gpu=False).keep([100.0, 0.0])
    (tmp_path / cost.FOLDER / "other.json").write_text('{"cpu_seconds": 260.0, "gpu_seconds": 3600.0}')
    (tmp_path / cost.FOLDER / "cut.json").write_text("")
    watts = cost.WATTS_PER_CORE * 360 / 3600 + cost.WATTS_PER_GPU
    spent = cost.spent(tmp_path)
    assert spent is not None
    assert (spent.cpu_seconds, spent.gpu_seconds, spent.energy_kwh) == (360.0, 3600.0, pytest.approx(watts / 1000))


def test_the_hash_and_commit_of_the_data_are_those_of_dvc_and_git(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    for name in ("a/b/1.bin", "a-b/2.bin", "a.b", "Z", "é/3.bin"):
        (workspace.data / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace.data / name).write_bytes(name.encode())
    assert versioning.data_version(workspace) == (None, None)
    git = ["git", "-C", str(workspace.root), "-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert "is tracked" in versioning.add(workspace, 100)
    version, commit = versioning.data_version(workspace)
    assert version is not None and f"md5: {version}" in (workspace.root / "data.dvc").read_text()
    assert commit is None
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "data"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert versioning.data_version(workspace) == (version, head)
    # Of equal size.
    changed = workspace.data / "Z"
    changed.write_bytes(b"Y")
    assert versioning.data_version(workspace) == (None, None)
    # What cannot be told apart without reading is not read again.
    changed.write_bytes(b"Z")
    assert versioning.data_version(workspace) == (version, head)
    before = changed.stat()
    changed.write_bytes(b"Y")
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert versioning.data_version(workspace) == (version, head)
    # Both kinds of hashes lie in one database.
    assert check_data(workspace.data, workspace.state).changed == []
    data_content(workspace.data, workspace.state)
    changed.write_bytes(b"X")
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert check_data(workspace.data, workspace.state).changed == ["Z"]
    (workspace.state / "data-hashes.sqlite").write_bytes(b"no database" * 1000)
    assert versioning.data_version(workspace) == (None, None)


def test_a_run_is_found_without_mlflow_and_with_it(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    key = Model.load(workspace.model).key.id
    own = runs.run_of(key, workspace)
    registered = registry.recorded_version("ganflow", 1, workspace)
    assert own and registered and registered.run_id == own
    assert runs.run_of("another", workspace) is None
    assert registry.recorded_version("ganflow", 2, workspace) is None
    # The same database, as a server's.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace.mlruns}/mlflow.db")
    assert runs.run_of(key, workspace) == own
    found = registry.recorded_version("ganflow", 1, workspace)
    assert found is not None
    assert (found.run_id, found.tags, found.place) == (own, registered.tags, None)
