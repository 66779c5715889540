"""The gallery of an untrained network: what is written, that it is always the same, and that no name breaks it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from PIL import Image

from components.gan.dataset import Split
from components.gan.errors import UserError
from components.gan.models import build
from components.gan.network_options import DCGAN
from components.gan.options import Execution, ImageFormat, TrainingOptions
from components.gan.sampling import sample, seeded
from components.pictures import metadata
from components.pictures.finishing import Curate, Draft, FinishingStep, Repair, Step, Tone, Upscale
from components.postprocess import contact_sheet, postprocess, save
from components.reports import gallery_report, sections
from components.reports.scores import rating, score_rows
from components.workspace.artifacts import Dataset, Evaluation, Gallery, Key, Model
from components.workspace.graph import key_of, stage_named
from components.workspace.params import Params, Postprocess
from components.workspace.scores import Scores
from components.workspace.workspace import Workspace
from flows.runner import run_stage
from tests.conftest import ganflow, succeeded

HOSTILE = ("<script>alert(1)</script>", "../../etc", 'a "b" & c')
KEY = Key(options="0" * 64, inputs="1" * 64, code="2" * 64)
SAMPLES = 60
STEPS = (Curate(share=0.5), Repair(), Tone(contrast=1.1), Upscale(factor=2))
OPTIONS = Postprocess(images=24, steps=STEPS, interpolation_frames=4)
METRICS = {
    "agreement_classifier_60": 0.8125,
    "agreement_classifier_60_floor": 0.9,
    "copied_pixels_20": 0.0,
    "copied_pixels_20_canaries": 0.97,
    "copied_pixels_20_floor": 0.01,
    "fd_classifier_60": 161.4528,
    "fd_classifier_60_floor": 3.9345,
    "kid_classifier_60": -0.00214,
    "kid_classifier_60_floor": 10.096,
    "psnr_nearest_20": 13.81,
    "psnr_nearest_20_floor": 15.99,
    "sharpness_60": 12345.6,
}


def inputs(root: Path, channels: int = 3, classes: tuple[str, ...] = HOSTILE) -> tuple[Evaluation, Model, Dataset]:
    """The artifacts of an untrained network that makes images of 16x16."""
    image = ImageFormat(height=16, width=16, channels=channels, classes=classes)
    folder = root / "dataset"
    folder.mkdir(parents=True)
    chance = np.random.default_rng(1)
    for split, count in (("training", 80), ("holdout", 20)):
        np.save(folder / f"{split}-00000.npy", chance.integers(0, 256, (count, *image.shape), np.uint8))
        np.save(folder / f"{split}-labels.npy", np.arange(count) % len(classes))
    rejected = [(f"<b>{index}</b>.png", "not an image") for index in range(60)]
    pd.DataFrame(rejected, columns=["path", "reason"]).to_csv(folder / "rejected.csv", index=False)
    Dataset.describe(
        folder,
        KEY,
        image=image,
        splits={"training": 80, "holdout": 20},
        class_counts={"training": dict.fromkeys(classes, 27), "holdout": dict.fromkeys(classes, 7)},
        mean=(0.5,) * channels,
        std=(0.5,) * channels,
        rejected=60,
        duplicates=0,
        source="3" * 64,
    )
    dataset = Dataset.load(folder)

    folder = root / "model"
    folder.mkdir()
    network = DCGAN(latent=8, generator_width=4, discriminator_width=4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator, discriminator = build(network, image)
        # Far from its start, where all images are the same grey.
        for parameter in generator.parameters():
            parameter.data.mul_(10)
    for name, player in (("generator", generator), ("discriminator", discriminator)):
        (folder / f"{name}.safetensors").write_bytes(safetensors.torch.save(dict(player.state_dict())))
    history = {
        "images": [100, 200, 300],
        "discriminator_accuracy": [0.5, 0.7, 0.8],
        "discriminator_loss": [1.4, 1.2, 1.1],
        "generator_loss": [0.7, 0.8, 0.9],
        "score": [None, 400.0, 20.0],
    }
    pd.DataFrame(history).to_csv(folder / "history.csv", index=False)
    Model.describe(
        folder,
        KEY,
        training=TrainingOptions(network=network, images=300),
        image=image,
        execution=Execution(workers=1, threads=2, device="cpu", precision="fp32"),
        images=300,
        score=20.0,
        generator_parameters=1,
        discriminator_parameters=1,
        dataset=dataset.content,
    )
    model = Model.load(folder)

    folder = root / "evaluation"
    folder.mkdir()
    labels = np.arange(SAMPLES) * 7 % len(classes)
    seeds = np.arange(SAMPLES) + 500
    np.save(folder / "samples.npy", sample(generator, seeded(seeds.tolist(), labels, 8)))
    chance = np.random.default_rng(0)
    table = {"seed": seeds, "label": labels, "discriminator": chance.normal(size=SAMPLES)}
    if image.labelled:
        table |= {"predicted": labels, "confidence": chance.random(SAMPLES)}
    pd.DataFrame(table).to_csv(folder / "samples.csv", index=False)
    Evaluation.describe(
        folder,
        KEY,
        metrics=METRICS,
        intervals={},
        samples=SAMPLES,
        training_images=80,
        holdout_images=20,
        feature_net="4" * 64,
        holdout="5" * 64,
        model=model.content,
    )
    return Evaluation.load(folder), model, dataset


NAMESPACES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "iptc": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
}


def told_by(image: Image.Image) -> dict[str, str]:
    """What the XMP in a picture's file says of where it comes from, after a check that it is marked as generated."""
    about = ElementTree.fromstring(image.info["xmp"]).find("rdf:RDF/rdf:Description", NAMESPACES)
    assert about is not None
    kind = about.findtext("iptc:DigitalSourceType", namespaces=NAMESPACES)
    assert kind == "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    facts = {e.tag.removeprefix("{urn:ganflow:}"): e.text or "" for e in about if e.tag.startswith("{urn:ganflow:}")}
    assert not re.search(r"\d{4}-\d\d-\d\d", " ".join(facts.values()))
    return facts


