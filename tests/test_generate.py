"""A batch of finished pictures: the same bytes however it is made, marked, whole, and never mixed with others."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image

from components.gan.errors import UserError
from components.generate import Generated, GenerateRequest, generate, preview
from components.pictures import metadata
from components.pictures.finishing import Draft, Upscale
from components.services.storage import Storage
from components.services.tracking import connection
from components.workspace.artifacts import Model
from components.workspace.params import Params
from components.workspace.published import load_published
from components.workspace.workspace import Workspace
from tests.conftest import environment, ganflow, refused, succeeded
from tests.services.test_cluster import running  # noqa: F401
from tests.services.test_storage import bucket, server  # noqa: F401
from tests.test_register import elsewhere

# Three chunks, of which the last is short.
COUNT = 230


@pytest.fixture(scope="module")
def workspace(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished workspace with a champion, where pictures may be added."""
    root = tmp_path_factory.mktemp("render") / "home"
    shutil.copytree(finished, root)
    return Workspace(root)


@pytest.fixture(scope="module")
def whole(workspace: Workspace) -> dict[str, bytes]:
    """The files of a batch, by name."""
    assert made(workspace, out="renders/whole").made == COUNT
    return contents(workspace.root / "renders" / "whole")


def made(workspace: Workspace, images: int = COUNT, **options: object) -> Generated:
    request = GenerateRequest.model_validate({"images": images, **options})
    return generate(request, Params.load(workspace.params), workspace)


