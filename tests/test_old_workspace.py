"""A workspace that commit 29edf2a left: its models, pictures, records and half-finished training go on to be of use.

`fixtures/make_workspace.py` says what it holds. These tests treat it by commands, as its user does; only what the
half-finished training has to end in is computed here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from components.gan.dataset import Split, SplitName, fingerprints
from components.gan.options import Execution, ImageFormat, TrainingOptions
from components.gan.training_loop import State, training_loop
from tests.conftest import Pixels, environment, ganflow, idx, succeeded, unpack_old_workspace

# Grey levels by which another processor may round: version 1 was trained in fp32, version 2 in bf16, whose pictures are
# sampled in bf16 or in fp32, which differ by up to 3. Other latents make differences of 10 to 100.
ROUNDING = {1: 2, 2: 8}
BEGUN, REACHED, IMAGES = "6419651b4f3e8f9b", 4608, 12288


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace where another command may have been before; to be added to, not changed."""
    return unpack_old_workspace(tmp_path_factory.mktemp("old"))


@pytest.fixture(scope="module")
def verified(root: Path) -> str:
    """What `ganflow verify` says in the place to which the workspace was moved."""
    return succeeded(ganflow(root, "verify"))


def split_of(folder: Path, name: SplitName) -> Split:
    described = json.loads((folder / "dataset.json").read_text())
    return Split(folder, name, ImageFormat(**described["image"]))


def pictures(folder: Path) -> dict[str, Pixels]:
    return {file.name: np.asarray(Image.open(file)) for file in sorted(folder.glob("*.png"))}


def furthest(ours: Pixels, theirs: Pixels) -> int:
    """The largest difference of a pixel."""
    return int(np.abs(ours.astype(int) - theirs).max())


def same_pictures(ours: Path, theirs: Path, version: int) -> None:
    made, stored = pictures(ours), pictures(theirs)
    assert len(stored) == 20
    assert made.keys() == stored.keys()
    assert max(furthest(made[name], stored[name]) for name in stored) <= ROUNDING[version]


def part_of(expected: Any, found: Any) -> None:
    """All that is `expected` is there with the same value, whatever else is `found`."""
    if isinstance(expected, dict):
        for name, value in expected.items():
            part_of(value, found[name])
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-3)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(expected, found, strict=True):
            part_of(one, other)
    else:
        assert found == expected


def test_after_it_was_moved_all_of_it_is_as_it_was_written(verified: str) -> None:
    *said, unchecked = verified.splitlines()
    assert "not checked" in unchecked
    lines = [line.split(maxsplit=1) for line in said]
    assert ("ok", "mlruns/champions.jsonl (4 lines from before it was chained)") in map(tuple, lines)
    assert {state for state, _ in lines} == {"ok"}
    assert {"data", ".ganflow/ledger.jsonl", "ganflow version 1", "ganflow version 2"} <= {part for _, part in lines}
    assert sum(part.endswith("checkpoints") for _, part in lines) == 2


@pytest.mark.usefixtures("verified")
def test_its_models_load_by_mlflow_and_make_the_images_that_they_made(root: Path, tmp_path: Path) -> None:
    script = """
import sys, mlflow, numpy
for version, uri in ((1, "models:/ganflow/1"), (2, "models:/ganflow@champion")):
    made = mlflow.pyfunc.load_model(uri).predict([], params={"n": 20, "seed": 0})
    numpy.save(f"{sys.argv[1]}/{version}.npy", made)
"""
    # Without the project, which another user of the model need not have.
    env = environment(MLFLOW_TRACKING_URI=f"sqlite:///{root}/mlruns/mlflow.db", PYTHONPATH="")
    command = [sys.executable, "-c", script, str(tmp_path)]
    succeeded(subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200))
    for version, rounding in ROUNDING.items():
        made = np.load(tmp_path / f"{version}.npy")
        stored = np.load(root.parent / "reference" / f"predicted-{version}.npy")
        assert furthest(made, stored) <= rounding
        # So near are no images of other seeds and the same classes.
        assert min(furthest(made[i], stored[i - 10]) for i in range(20)) > rounding


@pytest.mark.parametrize("version", [1, 2])
def test_a_gallery_picture_of_either_model_leads_to_its_data(root: Path, version: int) -> None:
    expected = json.loads((root.parent / "reference" / f"trace-{version}.json").read_text())
    found = json.loads(succeeded(ganflow(root, "trace", expected["image"]["file"], "--json")))
    assert found["version"]["version"] == version
    part_of(expected, found)


def test_a_rendered_picture_leads_to_its_model(root: Path) -> None:
    found = json.loads(succeeded(ganflow(root, "trace", "renders/first/3-13.png", "--json")))
    assert (found["image"]["seed"], found["image"]["class"], found["version"]["version"]) == (13, "3", 1)


def test_its_data_lead_to_both_models(root: Path) -> None:
    found = json.loads(succeeded(ganflow(root, "impact", "data/images.idx", "--json")))
    assert sorted(version["version"] for version in found["versions"]) == [1, 2]


@pytest.mark.usefixtures("verified")
def test_its_champion_renders_the_pictures_that_it_rendered(root: Path) -> None:
    succeeded(ganflow(root, "render", "--n", "20", "--out", "renders/again"))
    same_pictures(root / "renders" / "again", root / "renders" / "second", 2)
    # Those that were made are known as the same ones.
    stored = (root / "renders" / "second" / "render.json").read_bytes()
    assert "20 of them from before" in succeeded(ganflow(root, "render", "--n", "20", "--out", "renders/second"))
    assert (root / "renders" / "second" / "render.json").read_bytes() == stored


