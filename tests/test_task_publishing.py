"""Image tasks from a folder of pictures to a champion that answers over HTTP, and what the gate says of them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from components.apply import ApplyRequest, apply
from components.drift import given_drift
from components.evaluation.contenders import load_rival
from components.evaluation.task_contenders import TaskEvidence
from components.evaluation.task_vetoes import task_vetoes
from components.gan.dataset import Split
from components.gan.errors import NotThereError, UserError
from components.gan.options import ImageFormat
from components.gan.tasks.options import Generate, SuperResolve
from components.pictures import metadata
from components.provenance import picture
from components.provenance.trace import trace
from components.reports.trace_page import chain_of, page
from components.services.tracking import champions, registry
from components.workspace.artifacts import Dataset, Evaluation, Gallery, Model
from components.workspace.params import Params, Promote
from components.workspace.verdict import Verdict
from components.workspace.workspace import Workspace
from flows.runner import run_gate, run_stage
from tests.conftest import Pixels, ganflow, refused, succeeded
from tests.flows.test_pipeline import Clone
from tests.harness.serving import served_without_project
from tests.training.test_image_tasks import write_pictures

TASKS = {"super_resolve": "{name: super_resolve, factor: 2}", "inpaint": "{name: inpaint}"}
# A training that changes no weight by as much as shows.
NOTHING = """
preprocess: {resolution: 24, near_duplicates: false, development: 0.2}
train:
  task: %s
  size: small
  images: 256
  batch: 16
  log_every: 64
  checkpoint_every: 64
  learning_rate_generator: 1.0e-9
  adversarial_weight: {start: 0, end: 0.02, rest: 0.5}
postprocess: {images: 6}
register: {name: photos}
"""
# One that does; of a repair one that is short, because no test asks how good it is.
_RATES = ("train.learning_rate_generator=1e-3", "train.adversarial_weight=0")
LEARNS = {
    "super_resolve": (*_RATES, "train.images=3072", "train.checkpoint_every=1024"),
    "inpaint": (*_RATES, "train.images=128"),
}


@pytest.fixture(scope="module", params=TASKS)
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which a model that learned nothing was published."""
    root: Path = tmp_path_factory.mktemp(request.param)
    write_pictures(root / "data")
    (root / "params.yaml").write_text(NOTHING % TASKS[request.param])
    assert published(root).answer == "keep"
    return root


def published(root: Path, *overrides: str) -> Verdict:
    """What the gate says of what the stages make."""
    workspace = Workspace(root)
    params = Params.load(workspace.params, list(overrides))
    for stage in ("preprocess", "train", "evaluate", "postprocess", "register"):
        if stage == "train":
            succeeded(ganflow(root, "train", *(f"--set={value}" for value in overrides)))
        else:
            run_stage(stage, params, workspace)
    return run_gate(params, workspace)


def task_of(root: Path) -> str:
    return Model.load(root / "artifacts" / "model").training.task.name


def text_of(page: Path) -> str:
    """What a person reads on a page."""
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", page.read_text(encoding="utf-8")))


def test_a_model_that_is_no_better_than_its_baseline_is_not_promoted(root: Path) -> None:
    verdict = Verdict.of(Workspace(root))
    assert verdict is not None
    assert (verdict.answer, verdict.measure, verdict.champion) == ("keep", "perceptual", None)
    assert "baseline" in {check.name for check in verdict.failed}
    named = {check.name for check in verdict.checks}
    assert {"finite", "baseline", "smallest error", "unseen files"} <= named
    assert ("known pixels" in named) is (task_of(root) == "inpaint")
    assert all(check.passed for check in verdict.checks if check.name in ("known pixels", "unseen files", "finite"))
    # Of enlarging there is a better baseline than the network's own, and what learned nothing is below that.
    behind = "smallest error" in {check.name for check in verdict.failed}
    assert behind is (task_of(root) == "super_resolve")
    page = text_of(root / "mlruns" / "verdict" / "verdict.html")
    assert "Given Challenger, version 1 Original" in page
    assert "KID" not in page