def sentence(workspace: Workspace, **options: object) -> str:
    with pytest.raises(UserError) as error:
        made(workspace, **options)
    message = str(error.value)
    assert "\n" not in message
    return message


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@contextmanager
def one_core() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def pixels_of(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.atleast_3d(np.asarray(image))


def test_a_picture_has_the_same_pixels_whatever_makes_it(workspace: Workspace, tmp_path: Path) -> None:
    """Evaluation, each command and the registered model elsewhere; alone, with two others and among a thousand."""
    table = pd.read_csv(workspace.evaluation / "samples.csv")
    samples = np.load(workspace.evaluation / "samples.npy")
    seeds, labels = table["seed"].tolist(), table["label"].to_numpy(np.int64, copy=True)
    model = load_published(workspace.model, "the model")
    assert np.array_equal(model.sample(seeds, labels), samples)

    row = 137
    name, seed = model.image.classes[labels[row]], seeds[row]
    asked = ("--class", name, "--seed", str(seed), "--out")
    for n, command in ((1, ["sample"]), (3, ["generate", "--raw"]), (1000, ["generate", "--raw", "--model", "1"])):
        folder = tmp_path / str(n)
        succeeded(ganflow(workspace.root, *command, "--n", str(n), *asked, str(folder)))
        assert np.array_equal(pixels_of(folder / f"{name}-{seed}.png"), samples[row]), command
    script = """
import json, sys, mlflow
model = mlflow.pyfunc.load_model("models:/ganflow/1")
for n in (1, 3):
    images = model.predict([], params={"n": n, "seed": %d, "class": "%s"})
    print(json.dumps(images[0].tolist()))
"""
    for line in elsewhere(workspace.root, script % (seed, name)).splitlines()[-2:]:
        assert np.array_equal(np.array(json.loads(line), np.uint8), samples[row])
    # Finishing begins with the same pixels.
    (upscaled,) = Upscale(factor=2).apply([Draft(samples[row], seed, int(labels[row]), {})])
    made(workspace, images=1, label=name, seed=seed, out="renders/one")
    assert np.array_equal(pixels_of(workspace.root / "renders" / "one" / f"{name}-{seed}.png"), upscaled.pixels)


@pytest.mark.parametrize("wanted", ["1", "champion", "workspace"])
def test_any_model_can_be_asked_for(workspace: Workspace, wanted: str) -> None:
    generated = made(workspace, images=2, model=wanted, steps=[], out=f"renders/by {wanted}")
    assert generated.batch.version == (None if wanted == "workspace" else 1)
    assert str(generated).startswith("2 images of ")
    folder = workspace.root / "renders" / f"by {wanted}"
    assert np.array_equal(
        pixels_of(folder / "0-0.png"), load_published(workspace.model, "it").sample([0], np.array([0]))[0]
    )


def test_a_model_that_is_not_there_is_named_with_what_to_do(workspace: Workspace) -> None:
    assert sentence(workspace, model="7") == "ganflow has no version 7: it has 1"
    assert "names no model: write a version's number" in refused(workspace.root, "generate", "--model", "best")
    # It was made champion, and is no challenger any more.
    with connection.registry_lock(workspace):
        client = connection.open_client(workspace)
        client.delete_registered_model_alias("ganflow", "challenger")
    assert sentence(workspace, model="challenger") == "ganflow has no challenger: it has 1"
    with connection.registry_lock(workspace):
        client.set_registered_model_alias("ganflow", "challenger", "1")
    assert made(workspace, images=1, model="challenger", out="renders/by challenger").batch.version == 1


def test_the_number_of_cores_changes_no_byte(workspace: Workspace, whole: dict[str, bytes]) -> None:
    with one_core():
        made(workspace, out="renders/one core")
    assert contents(workspace.root / "renders" / "one core") == whole
    assert len(whole) == COUNT + 1


def test_what_was_lost_is_made_again_and_the_rest_left_alone(workspace: Workspace, whole: dict[str, bytes]) -> None:
    folder = workspace.root / "renders" / "lost"
    shutil.copytree(workspace.root / "renders" / "whole", folder)
    lost = ["0-0.png", "7-57.png", *(f"{seed % 10}-{seed}.png" for seed in range(100, 200))]
    for name in lost:
        (folder / name).unlink()
    # What a machine that crashed may leave.
    (folder / "9-229.png").write_bytes(b"")
    (folder / f"8-228.png.{'0' * 32}.part").write_bytes(b"begun")
    kept = folder / "1-1.png"
    os.utime(kept, (1, 1))
    rendered = made(workspace, out="renders/lost")
    assert rendered.made == len(lost) + 1
    assert str(rendered) == f"{COUNT} images of ganflow version 1 in renders/lost, 127 of them from before"
    assert kept.stat().st_mtime == 1
    assert contents(folder) == whole
    assert made(workspace, out="renders/lost").made == 0


def test_an_interrupted_batch_goes_on_and_ends_the_same(workspace: Workspace, whole: dict[str, bytes]) -> None:
    folder = workspace.root / "renders" / "interrupted"
    shutil.copytree(workspace.root / "renders" / "whole", folder)
    begun = json.loads(whole["render.json"]) | {"files": None}
    (folder / "render.json").write_text(json.dumps(begun))
    for seed in range(150, COUNT):
        (folder / f"{seed % 10}-{seed}.png").unlink()
    assert made(workspace, out="renders/interrupted").made == 80
    assert contents(folder) == whole


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_stopped_or_killed_it_leaves_whole_pictures_and_no_process(workspace: Workspace, how: signal.Signals) -> None:
    folder = workspace.root / "renders" / how.name
    command = [str(Path(sys.executable).parent / "ganflow"), "render", "--n", "100000", "--out", f"renders/{how.name}"]
    log = workspace.root / f"{how.name}.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=workspace.root,
            env=environment(),
            stdout=file,
            stderr=file,
            start_new_session=True,
            # A test in the background ignores Ctrl-C, and so would what it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    deadline = time.monotonic() + 240
    while len(list(folder.glob("*.png"))) < 150:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    helpers = psutil.Process(process.pid).children(recursive=True)
    if how == signal.SIGINT:
        # As a terminal does: to all its processes.
        os.killpg(process.pid, how)
        assert process.wait(120) == 130
        assert log.read_text().splitlines()[-1] == "ganflow: stopped; the same command goes on with what is lacking"
        assert "Traceback" not in log.read_text()
    else:
        process.kill()
        process.wait(120)
    assert not psutil.wait_procs(helpers, 60)[1]
    names = {file.name for file in folder.iterdir() if how == signal.SIGINT or file.suffix != ".part"}
    assert json.loads((folder / "render.json").read_text())["files"] is None
    assert len(names) < 100_000
    for name in names - {"render.json"}:
        with Image.open(folder / name) as image:
            image.load()


def test_pictures_say_what_made_them_and_trace_finds_it(workspace: Workspace, whole: dict[str, bytes]) -> None:
    described = json.loads(whole["render.json"])
    assert described["files"] == {
        name: hashlib.sha256(content).hexdigest() for name, content in whole.items() if name != "render.json"
    }
    # Not curate, which chooses among pictures.
    assert [step["name"] for step in described["steps"]] == ["upscale"]
    model = Model.load(workspace.model).key.id
    picture = workspace.root / "renders" / "whole" / "7-117.png"
    with Image.open(picture) as image:
        assert image.size == (56, 56)
        text = dict(image.info)
    expected = {"model": model, "version": "ganflow 1", "class": "7", "seed": "117", "steps": "upscale"}
    assert {name.removeprefix("ganflow:"): v for name, v in text.items() if name.startswith("ganflow:")} == expected
    assert metadata.GENERATED in text["XML:com.adobe.xmp"]
    found = json.loads(succeeded(ganflow(workspace.root, "trace", str(picture), "--json", "--html", "chain.html")))
    assert (found["model"]["key"], found["version"]["version"], found["gallery"]) == (model, 1, None)
    assert (found["image"]["class"], found["image"]["seed"], found["image"]["found_by"]) == ("7", 117, "marks")
    assert len(found["data"]["nearest"]) == 5
    assert "7-117.png" in (workspace.root / "chain.html").read_text()


def test_options_are_kept(workspace: Workspace) -> None:
    steps = [{"name": "upscale", "factor": 3}, {"name": "sharpen"}]
    rendered = made(workspace, images=12, label="3", seed=5, truncation=0.5, steps=steps)
    folder = workspace.root / rendered.place
    assert folder.parent == workspace.root / "renders"
    assert {file.name for file in folder.glob("*.png")} == {f"3-{seed}.png" for seed in range(5, 17)}
    with Image.open(folder / "3-16.png") as image:
        assert image.size == (84, 84)
        assert (image.info["ganflow:truncation"], image.info["ganflow:steps"]) == ("0.5", "upscale, sharpen")
    assert preview(rendered).width > preview(rendered).height
    # A batch of its own has a folder of its own.
    assert made(workspace, images=12, label="3", seed=5, truncation=0.6, steps=steps).place != rendered.place


def test_nothing_is_mixed(workspace: Workspace, whole: dict[str, bytes]) -> None:
    folder = workspace.root / "renders" / "whole"
    assert "230 images of ganflow version 1" in sentence(workspace, out="renders/whole", seed=1)
    assert "choose another folder" in sentence(workspace, out="renders/whole", images=COUNT + 1)
    assert "choose another folder" in sentence(workspace, out="renders/whole", steps=[])
    assert contents(folder) == whole
    assert "choose another folder" in sentence(workspace, out=".")
    assert "data/, which is not for pictures" in sentence(workspace, out="data/more")
    assert "mlruns/" in sentence(workspace, out=str(workspace.mlruns))
    (workspace.root / "foreign").mkdir()
    (workspace.root / "foreign" / "render.json").write_text("{}")
    assert "not of a rendering" in sentence(workspace, out="foreign")
    assert "cannot use the storage" in sentence(workspace, out="params.yaml")


def test_what_cannot_be_made_is_refused_before_anything_is(workspace: Workspace) -> None:
    assert "there is no class 'x'; choose one of 0, 1" in sentence(workspace, label="x", out="renders/no")
    assert "take a smaller factor" in sentence(workspace, steps=[Upscale(factor=8)] * 3, out="renders/no")
    assert not (workspace.root / "renders" / "no").exists()


def test_a_damaged_champion_makes_nothing(workspace: Workspace, tmp_path: Path) -> None:
    shutil.copytree(workspace.root, tmp_path / "own", ignore=shutil.ignore_patterns("renders"))
    (weights,) = (tmp_path / "own" / "mlruns" / "artifacts").rglob("generator.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "version 1 of ganflow is damaged: `ganflow verify`" in sentence(Workspace(tmp_path / "own"))


def test_without_a_champion_it_says_how_to_get_one(workspace: Workspace) -> None:
    told = refused(workspace.root, "render", "--n", "3", "--set", "register.name=nobody")
    assert told.startswith("ganflow: the model nobody has no champion: run `ganflow run`")


def test_a_password_in_the_address_is_refused_and_not_repeated(workspace: Workspace) -> None:
    told = refused(workspace.root, "render", "--n", "3", "--out", "s3://someone:hush-hush@bucket/there")
    assert told == "ganflow: --out: a password does not belong here: keys are read from AWS_* variables alone"


def test_into_a_bucket(workspace: Workspace, whole: dict[str, bytes], bucket: str, tmp_path: Path) -> None:  # noqa: F811
    out = f"{bucket}/some/prefix"
    assert made(workspace, out=out).made == COUNT
    storage = Storage(out)
    for name in ("0-0.png", "4-104.png"):
        storage.delete(name)
    (tmp_path / "begun").write_text(json.dumps(json.loads(whole["render.json"]) | {"files": None}))
    storage.put(tmp_path / "begun", "render.json")
    rendered = made(workspace, out=out)
    assert rendered.made == 2
    assert storage.sizes() == {name: len(content) for name, content in whole.items()}
    for name in ("0-0.png", "4-104.png", "render.json"):
        storage.get(name, tmp_path / name)
        assert (tmp_path / name).read_bytes() == whole[name]
    assert "choose another folder" in sentence(workspace, out=out, seed=1)
    assert "no such bucket" in sentence(workspace, out=f"{bucket}-that-is-not/there")


@pytest.mark.long
def test_ray_tasks_make_the_same_bytes(
    workspace: Workspace,
    whole: dict[str, bytes],
    running: dict[str, str],  # noqa: F811
) -> None:
    succeeded(ganflow(workspace.root, "render", "--n", str(COUNT), "--out", "renders/ray", **running))
    assert contents(workspace.root / "renders" / "ray") == whole
