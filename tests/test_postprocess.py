"""The gallery of an untrained network: what is written, that it is always the same, and that no name breaks it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from PIL import Image

from components import report
from components.artifacts import Dataset, Evaluation, Gallery, Key, Model
from components.gan.finishing import Curate, Draft, Repair, Tone, Upscale
from components.gan.models import build
from components.gan.options import DCGAN, Execution, ImageFormat, TrainingOptions, UserError
from components.gan.sampling import latents, sample
from components.params import Postprocess
from components.postprocess import contact_sheet, postprocess

HOSTILE = ("<script>alert(1)</script>", "../../etc", 'a "b" & c')
KEY = Key(options="0" * 64, inputs="1" * 64, code="2" * 64)
SAMPLES = 60
STEPS = (Curate(share=0.5), Repair(), Tone(contrast=1.1), Upscale(factor=2))
OPTIONS = Postprocess(images=24, steps=STEPS, interpolation_frames=4)
METRICS = {
    "agreement": 0.8125,
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
        generator = build(network, image).generator
        # Far from its start, where all images are the same grey.
        for parameter in generator.parameters():
            parameter.data.mul_(10)
    (folder / "generator.safetensors").write_bytes(safetensors.torch.save(dict(generator.state_dict())))
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
    np.save(folder / "samples.npy", sample(generator, latents(seeds.tolist(), 8), labels))
    chance = np.random.default_rng(0)
    table = {
        "seed": seeds,
        "label": labels,
        "predicted": labels,
        "confidence": chance.random(SAMPLES),
        "discriminator": chance.normal(size=SAMPLES),
    }
    pd.DataFrame(table).to_csv(folder / "samples.csv", index=False)
    Evaluation.describe(
        folder,
        KEY,
        metrics=METRICS,
        samples=SAMPLES,
        training_images=80,
        holdout_images=20,
        feature_net="4" * 64,
        holdout="5" * 64,
        model=model.content,
    )
    return Evaluation.load(folder), model, dataset


def contents(gallery: Gallery) -> dict[str, bytes]:
    return {p.relative_to(gallery.folder).as_posix(): p.read_bytes() for p in gallery.folder.rglob("*") if p.is_file()}


def test_a_gallery_is_a_function_of_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts = inputs(tmp_path)
    first = postprocess(OPTIONS, *artifacts, tmp_path / "gallery")
    second = postprocess(OPTIONS, *artifacts, tmp_path / "elsewhere" / "gallery")
    assert contents(first) == contents(second)
    assert str(tmp_path).encode() not in b"".join(contents(first).values())

    # The second call of the same neither reads its inputs again nor writes.
    before = (tmp_path / "gallery" / "gallery.json").stat()
    (artifacts[0].folder / "samples.npy").unlink()
    assert postprocess(OPTIONS, *artifacts, tmp_path / "gallery").content == first.content
    assert (tmp_path / "gallery" / "gallery.json").stat().st_mtime_ns == before.st_mtime_ns


def test_pictures_say_where_they_come_from(tmp_path: Path) -> None:
    evaluation, model, dataset = inputs(tmp_path)
    gallery = postprocess(OPTIONS, evaluation, model, dataset, tmp_path / "gallery")
    # 24 samples over 3 classes, of which curate keeps half.
    assert [sum(p.label == name for p in gallery.pictures) for name in HOSTILE] == [4, 4, 4]
    steps = ("curate", "repair", "tone", "upscale")
    for picture in gallery.pictures:
        assert re.fullmatch(r"images/[\w.-]*[\w]-\d+\.png", picture.file)
        assert picture.steps == steps
        with Image.open(gallery.folder / picture.file) as image:
            assert (image.size, image.mode) == ((32, 32), "RGB")
            assert image.text == {
                "Software": "ganflow",
                "ganflow:class": picture.label,
                "ganflow:model": model.key.id,
                "ganflow:seed": str(picture.seed),
                "ganflow:steps": ", ".join(steps),
            }
    with Image.open(gallery.folder / "interpolation.webp") as walk:
        assert (walk.n_frames, walk.info["loop"]) == (4, 0)


def test_the_report_is_complete_whole_and_escaped(tmp_path: Path) -> None:
    evaluation, model, dataset = inputs(tmp_path)
    gallery = postprocess(OPTIONS, evaluation, model, dataset, tmp_path / "gallery")
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
    for hash_ in (dataset.content, model.key.id, evaluation.key.id, evaluation.feature_net):
        assert hash_ in page
    for name in ("learning_rate_generator", "precision", "steps.4.factor"):
        assert name in page
    assert page.count("<svg") == 3
    assert page.count('class="before"') == 3


def test_grey_images_without_steps_or_walk(tmp_path: Path) -> None:
    evaluation, model, dataset = inputs(tmp_path, channels=1, classes=("one",))
    gallery = postprocess(
        Postprocess(images=5, interpolation_frames=0), evaluation, model, dataset, tmp_path / "gallery"
    )
    samples = np.load(evaluation.folder / "samples.npy")
    for picture, pixels in zip(gallery.pictures, samples, strict=False):
        with Image.open(gallery.folder / picture.file) as image:
            assert np.array_equal(np.asarray(image), pixels[:, :, 0])
    assert len(gallery.pictures) == 5
    assert not (gallery.folder / "interpolation.webp").exists()
    page = (gallery.folder / "report.html").read_text()
    assert "Before and after" not in page
    assert "Between the images" not in page


def test_damaged_inputs_are_named(tmp_path: Path) -> None:
    evaluation, model, dataset = inputs(tmp_path)
    path = model.folder / "generator.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(UserError, match=r"generator\.safetensors does not have the recorded hash"):
        postprocess(OPTIONS, evaluation, model, dataset, tmp_path / "gallery")
    assert not (tmp_path / "gallery").exists()


@pytest.mark.parametrize("classes", [1, 3, 20, 21, 57, 1000])
@pytest.mark.parametrize("size", [8, 28, 64, 300])
def test_a_contact_sheet_stays_within_bounds(classes: int, size: int) -> None:
    pixels = np.zeros((size, size, 3), np.uint8)
    drafts = [Draft(pixels, 0, label, {}) for label in range(classes) for _ in range(12 if classes < 30 else 2)]
    sheet = contact_sheet(drafts, [f"class {label} with a rather long name" for label in range(classes)])
    assert sheet.width <= 1800
    assert sheet.height <= 3800


def test_a_score_stands_beside_its_floor() -> None:
    rows = list(report.scores(METRICS))
    assert [row["name"] for row in rows] == [
        "agreement",
        "fd_classifier_60",
        "kid_classifier_60",
        "psnr_nearest_20",
        "sharpness_60",
    ]
    assert (rows[1]["value"], rows[1]["floor"]) == ("161.5", "3.9")
    assert rows[0]["floor"] is None
    assert [row["name"] for row in report.scores({"odd_floor": 1.0})] == ["odd_floor"]


def test_curves_take_what_a_short_history_has() -> None:
    history = pd.DataFrame(
        {"images": [10], "discriminator_accuracy": [0.5], "discriminator_loss": [1.0], "generator_loss": [1.0]}
    )
    assert [title for title, _, _ in report.curves(history, 10)] == ["Losses", "Discriminator accuracy"]