def test_the_report_shows_the_worst_and_says_that_it_beats_nothing(root: Path) -> None:
    gallery, evaluation = Gallery.load(root / "artifacts" / "gallery"), Evaluation.load(root / "artifacts/evaluation")
    assert gallery.files.keys() == {"contact_sheet.png", "report.html", *(p.file for p in gallery.pictures)}
    page = text_of(gallery.folder / "report.html")
    for words in ("It does not beat what is made without a network", "Before and after", "Worst", "Median", "Original"):
        assert words in page
    html = (gallery.folder / "report.html").read_text()
    assert "resize: horizontal" in html and "<script" not in html
    told, _, _ = page.partition("How to make them again")
    assert not re.search("noise|latent|direction|[Cc]op(y|ies)|None", told)
    # From the nearest to its original to the farthest.
    table = pd.read_csv(evaluation.folder / "samples.csv").set_index("seed")
    distances = [table.loc[picture.seed, "perceptual"] for picture in gallery.pictures]
    assert len(distances) == 6 and distances == sorted(distances)
    assert (distances[0], distances[-1]) == (table["perceptual"].min(), table["perceptual"].max())
    repaired = task_of(root) == "inpaint"
    with Image.open(gallery.folder / gallery.pictures[-1].file) as image:
        assert image.info["ganflow:task"] == task_of(root)
        assert (metadata.COMPOSITE if repaired else metadata.ENHANCED) in image.info["XML:com.adobe.xmp"]
        at = table.index.get_loc(gallery.pictures[-1].seed)
        assert np.array_equal(np.asarray(image), np.load(evaluation.folder / "samples.npy")[at])


def test_cards_say_what_it_does_and_not_that_it_makes_images_from_noise(root: Path) -> None:
    card = succeeded(ganflow(root, "card", "--model", "1"))
    assert "pipeline_tag: image-to-image" in card
    does = {"super_resolve": "Enlarges pictures 2 times", "inpaint": "Repaints what a mask shows"}[task_of(root)]
    assert does in card and "noise" not in card and "Copying" not in card
    assert ("compositeWithTrained" if task_of(root) == "inpaint" else "algorithmicallyEnhanced") in card
    tags = registry.tags("photos", 1, Workspace(root))
    assert json.loads(tags["task"])["name"] == task_of(root)


def test_what_makes_images_from_noise_names_the_command_that_does_not(root: Path) -> None:
    for command in ("generate", "render"):
        assert "`ganflow apply` gives it photos" in refused(root, command, "--model", "1", "--out", "made")
    assert "has no champion" in refused(root, "apply", "data/coffee/000.png", "--out", "made")
    assert "postprocess.steps" in refused(root, "run", "--set", "postprocess.steps=[{name: sharpen}]")