def finish(
    options: Postprocess, evaluation: Evaluation, model: Model, dataset: Dataset, workspace: Workspace
) -> Gallery:
    key = key_of(stage_named("postprocess"), options, evaluation, model, dataset)
    return postprocess(options, evaluation, model, dataset, key, workspace)


def contents(gallery: Gallery) -> dict[str, bytes]:
    return {p.relative_to(gallery.folder).as_posix(): p.read_bytes() for p in gallery.folder.rglob("*") if p.is_file()}


def test_a_gallery_is_a_function_of_its_key(tmp_path: Path) -> None:
    artifacts = inputs(tmp_path / "artifacts")
    workspace = Workspace(tmp_path)
    first = finish(OPTIONS, *artifacts, workspace)
    second = finish(OPTIONS, *artifacts, Workspace(tmp_path / "elsewhere"))
    assert contents(first) == contents(second)
    assert str(tmp_path).encode() not in b"".join(contents(first).values())

    # The second call of the same neither reads its inputs again nor writes.
    before = (first.folder / "gallery.json").stat()
    (artifacts[0].folder / "samples.npy").write_bytes(b"x" * (artifacts[0].folder / "samples.npy").stat().st_size)
    assert run_stage("postprocess", Params(postprocess=OPTIONS), workspace).content == first.content
    assert (first.folder / "gallery.json").stat().st_mtime_ns == before.st_mtime_ns


def test_pictures_say_where_they_come_from(tmp_path: Path) -> None:
    evaluation, model, dataset = inputs(tmp_path)
    gallery = finish(OPTIONS, evaluation, model, dataset, Workspace(tmp_path))
    # 24 samples over 3 classes, of which curate keeps half.
    assert [sum(p.label == name for p in gallery.pictures) for name in HOSTILE] == [4, 4, 4]
    steps = ("curate", "repair", "tone", "upscale")
    keys = {"model": model.key.id, "evaluation": evaluation.key.id, "gallery": gallery.key.id}
    for picture in gallery.pictures:
        assert re.fullmatch(r"images/[\w.-]*[\w]-\d+\.png", picture.file)
        assert picture.steps == steps
        with Image.open(gallery.folder / picture.file) as image:
            assert (image.size, image.mode) == ((32, 32), "RGB")
            own = {"class": picture.label, "seed": str(picture.seed), "steps": ", ".join(steps)}
            assert told_by(image) == {**keys, **own}
            text = {name: value for name, value in image.text.items() if name != "XML:com.adobe.xmp"}
            assert text == {"Software": "ganflow"} | {
                f"ganflow:{name}": value for name, value in {**keys, **own}.items()
            }
    with Image.open(gallery.folder / "contact_sheet.png") as sheet:
        assert told_by(sheet) == keys
        assert sheet.text["ganflow:gallery"] == gallery.key.id
    with Image.open(gallery.folder / "interpolation.webp") as walk:
        assert (walk.n_frames, walk.info["loop"]) == (4, 0)
        assert told_by(walk) == keys


