"""Scores and their names: every name that an evaluation writes or wrote is read, and displayed as it was."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.measures import copies
from components.reports.scores import explanations
from components.workspace.scores import METRICS, SPLITS, Images, Score, Scores, read_name

# Each of those that an evaluation writes, with and without labels.
NAMES = {
    "agreement_classifier_8k": Score("agreement", 0, 8000, "classifier"),
    "class_score_classifier_8k_floor": Score("class_score", 0, 8000, "classifier", images="floor"),
    "classification_accuracy_2k": Score("classification_accuracy", 0, 2000),
    "copied_classifier_1500_canaries": Score("copied", 0, 1500, "classifier", images="control"),
    **{
        f"copied_{kind}_pixels_32_canaries": Score("copied", 0, 32, "pixels", split=kind, images="control")
        for kind in copies.KINDS
    },
    "copied_pixels_1k": Score("copied", 0, 1000, "pixels"),
    "coverage_efficientnet_lite0_2k": Score("coverage", 0, 2000, "efficientnet_lite0"),
    "density_classifier_2k": Score("density", 0, 2000, "classifier"),
    "discriminator_accuracy_generated_8k": Score("discriminator_accuracy", 0, 8000, split="generated"),
    "discriminator_auc_holdout_2k": Score("discriminator_auc", 0, 2000, split="holdout"),
    "discriminator_accuracy_holdout_2k": Score("discriminator_accuracy", 0, 2000, split="holdout"),
    "discriminator_calibration_error_2k": Score("discriminator_calibration_error", 0, 2000),
    "fd_classifier_50k": Score("fd", 0, 50_000, "classifier"),
    "fd_holdout_efficientnet_lite0_139_floor": Score(
        "fd", 0, 139, "efficientnet_lite0", split="holdout", images="floor"
    ),
    "fd_infinity_classifier_2k": Score("fd_infinity", 0, 2000, "classifier"),
    "kid_efficientnet_lite0_5k_floor": Score("kid", 0, 5000, "efficientnet_lite0", images="floor"),
    "kid_fid_inception_50k": Score("kid", 0, 50_000, "fid_inception"),
    "membership_discriminator_2k": Score("membership", 0, 2000, "discriminator"),
    "msssim_class_1999": Score("msssim", 0, 1999, split="class"),
    "precision_classifier_2k": Score("precision", 0, 2000, "classifier"),
    "psnr_nearest_1k": Score("psnr_nearest", 0, 1000),
    "recall_classifier_2k": Score("recall", 0, 2000, "classifier"),
    "reconstruction_auc_32": Score("reconstruction_auc", 0, 32),
    "ssim_nearest_1k_floor": Score("ssim_nearest", 0, 1000, images="floor"),
    # Of image tasks.
    "colourfulness_500_brightness_colours": Score("colourfulness", 0, 500, images="brightness_colours"),
    "consistency_500_bicubic": Score("consistency", 0, 500, images="bicubic"),
    "perceptual_efficientnet_lite0_500_input": Score("perceptual", 0, 500, "efficientnet_lite0", images="input"),
    "perceptual_gain_classifier_500_fill": Score("perceptual_gain", 0, 500, "classifier", images="fill"),
    "truth_efficientnet_lite0_300_reinhard": Score("truth", 0, 300, "efficientnet_lite0", images="reinhard"),
    "kid_wanted_efficientnet_lite0_300_reinhard": Score("kid_wanted", 0, 300, "efficientnet_lite0", images="reinhard"),
    "kid_wanted_gain_efficientnet_lite0_300_input": Score(
        "kid_wanted_gain", 0, 300, "efficientnet_lite0", images="input"
    ),
    "cycle_efficientnet_lite0_300": Score("cycle", 0, 300, "efficientnet_lite0"),
    "identity_efficientnet_lite0_300": Score("identity", 0, 300, "efficientnet_lite0"),
    "psnr_300_nearest": Score("psnr", 0, 300, images="nearest"),
    "psnr_500_lanczos_sharpened": Score("psnr", 0, 500, images="lanczos_sharpened"),
    "psnr_hole_500_fill": Score("psnr_hole", 0, 500, images="fill"),
    "psnr_median_500": Score("psnr_median", 0, 500),
    "psnr_y_2k_sharpened": Score("psnr_y", 0, 2000, images="sharpened"),
    "ssim_500_grey": Score("ssim", 0, 500, images="grey"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_protocol_and_a_protocol_is_a_name(name: str) -> None:
    assert read_name(name, 0) == NAMES[name]
    assert NAMES[name].name == name


@given(
    metric=st.sampled_from(METRICS),
    split=st.sampled_from(["", *SPLITS]),
    features=st.sampled_from(["", "classifier", "efficientnet_lite0", "pixels", "fid_inception"]),
    n=st.integers(1, 10**7),
    images=st.sampled_from(get_args(Images)),
)
def test_every_protocol_is_read_from_its_name(metric: str, split: str, features: str, n: int, images: str) -> None:
    score = Score(metric, 0.5, n, features, split, images, 0.4, 0.6)  # type: ignore[arg-type]
    assert read_name(score.name, 0.5, 0.4, 0.6) == score


@given(st.one_of(st.text(), st.from_regex(r"[a-z]{1,4}(_[a-z0-9]{0,3}){0,4}(_floor|_canaries)?", fullmatch=True)))
def test_whatever_a_name_is_it_is_displayed_as_it_was(name: str) -> None:
    assert read_name(name, 1.0).name == name


def test_a_score_stands_beside_floor_and_control_of_its_protocol() -> None:
    metrics = {
        "copied_pixels_20": 0.1,
        "copied_pixels_20_canaries": 0.9,
        "copied_pixels_20_floor": 0.02,
        "copied_x_20": 0.3,
        "copied_x_40_floor": 0.4,
    }
    scores = Scores.read(metrics, {"copied_pixels_20": (0.05, 0.2), "copied_pixels_20_floor": (0.0, 0.1)})
    assert scores.metrics == metrics
    assert scores.intervals == {"copied_pixels_20": (0.05, 0.2), "copied_pixels_20_floor": (0.0, 0.1)}
    pixels, other, alone = scores.compared()
    assert pixels.score.interval == (0.05, 0.2)
    assert pixels.floor and pixels.control and (pixels.floor.value, pixels.control.value) == (0.02, 0.9)
    assert (other.score.value, other.floor, other.control) == (0.3, None, None)
    assert alone.score.name == "copied_x_40_floor"
    assert [found.score.name for found in scores.of_metric("copied", "x")] == ["copied_x_20"]


def test_every_metric_is_explained_and_every_explanation_is_of_a_metric() -> None:
    explained = {next(each for each in explanations() if each.explains(score)) for score in NAMES.values()}
    assert explained == {*explanations()}
    assert {score.metric for score in NAMES.values()} == {*METRICS}