# One task is enough: all write the same marks.
@pytest.mark.parametrize("root", ["super_resolve"], indirect=True)
@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_a_result_leads_to_its_input_its_model_and_its_data(
    form: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, photo = Workspace(root), root / "data" / "coffee" / "000.png"
    request = ApplyRequest.model_validate({"model": "1", "format": form})
    apply([str(photo)], str(tmp_path / "made"), request, None, Params.load(workspace.params), workspace)
    (result,) = (file for file in (tmp_path / "made").iterdir() if file.suffix != ".jsonl")
    found = trace(result, workspace)
    assert found.image.input == hashlib.sha256(photo.read_bytes()).hexdigest()
    assert found.image.task == "super_resolve"
    assert found.model.key == Model.load(workspace.model).key.id
    assert found.data is not None and found.data.nearest is None
    lines = dict(chain_of(found))
    assert "nearest" not in lines and "known by what is written in it" in lines["image"][-1]
    # Too large to be decoded, it is known by its marks alone.
    with monkeypatch.context() as patch:
        patch.setattr(picture, "MAX_PIXELS", 100)
        large = trace(result, workspace)
        assert (large.image.pixels, large.image.input) == (None, found.image.input)
        assert "too many pixels" in dict(chain_of(large))["image"][-1]
        assert "data:image" not in page(large, result, workspace).partition("<dl>")[0]
    # What somebody saved again has lost them.
    with Image.open(result) as image:
        image.convert("RGB").save(tmp_path / "again.jpg")
    with pytest.raises(NotThereError, match="was not made in"):
        trace(tmp_path / "again.jpg", workspace)


def evidence_of(root: Path, evaluation: Evaluation | None = None) -> TaskEvidence:
    workspace = Workspace(root)
    model, dataset = Model.load(workspace.model), Dataset.load(workspace.dataset)
    evaluation = evaluation or Evaluation.load(workspace.evaluation)
    return TaskEvidence.gather(Promote(), model, evaluation, dataset, None, workspace)


def checks(evidence: TaskEvidence, **options: Any) -> dict[str, Any]:
    return {check.name: check for check in task_vetoes(Promote.model_validate(options), evidence)}


# Only a repair knows pixels.
@pytest.mark.parametrize("root", ["inpaint"], indirect=True)
def test_known_pixels_that_change_are_found(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "artifacts" / "evaluation", tmp_path / "evaluation")
    evaluation = Evaluation.load(tmp_path / "evaluation")
    assert checks(evidence_of(root, evaluation))["known pixels"].passed
    samples = np.load(evaluation.folder / "samples.npy", mmap_mode="r+")
    given = np.load(evaluation.folder / "given.npy")
    # A corner that is no hole, by one grey level.
    row = next(row for row in range(len(given)) if (given[row, 0, 0] < 255).any())
    samples[row, 0, 0, 0] ^= 1
    samples.flush()
    found = checks(evidence_of(root, evaluation))["known pixels"]
    assert not found.passed and found.words.startswith("1 of ")


def test_too_few_files_leave_it_open(root: Path) -> None:
    evidence = evidence_of(root)
    assert evidence.files == evidence.samples == Evaluation.load(root / "artifacts" / "evaluation").samples
    few = checks(evidence, min_unseen_files=evidence.files + 1)["unseen files"]
    assert few.result == "UNSURE" and "too few to tell by" in few.words
    assert checks(evidence, min_unseen_files=evidence.files)["unseen files"].result == "passed"


def test_a_training_without_scores_before_the_game_is_said_to_be_unchecked(root: Path, tmp_path: Path) -> None:
    evidence = evidence_of(root)
    shutil.copytree(evidence.model.folder, tmp_path / "model")
    history = pd.read_csv(tmp_path / "model" / "history.csv")
    history.loc[history["images"] <= 128, "psnr"] = np.nan
    history.to_csv(tmp_path / "model" / "history.csv", index=False)
    model = evidence.model.model_copy(update={"folder": tmp_path / "model"})
    unchecked = TaskEvidence(**{**vars(evidence), "model": model})
    found = checks(unchecked)["smallest error"]
    assert found.result == "UNSURE" and found.words.startswith("not checked")


# --- over HTTP, without the project ---


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[str]:
    """The challenger, served by MLflow without the project's code."""
    with served_without_project(root, "models:/photos@challenger") as address:
        yield f"{address}/invocations"


def ask(address: str, request: dict[str, Any]) -> tuple[int, Any]:
    body = json.dumps(request).encode()
    asked = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=120) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def as_text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_pictures_come_back_over_http_and_bad_ones_are_refused(root: Path, server: str) -> None:
    repairs = task_of(root) == "inpaint"
    pixels = np.random.default_rng(0).integers(0, 256, (20, 31, 3), dtype=np.uint8)
    photo, hole = Image.fromarray(pixels), np.zeros((20, 31), np.uint8)
    hole[5:9, 4:20] = 255
    row = {"image": as_text(png(photo))} | ({"mask": as_text(png(Image.fromarray(hole)))} if repairs else {})

    def made(answer: Any) -> Image.Image:
        (prediction,) = answer["predictions"]
        return Image.open(io.BytesIO(base64.b64decode(prediction["image"])))

    status, answer = ask(server, {"dataframe_records": [row], "params": {"strength": 1.0}})
    assert status == 200, answer
    result = made(answer)
    assert result.size == (31, 20) if repairs else result.size == (62, 40)
    assert "algorithmicallyEnhanced" in result.info["XML:com.adobe.xmp"] or repairs
    if repairs:
        assert np.array_equal(np.asarray(result)[hole == 0], pixels[hole == 0])
        assert not np.array_equal(np.asarray(result), pixels)
    # This form leaves base64 as it is.
    status, answer = ask(server, {"inputs": {name: [value] for name, value in row.items()}})
    assert status == 200, answer
    assert np.array_equal(np.asarray(made(answer)), np.asarray(result))
    # Transparency stays.
    status, answer = ask(server, {"dataframe_records": [{**row, "image": as_text(png(photo.convert("RGBA")))}]})
    assert made(answer).mode == "RGBA"

    wide = Image.new("1", (20_000, 20_000))
    wrong: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({**row, "image": as_text(b"no picture")}, {}, "the image of row 0 is no picture that can be read"),
        ({**row, "image": as_text(png(photo)[:90])}, {}, "the image of row 0 is no picture"),
        ({**row, "image": as_text(png(wide))}, {}, "is too large"),
        (row, {"strength": 2.0}, "strength = 2.0 must be from 0 to 1"),
    ]
    if repairs:
        wrong.append(({"image": row["image"]}, {}, "row 0 has no mask"))
        wrong.append(({**row, "mask": as_text(png(photo.resize((5, 5))))}, {}, "make them one size"))
    else:
        wrong.append(({**row, "mask": row["image"]}, {}, "only repairs take"))
    for changed, params, words in wrong:
        status, answer = ask(server, {"dataframe_records": [changed], "params": params})
        assert status == 400 and words in json.dumps(answer), answer