def test_the_report_is_complete_whole_and_escaped(tmp_path: Path) -> None:
    evaluation, model, dataset = inputs(tmp_path)
    gallery = finish(OPTIONS, evaluation, model, dataset, Workspace(tmp_path))
    page = (gallery.folder / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<b>" not in page
    assert "&lt;b&gt;49&lt;/b&gt;.png" in page
    assert "&lt;b&gt;50&lt;/b&gt;.png" not in page
    assert "60 files rejected" in page
    # Nothing is fetched: links and sources are data, or none.
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(source.startswith(("data:image/", "#")) for source in sources)
    for text in (
        "161.5",
        "3.9",
        "81.2%",
        "13.8 dB",
        "16.0 dB",
        "\u22120.00214",
        "sharpness 60",
        "12,346",
        "12 of 24 samples",
    ):
        assert text in page
    for hash_ in (dataset.content, model.key.id, evaluation.key.id, gallery.key.id, evaluation.feature_net):
        assert hash_ in page
    for name in ("learning_rate_generator", "precision", "steps.4.factor"):
        assert name in page
    assert page.count("<svg") == 3
    assert page.count('class="before"') == 3
    for title in ("Class by class", "The worst and the best", "Is it making them up?", "What it varies", "looks at"):
        assert title in page
    assert (
        "Fair.</strong> 81.2% of the samples show the class asked for (real images 90.0%), below what real images get;"
        in page
    )
    assert "no sign of copies (0.0%" in page
    assert page.count('class="walked"') == 3
    assert len(page) < 3_000_000


def test_grey_images_without_steps_or_walk(tmp_path: Path) -> None:
    evaluation, model, dataset = inputs(tmp_path, channels=1, classes=("one",))
    options = Postprocess(images=5, interpolation_frames=0)
    gallery = finish(options, evaluation, model, dataset, Workspace(tmp_path))
    samples = np.load(evaluation.folder / "samples.npy")
    for picture, pixels in zip(gallery.pictures, samples, strict=False):
        with Image.open(gallery.folder / picture.file) as image:
            assert np.array_equal(np.asarray(image), pixels[:, :, 0])
    assert len(gallery.pictures) == 5
    assert not (gallery.folder / "interpolation.webp").exists()
    page = (gallery.folder / "report.html").read_text()
    assert "Before and after" not in page
    assert "Between the images" not in page
    assert "Class by class" not in page
    assert "the discriminator's logit" in page.replace("&#39;", "'")


def test_damaged_inputs_are_named(tmp_path: Path) -> None:
    evaluation, model, dataset = inputs(tmp_path)
    path = model.folder / "generator.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(UserError, match=r"generator\.safetensors does not have the recorded hash"):
        finish(OPTIONS, evaluation, model, dataset, Workspace(tmp_path))
    assert not Workspace(tmp_path).gallery.exists()


@pytest.mark.parametrize("classes", [1, 3, 20, 21, 57, 1000])
@pytest.mark.parametrize("size", [8, 28, 64, 300])
def test_a_contact_sheet_stays_within_bounds(classes: int, size: int) -> None:
    pixels = np.zeros((size, size, 3), np.uint8)
    drafts = [Draft(pixels, 0, label, {}) for label in range(classes) for _ in range(12 if classes < 30 else 2)]
    sheet = contact_sheet(drafts, [f"class {label} with a rather long name" for label in range(classes)])
    assert sheet.width <= 1800
    assert sheet.height <= 3800


def test_a_score_stands_beside_its_floor() -> None:
    rows = score_rows(Scores.read(METRICS))
    assert [row.name for row in rows] == [
        "agreement_classifier_60",
        "fd_classifier_60",
        "kid_classifier_60",
        "copied_pixels_20",
        "psnr_nearest_20",
        "sharpness_60",
    ]
    assert (rows[1].value, rows[1].floor) == ("161.5", "3.9")
    assert "97% were found" in rows[3].text
    assert rows[5].floor is None
    assert [row.name for row in score_rows(Scores.read({"odd_floor": 1.0}))] == ["odd_floor"]


def test_curves_take_what_a_short_history_has() -> None:
    history = pd.DataFrame(
        {"images": [10], "discriminator_accuracy": [0.5], "discriminator_loss": [1.0], "generator_loss": [1.0]}
    )
    assert [title for title, _, _ in gallery_report.curves(history, 10)] == ["Losses", "Discriminator accuracy"]


EVERY_STEP: list[Step] = [step() for step in get_args(get_args(FinishingStep)[0])]


@pytest.mark.parametrize(
    "steps", [*([step] for step in EVERY_STEP), EVERY_STEP, EVERY_STEP[::-1]], ids=lambda s: "-".join(x.name for x in s)
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_marks_are_kept_through_every_step(tmp_path: Path, steps: Sequence[Step], channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, channels), np.uint8)
    drafts = [Draft(pixels, 7, 0, {"confidence": 0.5, "discriminator": 0.0})]
    for number in range(len(steps) + 1):
        # After no step, after each, and after all.
        if number:
            drafts = steps[number - 1].apply(drafts)
        (tmp_path / str(number)).mkdir()
        (picture,) = save(drafts, ("<&>",), {"gallery": "g"}, tmp_path / str(number))
        names = ", ".join(step.name for step in steps[:number])
        with Image.open(tmp_path / str(number) / picture.file) as image:
            assert told_by(image) == {"gallery": "g", "class": "<&>", "seed": "7", "steps": names}
            assert {k: v for k, v in image.text.items() if k.startswith("ganflow:")} == {
                "ganflow:gallery": "g",
                "ganflow:class": "<&>",
                "ganflow:seed": "7",
                "ganflow:steps": names,
            }


def test_samples_that_were_asked_for_are_marked_too(finished: Path, tmp_path: Path) -> None:
    options = ("--n", "2", "--seed", "5", "--class", "7", "--truncation", "0.5")
    succeeded(ganflow(finished, "sample", *options, "--out", str(tmp_path / "made")))
    model = Model.load(finished / "artifacts" / "model").key.id
    for seed in ("5", "6"):
        with Image.open(tmp_path / "made" / f"7-{seed}.png") as image:
            assert told_by(image) == {"model": model, "class": "7", "seed": seed, "truncation": "0.5", "steps": ""}
            assert image.text["ganflow:seed"] == seed


def test_no_class_name_breaks_the_marks(tmp_path: Path) -> None:
    names = ("\x01bell", "\udcff lone", "\u3042 kana", "]]> & <x>", "\U0001f600")
    for number, name in enumerate(names):
        Image.new("L", (4, 4)).save(tmp_path / f"{number}.png", pnginfo=metadata.png_text({"class": name}))
        with Image.open(tmp_path / f"{number}.png") as image:
            written = name.replace("\x01", "\ufffd").replace("\udcff", "\ufffd")
            assert told_by(image) == {"class": written}
            assert image.text["ganflow:class"] == written


def scored(root: Path, conditional: bool = True, classes: tuple[str, ...] = ("a", "b", "c")) -> sections.Samples:
    """The samples of a labelled evaluation, of a network that was told the classes or not."""
    evaluation, model, _ = inputs(root, classes=classes)
    network = model.training.network.model_copy(update={"conditional": conditional})
    training = model.training.model_copy(update={"network": network})
    return sections.Samples(evaluation, model.model_copy(update={"training": training}))


def test_classes_are_counted_by_what_was_asked_for(tmp_path: Path) -> None:
    samples = scored(tmp_path)
    # Of 20 samples of b three are taken for c, one for a.
    of_b = samples.table.index[samples.table["label"] == 1]
    samples.table.loc[of_b[:3], "predicted"] = 2
    samples.table.loc[of_b[3], "predicted"] = 0
    rows = samples.classes_shown([0.5, 0.25, 0.25])
    assert [(row.name, row.samples, row.recognised, row.mistaken) for row in rows] == [
        ("a", 20, 1.0, ""),
        ("b", 20, pytest.approx(0.8), "c (15.0%)"),
        ("c", 20, 1.0, ""),
    ]
    assert all(row.strip for row in rows)


def test_classes_of_an_unconditional_network_are_those_seen(tmp_path: Path) -> None:
    samples = scored(tmp_path, conditional=False)
    assert samples.by == "discriminator"
    samples.table["predicted"] = [0] * 45 + [2] * 15
    rows = samples.classes_shown([0.5, 0.25, 0.25])
    assert [(row.samples, row.share, row.expected, row.recognised) for row in rows] == [
        (45, 0.75, 0.5, None),
        (0, 0.0, 0.25, None),
        (15, 0.25, 0.25, None),
    ]
    assert rows[1].strip is None


def test_of_many_classes_the_worst_are_shown(tmp_path: Path) -> None:
    samples = scored(tmp_path, classes=tuple(f"class {i}" for i in range(60)))
    samples.table.loc[samples.table["label"] >= 40, "predicted"] = 0
    rows = samples.classes_shown([1 / 60] * 60)
    assert len(rows) == sections.ROWS
    assert [row.name for row in rows][-20:] == [f"class {i}" for i in range(40, 60)]


def test_the_worst_are_the_worst_of_all_and_the_best_of_each_class(tmp_path: Path) -> None:
    samples = scored(tmp_path)
    confidence = samples.table["confidence"]
    worst, best = samples.worst(), samples.best()
    assert len(worst) == len(best) == sections.EXTREMES
    assert [tile.caption.split(": ")[1] for tile in worst] == [f"{c:.1%}" for c in confidence.nsmallest(12)]
    for label, name in enumerate(samples.classes):
        of_class = confidence[samples.table["label"] == label]
        shown = [tile.caption for tile in best if tile.caption.startswith(name)]
        assert shown == [f"{name}: {c:.1%}" for c in of_class.nlargest(4)]


def test_a_copy_is_found_beside_its_original(tmp_path: Path) -> None:
    _, model, dataset = inputs(tmp_path, classes=("a", "b"))
    training = Split(dataset.folder, "training", model.image)
    (original,) = training.pixels(np.array([31]))
    noisy = (original ^ 1).astype(np.uint8)
    grey = np.full_like(original, 128)
    drafts = [
        Draft(pixels, seed, label, {}) for seed, (label, pixels) in enumerate([(0, grey), (0, original), (1, noisy)])
    ]
    found = sections.neighbours(drafts, training, ("a", "b"))
    assert [tile.caption.split(": ")[0] for tile in found] == ["a", "a", "b"]
    assert found[0].caption == "a: identical"
    assert found[0].pictures[0] == found[0].pictures[1] == found[2].pictures[1]
    assert found[2].caption == "b: 48.1 dB"


def test_saliency_is_orange_where_it_is_highest() -> None:
    heat = np.zeros((28, 28))
    heat[10:14, 10:14] = 1
    for channels in (1, 2, 3, 4, 5):
        painted = sections.overlaid(np.full((28, 28, channels), 128, np.uint8), heat)
        assert painted.shape == (28, 28, 3)
        red, _, blue = painted[11, 11].astype(int)
        assert red - blue > 100
        assert len(set(painted[25, 25])) == 1
    assert sections.overlaid(np.zeros((8, 8, 1), np.uint8), np.zeros((8, 8))).max() == 30


GOOD = {"agreement_x_1k": 0.95, "agreement_x_1k_floor": 0.96, "precision_x_1k": 0.87, "precision_x_1k_floor": 0.89}
GOOD |= {"recall_x_1k": 0.85, "recall_x_1k_floor": 0.9, "copied_pixels_500": 0.0, "copied_pixels_500_floor": 0.01}


@pytest.mark.parametrize(
    ("change", "word", "words"),
    [
        ({}, "Good", "no sign of copies"),
        (
            {"agreement_x_1k": 0.85},
            "Fair",
            "85.0% of the samples show the class asked for (real images 96.0%), below what",
        ),
        (
            {"precision_x_1k": 0.3},
            "Poor",
            "realism far below what real images get (precision 30.0%, real images 89.0%)",
        ),
        ({"recall_x_1k": 0.6}, "Fair", "variety below what real images get (recall 60.0%, real images 90.0%)"),
        (
            {"recall_x_1k": 0.0, "recall_x_1k_floor": 0.0},
            "Poor",
            "variety within what real images get, as far as so few",
        ),
        ({"copied_pixels_500": 0.3}, "Poor", "copies of training images (30.0% of"),
        ({"recall_x_8k": 0.0}, "Good", "variety a little below what real images get (recall 85.0%"),
    ],
)
def test_the_verdict_is_that_of_the_worst_answer(change: dict[str, float], word: str, words: str) -> None:
    found = rating(Scores.read({**GOOD, **change}), conditional=True)
    assert found is not None
    assert found.word == word
    assert words in found.reason


def test_a_network_that_was_told_no_class_is_not_blamed_for_it() -> None:
    assert rating(Scores.read({"agreement_x_1k": 0.1, "agreement_x_1k_floor": 0.9}), conditional=False) is None
    assert rating(Scores.read({**GOOD, "agreement_x_1k": 0.1}), conditional=False) is not None


def test_intervals_stand_beside_their_value_in_its_form() -> None:
    rows = {row.name: row for row in score_rows(Scores.read(METRICS, {"agreement_classifier_60": (0.79, 0.835)}))}
    assert rows["agreement_classifier_60"].interval == ["79.0%", "83.5%"]
    assert rows["psnr_nearest_20"].interval == []


def test_metrics_by_other_names_are_explained() -> None:
    names = ("density", "coverage", "class_score", "msssim", "discriminator_calibration")
    names += ("membership", "fd_classifier", "kid_classifier")
    rows = score_rows(Scores.read({f"{name}_2k": 0.5 for name in names}))
    assert len(rows) == len(names)
    assert all(row.text for row in rows)