def test_its_own_model_samples_the_images_that_it_sampled(root: Path) -> None:
    succeeded(ganflow(root, "sample", "--n", "20", "--out", "samples/again"))
    same_pictures(root / "samples" / "again", root / "samples" / "second", 2)


@pytest.mark.usefixtures("verified")
def test_new_images_are_compared_with_what_its_champion_learned_from(
    root: Path, digits: tuple[Pixels, Pixels], tmp_path: Path
) -> None:
    for name, values in zip(("images.idx", "labels.idx"), digits, strict=True):
        (tmp_path / name).write_bytes(idx(values[1000:1200]))
        # What was written a moment ago may still be growing.
        os.utime(tmp_path / name, (1, 1))
    told = succeeded(ganflow(root, "drift", "--set", f"retrain.inbox={tmp_path}"))
    assert "200 new images" in told
    assert "version 2" in told


def test_nothing_that_is_needed_counts_as_left_over(root: Path) -> None:
    told = succeeded(ganflow(root, "clean", "--set", "clean.keep_days=0"))
    needed = [BEGUN, ".ganflow/drift", ".ganflow/data", "mlruns", "renders", "samples"]
    assert not [name for name in needed if name in told], told


def test_its_champion_is_rolled_back_to_the_one_before(old_workspace: Path) -> None:
    told = succeeded(ganflow(old_workspace, "rollback"))
    assert "version 1 is champion again, instead of version 2" in told
    succeeded(ganflow(old_workspace, "render", "--n", "20", "--out", "renders/again"))
    same_pictures(old_workspace / "renders" / "again", old_workspace / "renders" / "first", 1)
    assert "already" in succeeded(ganflow(old_workspace, "rollback"))


def test_its_lost_registry_is_made_again(old_workspace: Path) -> None:
    # Its models were loaded by name since they were registered, which leaves a note of MLflow's in their folders.
    (note, *_) = old_workspace.glob("mlruns/artifacts/models/*/artifacts/registered_model_meta")
    assert "model_name: ganflow" in note.read_text()
    (old_workspace / "mlruns" / "mlflow.db").unlink()
    told = succeeded(ganflow(old_workspace, "rebuild-registry"))
    assert "not restored" not in told
    for part in ("ganflow version 1", "ganflow version 2", "ganflow champion, version 2"):
        assert part in told
    parts = [line.split() for line in succeeded(ganflow(old_workspace, "verify")).splitlines()[:-1]]
    assert {state for state, *_ in parts} == {"ok"}
    assert parts[-1][1:] == ["ganflow", "version", "2"]


@pytest.mark.long
def test_the_next_run_finishes_its_training_and_the_model_meets_the_champion(old_workspace: Path) -> None:
    checkpoint = old_workspace / ".ganflow" / "training" / BEGUN / "checkpoints" / f"{REACHED:012d}"
    state, described = (checkpoint / name for name in ("state.safetensors", "checkpoint.json"))
    tensors, begun = safetensors.torch.load(state.read_bytes()), json.loads(described.read_text())
    dataset = old_workspace.parent / "dataset"
    shutil.copytree(old_workspace / "artifacts" / "dataset", dataset)
    ledger = (old_workspace / ".ganflow" / "ledger.jsonl").read_bytes()

    told = succeeded(ganflow(old_workspace, "run"))
    assert f"training goes on at image {REACHED:,} of {IMAGES:,}" in told
    assert "ganflow version 3" in told

    # To the bits that the loop makes of the state, options and data that were left.
    model = old_workspace / "artifacts" / "model"
    made = json.loads((model / "model.json").read_text())
    options, execution = TrainingOptions(**made["training"]), Execution(**begun["execution"])
    torch.set_num_threads(execution.threads)
    start = State(tensors, begun["images"], begun["step"], begun["attempt"])
    data = Split(dataset, "training", ImageFormat(**made["image"]))
    loop = training_loop(options, data, execution, start)
    end = next(progress.state().tensors for progress in loop if progress.images == made["images"])
    for file, network in (("discriminator", "discriminator"), ("generator", "ema")):
        published = safetensors.torch.load_file(model / f"{file}.safetensors")
        for name, weight in published.items():
            # Statistics of the moving average are measured when it is scored.
            if "running_" not in name and "num_batches" not in name:
                assert torch.equal(weight, end[f"{network}/{name}"]), (file, name)

    verdict = json.loads((old_workspace / "mlruns" / "verdict" / "verdict.json").read_text())
    assert (verdict["champion"], verdict["challenger"]) == (2, 3)
    assert verdict["answer"] in ("promote", "keep", "abstain")
    assert (old_workspace / ".ganflow" / "ledger.jsonl").read_bytes().startswith(ledger)
    *checked, _ = succeeded(ganflow(old_workspace, "verify")).splitlines()
    assert {line.split()[0] for line in checked} == {"ok"}
    picture = next((old_workspace / "artifacts" / "gallery" / "images").glob("0-*.png"))
    found = json.loads(succeeded(ganflow(old_workspace, "trace", str(picture), "--json")))
    assert found["version"]["version"] == 3
    assert re.fullmatch("[0-9a-f]{64}", found["data"]["source"])
    # It was finished on its own two splits; the next run makes three, on which the champion's holdout stays held out.
    assert "preprocess   would run: its code changed" in succeeded(ganflow(old_workspace, "run", "--dry-run"))
    succeeded(ganflow(old_workspace, "preprocess"))
    before, now = (
        {name: fingerprints(split_of(folder, name)) for name in ("training", "holdout")}
        for folder in (dataset, old_workspace / "artifacts" / "dataset")
    )
    assert np.array_equal(before["holdout"], now["holdout"])
    assert np.isin(now["training"], before["training"]).all()
    succeeded(ganflow(old_workspace, "train", "--set", "train.images=4096"))
