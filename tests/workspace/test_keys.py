"""What keys depend on: edits of what is left out make the same bits, and edits of what makes bits other keys."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest

from components.gan.network_options import NETWORKS, R3GAN
from components.gan.options import STORED, AddedWith, Options, TrainingOptions
from components.gan.published import Manifest, Published
from components.workspace import graph
from components.workspace.artifacts import Model
from components.workspace.files import sealed
from components.workspace.graph import STAGES, code_hash, first_options_hash, options_hash, stage_named
from components.workspace.params import Params, Train
from tests.conftest import PROJECT, environment, succeeded
from tests.test_architecture import NOT_RESULTS

# Of each file that is left out of keys an edit as it may come any day: of words, of a time-out, of what is assumed.
LEFT_OUT = {
    "gan/errors.py": ("the same command goes on", "run the same command, which goes on"),
    "gan/weights.py": ("delete it, and `ganflow run` makes it again", "delete it: `ganflow run` makes it again"),
    "gan/network_options.py": ("hidden units of the generator", "units of the generator"),
    "gan/options.py": ("length of the training, in real images seen", "length of the training"),
    "gan/tasks/options.py": ("how many times larger both sides become", "how many times larger the sides become"),
    "services/cluster/placement.py": ("lower it or add nodes", "lower it, or add nodes to the cluster"),
    "services/cluster/session.py": ('_TIMEOUT_S": "20"', '_TIMEOUT_S": "60"'),
    "services/cluster/tasks.py": ("cores + 1", "cores + 3"),
    "services/cluster/trainer.py": ("STOP_SECONDS = 20", "STOP_SECONDS = 60"),
    "services/cluster/worker.py": ("COLLECTIVE_SECONDS = 600", "COLLECTIVE_SECONDS = 1200"),
    "services/storage.py": ("TIMEOUT = 4.0", "TIMEOUT = 9.0"),
    "services/tracking/connection.py": ("run the same command again", "run it again"),
    "services/tracking/database.py": ("timeout=60", "timeout=90"),
    "services/tracking/places.py": ("include a link to", "hold a link to"),
    "services/tracking/runs.py": ("[:6000]", "[:5000]"),
    "train.py": ("SPARE_BYTES = 20_000_000", "SPARE_BYTES = 30_000_000"),
    "training/begun.py": ("with its own data and parameters", "with its own parameters and data"),
    "training/checkpoints.py": ("KEPT = 2", "KEPT = 3"),
    "training/cost.py": ("WATTS_PER_CORE = 10.0", "WATTS_PER_CORE = 12.5"),
    "training/mirror.py": ("is damaged ({error}) and is not used", "is not used, because it is damaged ({error})"),
    "training/profiling.py": ("OPERATORS = 25", "OPERATORS = 30"),
    "training/progress.py": ("LOG_SECONDS = 5", "LOG_SECONDS = 1"),
    "training/shared_data.py": ("delete it and run again", "delete it, then run again"),
    "workspace/artifacts.py": ("delete that folder and run", "delete the folder, then run"),
    "workspace/code.py": ("A digest of code that stays the same", "A hash of code that stays the same"),
    "workspace/files.py": ("SMALL_FILE = 2**16", "SMALL_FILE = 2**12"),
    "workspace/params.py": ("share of unreadable files above which to stop", "share of unreadable files to stop at"),
    "workspace/workspace.py": ("wait for its end, or name", "wait until it ends, or name"),
}
# What keys leave out of files that they do look at, and the networks that are not trained.
OVERLOOKED = {
    "ingest/class_sizes.py": ("distinct images for training and", "different images for training and"),
    "ingest/formats.py": ("is damaged ({error}): fetch them again", "cannot be read ({error}): fetch them again"),
    "evaluate.py": ('desc="evaluate"', 'desc="measure"'),
    "gan/training_loop.py": ("training diverged before image", "the training diverged before image"),
    "measures/features.py": ("# The net was trained on", "# This net was trained on"),
    "gan/losses.py": ('"""Share of right answers', '"""The share of right answers'),
    "gan/models/stylegan2.py": ("MAPPING_RATE = 0.01", "MAPPING_RATE = 0.02"),
    "workspace/feature_nets.py": ("data: Split, content: str, cache: Path", "data: Split, content: Any, cache: Path"),
    "postprocess.py": ("# Only images with labels have a confidence.", "# Images without labels have no confidence."),
}
RUN = """
import sys
from pathlib import Path
import components
from components.workspace.params import Params
from components.workspace.workspace import Workspace
from flows.runner import run_stage

