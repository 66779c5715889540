"""The registered model where the project is not: another environment's view of it."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.multiprocessing as mp

from components.services.tracking import champions, connection, registry
from components.workspace.artifacts import Evaluation, Gallery, Model, Registration
from components.workspace.workspace import Workspace
from tests.conftest import environment, ganflow, succeeded
from tests.harness.serving import served_without_project

# Python without the project: its path is where the packages are, and the folder of the project is taken off it.
WITHOUT_PROJECT = "import sys; sys.path = [p for p in sys.path if 'site-packages' in p or 'lib/python' in p]\n"


@pytest.fixture(scope="module")
def registered(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished workspace that was copied to another folder."""
    root = tmp_path_factory.mktemp("registered") / "copy"
    shutil.copytree(finished, root)
    succeeded(ganflow(root, "register"))
    return root


def elsewhere(root: Path, code: str) -> str:
    script = root / "elsewhere.py"
    script.write_text(WITHOUT_PROJECT + code)
    env = environment(MLFLOW_TRACKING_URI=f"sqlite:///{root}/mlruns/mlflow.db", PYTHONPATH="")
    result = subprocess.run([sys.executable, script], cwd=root, env=env, capture_output=True, text=True, timeout=200)
    return succeeded(result)


def test_loads_where_components_cannot_be_imported(registered: Path) -> None:
    out = elsewhere(
        registered,
        """
import json, sys
import mlflow
try:
    import components
    raise SystemExit("components is importable, so this test shows nothing")
except ImportError:
    pass
model = mlflow.pyfunc.load_model("models:/ganflow@champion")
images = model.predict([], params={"n": 5, "seed": 3, "class": "7"})
one = model.predict([], params={"seed": 4, "class": "7"})
print(json.dumps([images.shape, str(images.dtype), one.tolist() == images[1:2].tolist(), images.tolist()]))
""",
    )
    shape, dtype, same, images = json.loads(out.splitlines()[-1])
    assert (shape, dtype, same) == ([5, 28, 28, 1], "uint8", True)
    succeeded(ganflow(registered, "sample", "--n", "5", "--seed", "3", "--class", "7", "--out", "sevens"))
    from PIL import Image

    made = [np.asarray(Image.open(registered / "sevens" / f"7-{seed}.png")) for seed in range(3, 8)]
    assert np.array_equal(np.stack(made)[..., None], np.array(images))


def register_at_once(root: str, begin: Any, found: Any) -> None:
    """In a process of its own."""
    workspace = Workspace(Path(root))
    model, evaluation, gallery = (
        Model.load(workspace.model),
        Evaluation.load(workspace.evaluation),
        Gallery.load(workspace.gallery),
    )
    begin.wait()
    found.put(registry.register("at-once", model, evaluation, gallery, None, workspace))


def test_a_key_registered_by_many_at_once_is_one_version(registered: Path) -> None:
    context = mp.get_context("spawn")
    begin, found = context.Barrier(5), context.Queue()
    processes = [context.Process(target=register_at_once, args=(str(registered), begin, found)) for _ in range(5)]
    for process in processes:
        process.start()
    assert {found.get(timeout=120) for _ in processes} == {1}
    for process in processes:
        process.join()
    versions = [v.name for v in registry.checked_versions(Workspace(registered)) if v.hashed and v.wrong is None]
    assert [name for name in versions if name.startswith("at-once")] == ["at-once version 1"]


def promote_often(root: str, name: str, mine: int, begin: Any, won: Any) -> None:
    """In a process of its own: 100 promotions of one version, each from the champion that there is."""
    workspace, count = Workspace(Path(root)), 0
    begin.wait()
    while count < 100:
        for expected in (3 - mine, mine):
            count += champions.set_champion(name, mine, expected, workspace)
    won.put(count)


def with_champion(workspace: Workspace, name: str) -> None:
    """Register a model of two versions, the first of which is champion."""
    with connection.registry_lock(workspace):
        client = connection.open_client(workspace)
        client.create_registered_model(name)
        source = client.get_model_version("ganflow", "1").source
        for _ in range(2):
            client.create_model_version(name, source)
    assert champions.set_champion(name, 1, None, workspace)


def test_two_that_promote_at_once_know_what_they_replaced(registered: Path) -> None:
    workspace = Workspace(registered)
    with_champion(workspace, "racing")
    assert not champions.set_champion("racing", 2, None, workspace)
    context = mp.get_context("spawn")
    begin, won = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=promote_often, args=(str(registered), "racing", mine, begin, won)) for mine in (1, 2)
    ]
    for process in processes:
        process.start()
    wins = sum(won.get(timeout=240) for _ in processes)
    for process in processes:
        process.join()
    journal = champions.history("racing", workspace)
    assert len(journal) == wins + 1 >= 201
    for before, after in itertools.pairwise(journal):
        assert after.before == before.version
    assert registry.aliases("racing", journal[-1].version, workspace) == ["champion"]