# --- beside a champion ---


@pytest.fixture(scope="module")
def better(root: Path) -> Path:
    """The workspace after the model that learned nothing was made champion by hand, and another one was trained."""
    workspace = Workspace(root)
    assert champions.set_champion("photos", 1, None, workspace)
    published(root, *LEARNS[task_of(root)])
    return root


def test_one_that_learned_becomes_champion_by_files_of_which_both_were_given_the_same(better: Path) -> None:
    workspace = Workspace(better)
    verdict = Verdict.of(workspace)
    assert verdict is not None and verdict.champion == 1
    assert verdict.samples == Evaluation.load(workspace.evaluation).samples
    assert verdict.look_at_pair == 1 and verdict.error_by_held == 0
    assert verdict.low <= verdict.improvement <= verdict.high
    assert verdict.improvement == pytest.approx(verdict.kid_champion - verdict.kid_challenger)  # type: ignore[operator]
    page = text_of(workspace.verdict / "verdict.html")
    assert "Given Challenger, version 2 Champion, version 1 Original" in page
    if task_of(better) != "super_resolve":
        return
    # Half a minute teaches to enlarge better than what learned nothing; whether to repair better, not surely.
    assert (verdict.answer, verdict.failed) == ("promote", ())
    assert verdict.low > 0
    out = succeeded(ganflow(better, "apply", "data/coffee/000.png", "--out", "made"))
    assert "1 pictures in" in out
    with Image.open(better / "made" / "000.png") as image:
        assert image.info["ganflow:version"] == "photos 2"
    # Asked again it answers the same.
    again = run_gate(Params.load(workspace.params, list(LEARNS["super_resolve"])), workspace)
    assert again == verdict


def test_photos_unlike_those_of_the_training_are_told_from_those_that_are_like_them(
    better: Path, tmp_path: Path
) -> None:
    workspace = Workspace(better)
    params = Params.load(workspace.params, ["drift.min_images=25"])
    held = Split(workspace.dataset, "holdout", Dataset.load(workspace.dataset).image)
    # What is enlarged in training are shrunk pictures.
    rng, size = np.random.default_rng(0), 12 if task_of(better) == "super_resolve" else 24
    for name in ("like", "unlike"):
        (tmp_path / name).mkdir()
    for number, pixels in enumerate(held.pixels(np.arange(len(held)))[:30]):
        small = Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)
        small.save(tmp_path / "like" / f"{number}.png")
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(tmp_path / "unlike" / f"{number}.png")
    (tmp_path / "unlike" / "broken.png").write_bytes(b"\x89PNG broken")
    Image.new("RGB", (3, 3)).save(tmp_path / "unlike" / "small.png")
    like = given_drift([str(tmp_path / "like")], params, workspace)
    assert (like.new, like.used, like.drifted) == (30, 30, False)
    assert "look like what version" in like.message
    unlike = given_drift([str(tmp_path / "unlike")], params, workspace)
    assert (unlike.new, unlike.used, unlike.drifted) == (32, 30, True)
    assert "look unlike what version" in unlike.message
    few = given_drift([str(tmp_path / "like" / "0.png")], params, workspace)
    assert few.p_value is None and "too few to be judged" in few.message


def test_another_task_or_factor_needs_another_name(better: Path) -> None:
    workspace = Workspace(better)
    champion = champions.champion("photos", workspace)
    assert champion is not None
    image: ImageFormat = Model.load(workspace.model).image
    own = Model.load(workspace.model).training.task
    assert load_rival(champion, image, own).task == own
    for other in (SuperResolve(factor=4), Generate()):
        with pytest.raises(UserError, match=r"give it another register\.name"):
            load_rival(champion, image, other)


@pytest.mark.long
def test_dvc_and_the_command_make_the_same_of_a_task(tmp_path: Path, digits: tuple[Pixels, Pixels]) -> None:
    clone = Clone.made(tmp_path / "clone", digits)
    (clone.root / "params.yaml").write_text(
        "preprocess: {near_duplicates: false}\n"
        "train: {task: {name: super_resolve, factor: 2}, size: small, images: 256, batch: 16, log_every: 64, "
        "checkpoint_every: 128}\n"
        "evaluate: {samples: 100}\n"
        "postprocess: {images: 4}\n"
        "register: {name: ganflow}\n"
    )
    clone.commit("a task")
    out = clone("ganflow", "run")
    assert "in brackets what is made of the same inputs without a network" in out
    assert "ganflow apply --model 1 photo.jpg --out results" in out
    assert "Running" not in clone("dvc", "repro")
    assert "Nothing to do" in clone("ganflow", "run")