assert components.__file__.startswith(sys.argv[2])
workspace = Workspace(Path(sys.argv[1]))
for stage in ("preprocess", "train", "evaluate", "postprocess"):
    run_stage(stage, Params.load(workspace.params), workspace)
"""


def edited(root: Path, edits: dict[str, tuple[str, str]]) -> Path:
    """A copy of the code under `root` with each old text replaced by the new one."""
    for folder in ("components", "flows"):
        shutil.copytree(PROJECT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name, (old, new) in edits.items():
        file = root / "components" / name
        assert old in file.read_text(), (name, old)
        file.write_text(file.read_text().replace(old, new))
    return root


def bytes_of(root: Path) -> dict[str, bytes]:
    folder = root / "artifacts"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_left_out_of_keys_makes_the_same_bits(finished: Path, tmp_path: Path) -> None:
    """Every file that does not count was edited, and words, remarks and other networks in those that do."""
    assert LEFT_OUT.keys() == NOT_RESULTS.keys()
    code = edited(tmp_path / "code", LEFT_OUT | OVERLOOKED)
    root = tmp_path / "workspace"
    root.mkdir()
    shutil.copy(finished / "params.yaml", root)
    shutil.copytree(finished / "data", root / "data")
    command = [sys.executable, "-c", RUN, str(root), str(code)]
    env = environment(PYTHONPATH=str(code))
    succeeded(subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=300))
    # Keys stand in them, too.
    assert bytes_of(root) == bytes_of(finished)


@pytest.mark.parametrize(
    ("file", "old", "new", "stages"),
    [
        ("gan/losses.py", "F.softplus(-real)", "F.softplus(-real - 1e-3)", {"train", "evaluate"}),
        ("training/scoring.py", "SCORE_SAMPLES = 1_000", "SCORE_SAMPLES = 999", {"train"}),
        ("ingest/decoding.py", "beyond 16 bits", "of more than 16 bits", {"preprocess"}),
        ("gan/models/dcgan.py", "tanh", "sigmoid", {"train", "evaluate", "postprocess", "register"}),
        ("gan/models/mlp.py", "tanh", "sigmoid", set()),
        ("measures/metrics.py", "float(np.std(values))", "float(np.var(values))", {"evaluate", "postprocess"}),
        ("reports/report.html.jinja", "<h2", "<h3", {"postprocess"}),
        ("gan/symptoms.py", "generated images of a class are alike", "images of a class are alike", {"postprocess"}),
    ],
)
def test_an_edit_of_what_makes_bits_makes_another_key(
    file: str, old: str, new: str, stages: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {stage.name: code_hash(stage, "dcgan") for stage in STAGES}
    monkeypatch.setattr(graph, "_CODE", edited(tmp_path, {file: (old, new)}) / "components")
    assert {stage.name for stage in STAGES if code_hash(stage, "dcgan") != before[stage.name]} == stages


def test_where_a_file_lies_makes_no_other_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = stage_named("preprocess")
    before = code_hash(stage)
    code = edited(tmp_path, {}) / "components"
    (code / "ingest" / "decoding.py").rename(code / "reading.py")
    monkeypatch.setattr(graph, "_CODE", code)
    moved = tuple("reading.py" if name == "ingest/decoding.py" else name for name in stage.code)
    assert code_hash(graph.Stage(stage.name, stage.artifact, stage.inputs, moved)) == before


def added(options: type[Options]) -> set[str]:
    """The names of options that came later."""
    fields = options.model_fields.items()
    return {name for name, field in fields if any(isinstance(mark, AddedWith) for mark in field.metadata)}


@pytest.mark.parametrize("network", NETWORKS)
def test_the_options_of_a_training_are_hashed_as_they_always_were(network: str) -> None:
    """One flat section without what changes no result: a key of 29edf2a is found again, by the options that it knew."""
    values = {"network": {"name": network}, "storage": "/bucket"}
    train = Train.model_validate(values, context=STORED)
    dumped = train.model_dump(mode="json", exclude={"storage", "size", *added(Train)})
    dumped["network"] = {name: v for name, v in dumped["network"].items() if name not in added(NETWORKS[network])}
    # BigGAN's recipe has the orthogonal penalty, which is another by now.
    corrected = {"corrected": ["orthogonal_weight"]} if network == "biggan" else {}
    assert train.hashed == dumped | corrected
    first = hashlib.sha256(json.dumps(dumped, sort_keys=True).encode()).hexdigest()
    assert first_options_hash(train) == first
    assert (options_hash(train) == first) is not bool(corrected)
    assert options_hash(train) == options_hash(Train(**train.loop.model_dump()))
    # Who names none of them gets the same key where nothing was corrected.
    present = Params.model_validate({"train": {"network": {"name": network}}}).train
    unchanged = options_hash(present) == options_hash(
        Train.model_validate({"network": {"name": network}}, context=STORED)
    )
    assert unchanged is (network in ("mlp", "dcgan"))


def test_what_was_added_to_a_schedule_is_in_no_key_wherever_the_schedule_stands() -> None:
    ramp = {"start": 0.9, "end": 0.99}
    as_ever = {**ramp, "images": None, "shape": "cosine"}
    hashed = Train.model_validate({"adam_betas": [0.5, ramp], "r1_gamma": ramp}).hashed
    assert hashed["adam_betas"] == [0.5, as_ever]
    assert hashed["r1_gamma"] == as_ever
    assert Train.model_validate({"r1_gamma": {**ramp, "rest": 0.1}}).hashed["r1_gamma"] == {**as_ever, "rest": 0.1}


def test_the_task_of_making_images_from_noise_is_in_no_key() -> None:
    named = Train.model_validate({"task": {"name": "generate"}, "adversarial_weight": 1, "pixel_weight": 0})
    assert named.hashed == Train().hashed
    assert not {"task", "pixel_weight", "feature_weight", "adversarial_weight"} & named.hashed.keys()
    assert Train.model_validate({"task": {"name": "colorize"}}).hashed["task"] == {"name": "colorize"}


@pytest.mark.parametrize(
    ("corrected", "changes"),
    [
        ([], {}),
        ([], {"ada": {"probability": 0.3}, "mirror": True}),
        ([], {"wgan_gp_weight": 10}),
        (["augment"], {"augment": ["cutout"]}),
        (["orthogonal_weight"], {"orthogonal_weight": 1e-4}),
        (["wgan_gp_weight"], {"wgan_gp_weight": 10, "ada": {"probability": 0.3}}),
        (["augment", "wgan_gp_weight"], {"wgan_gp_weight": 10, "augment": ["color"]}),
    ],
)
def test_options_that_compute_otherwise_than_at_first_have_another_key(
    corrected: list[str], changes: dict[str, Any]
) -> None:
    assert Train.model_validate(changes).hashed.get("corrected", []) == corrected


def test_a_description_that_was_stored_means_what_options_were_before_they_were_added(tmp_path: Path) -> None:
    """And its content is the same as ever, so that nothing after it runs again."""
    image = {"height": 32, "width": 32, "channels": 1, "classes": ["a", "b"]}
    network = {"name": "r3gan", "width": 32}
    described = {
        "key": {"options": "", "inputs": "", "code": ""},
        "files": {},
        "training": {"network": network, "images": 100},
        "image": image,
        "execution": {"workers": 1, "threads": 1, "device": "cpu", "precision": "fp32"},
        **dict.fromkeys(("images", "generator_parameters", "discriminator_parameters"), 1),
        "score": 1.0,
        "dataset": "any",
    }
    (tmp_path / Model.manifest).write_text(sealed(described))
    model = Model.load(tmp_path)
    assert isinstance(model.training.network, R3GAN)
    assert (model.training.network.halving, model.training.network.embedding_start) == ("by_side", "unit")
    said = json.dumps({name: value for name, value in described.items() if name != "key"}, sort_keys=True)
    assert "by_side" not in said and "halving" not in json.dumps(model.model_dump(mode="json", exclude_unset=True))
    assert TrainingOptions.model_validate({"network": network}).network.halving == "by_doubling"  # type: ignore[union-attr]
    # A model that is published keeps its name: what caches and pictures call it by.
    manifest = {"network": network, "image": image, "precision": "fp32", "latents": "torch-mt19937", "files": {}}
    stored = Published(Manifest.model_validate(manifest, context=STORED), {})
    assert "halving" not in stored.manifest.hashed["network"]
    assert stored.id != Published(Manifest.model_validate(manifest), {}).id


def test_an_option_that_came_later_is_in_no_key_with_the_value_that_all_had_before() -> None:
    class Inner(Options):
        pixels: Annotated[int, AddedWith(100)] = 100

    class Old(Options):
        steps: tuple[Inner, ...] = ()
        width: int = 8

    class New(Old):
        inner: Annotated[Inner, AddedWith({})] = Inner()
        # The default is another by now: who relies on it gets another key.
        mirror: Annotated[bool, AddedWith(False)] = True

    assert options_hash(New(mirror=False)) == options_hash(Old())
    assert New().hashed == {"steps": [], "width": 8, "mirror": True}
    changed = New(inner=Inner(pixels=7), steps=(Inner(), Inner(pixels=5)), mirror=False)
    assert changed.hashed == {"steps": [{}, {"pixels": 5}], "width": 8, "inner": {"pixels": 7}}