def test_a_cut_off_change_of_champion_is_finished_by_the_next(registered: Path) -> None:
    workspace = Workspace(registered)
    with_champion(workspace, "cut off")
    champions._write_down(workspace, "cut off", 2, 1, "begun")
    with (registered / "mlruns" / champions.JOURNAL).open("a") as journal:
        journal.write('{"name": "cut')
    assert not champions.set_champion("cut off", 1, 1, workspace)
    assert registry.aliases("cut off", 2, workspace) == ["champion"]
    assert champions.set_champion("cut off", 1, 2, workspace)


def test_holds_no_pickle_and_only_the_gan_code(registered: Path) -> None:
    files = [p for p in (registered / "mlruns" / "artifacts" / "models").rglob("*") if p.is_file()]
    assert not [p for p in files if p.suffix in (".pkl", ".pickle", ".pt", ".pth", ".bin")]
    code = {
        p.relative_to(p.parents[[q.name for q in p.parents].index("code")]).parts[0] for p in files if "code" in p.parts
    }
    (package,) = code
    assert re.fullmatch("ganflow_[0-9a-f]{16}", package)


def test_the_run_has_parameters_curves_scores_samples_and_files(registered: Path) -> None:
    out = elsewhere(
        registered,
        """
import json, mlflow
client = mlflow.MlflowClient()
(run,) = client.search_runs(["1"])
steps = [m.step for m in client.get_metric_history(run.info.run_id, "training/generator_loss")]
def files(path=None):
    for f in client.list_artifacts(run.info.run_id, path):
        yield from files(f.path) if f.is_dir else [f.path]
version = client.get_model_version_by_alias("ganflow", "challenger")
print(json.dumps([run.info.status, run.data.params, steps, sorted(run.data.metrics), list(files()), version.tags]))
""",
    )
    status, params, steps, metrics, files, tags = json.loads(out.splitlines()[-1])
    assert status == "FINISHED"
    assert params["train.images"] == "4096"
    assert params["dataset.resolution"] == "28x28"
    assert steps == [1024, 2048, 3072, 4096]
    assert {"values/agreement_classifier_500", "values/fd_classifier_500", "score/score"} <= set(metrics)
    groups = {name.partition("/")[0] for name in metrics}
    # A training may end before the machine was looked at.
    assert groups - {"system"} == {"final", "floor", "score", "training", "used", "values"}
    assert {"report/report.html", "pictures/contact_sheet.png", "report/metrics.json"} <= set(files)
    assert {name.partition("/")[0] for name in files} == {"images", "pictures", "report"}
    assert sum("samples" in name and name.endswith(".png") for name in files) == 2
    assert {"key", "data", "commit", "params", "holdout", "feature_net"} <= set(tags)


@pytest.mark.long
def test_a_key_registers_once_and_a_worse_model_stays_challenger(registered: Path, tmp_path: Path) -> None:
    root = tmp_path / "own"
    shutil.copytree(registered, root)
    succeeded(ganflow(root, "register"))
    assert Registration.load(root / "mlruns" / "registration").version == 1
    assert "Nothing to do" in succeeded(ganflow(root, "run"))
    worse = ("--set", "train.images=1024", "--set", "train.learning_rate_generator=1e-9")
    out = succeeded(ganflow(root, "run", *worse))
    assert "ganflow version 2 (challenger)" in out
    assert "ganflow version 1 (champion, challenger)" in succeeded(ganflow(root, "run")).replace(
        "challenger, champion", "champion, challenger"
    )


@pytest.fixture(scope="module")
def server(registered: Path) -> Iterator[str]:
    """The champion, served by MLflow without the project's code."""
    with served_without_project(registered, "models:/ganflow@champion") as address:
        yield address


def ask(address: str, **params: object) -> tuple[int, dict[str, object]]:
    body = json.dumps({"inputs": [], "params": params}).encode()
    request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_serves_images_and_answers_400_to_what_it_cannot_do(server: str) -> None:
    status, answer = ask(server, n=2, seed=1, **{"class": "3"})
    assert status == 200
    assert np.array(answer["predictions"]).shape == (2, 28, 28, 1)
    for wrong in ({"n": 0}, {"n": "many"}, {"class": "cow"}, {"truncation": 2.0}):
        status, answer = ask(server, **wrong)
        assert status == 400, answer
