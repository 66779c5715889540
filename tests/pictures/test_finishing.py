"""Each finishing step by an identity or by what it must improve, on real digits and on colour images."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from components.gan.errors import UserError
from components.pictures.finishing import (
    Color,
    Curate,
    Denoise,
    Draft,
    FinishingStep,
    ImageStep,
    Repair,
    Sharpen,
    Tone,
    Upscale,
)
from tests.conftest import Pixels

IMAGE_STEPS: list[ImageStep] = [
    Repair(),
    Denoise(),
    Denoise(method="nlm"),
    Tone(brightness=1.1, contrast=1.2, gamma=0.8),
    Color(warmth=0.5, tint=-0.3, saturation=1.5),
    Upscale(factor=2),
    Sharpen(),
]
NEUTRAL: list[ImageStep] = [Tone(), Color(), Denoise(strength=0), Sharpen(amount=0)]


def identity(step: ImageStep) -> str:
    return "-".join(str(value) for value in step.model_dump().values())


def noise(channels: int, height: int = 8, width: int = 11) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


def gradient(channels: int, size: int = 32) -> Pixels:
    """A smooth image with one edge."""
    values = np.linspace(40, 120, size)[:, None] + np.where(np.arange(size) < size // 2, 0, 90)
    return np.repeat(values[:, :, None], channels, 2).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("step", IMAGE_STEPS, ids=identity)
def test_any_size_keeps_type_and_channels_and_is_deterministic(step: ImageStep, channels: int) -> None:
    for pixels in (noise(channels), noise(channels, 8, 8), gradient(channels)):
        # As Pillow's arrays are: a step may follow any other.
        pixels.setflags(write=False)
        finished = step.finish(pixels)
        factor = step.factor if isinstance(step, Upscale) else 1
        assert finished.shape == (pixels.shape[0] * factor, pixels.shape[1] * factor, channels)
        assert finished.dtype == np.uint8
        assert np.array_equal(finished, step.finish(pixels))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("step", NEUTRAL, ids=identity)
def test_neutral_settings_change_nothing(step: ImageStep, channels: int) -> None:
    assert np.array_equal(step.finish(noise(channels)), noise(channels))


def test_tone_goes_the_way_it_says() -> None:
    image = gradient(3)
    assert Tone(brightness=1.2).finish(image).mean() > image.mean()
    assert Tone(contrast=1.3).finish(image).std() > image.std()
    assert Tone(gamma=0.5).finish(image).mean() > image.mean()


def test_color_turns_red_up_and_blue_down_at_equal_luma() -> None:
    image = np.full((8, 8, 3), 120, np.uint8)
    red, green, blue = Color(warmth=1).finish(image).mean((0, 1))
    assert red > 120 > blue
    assert 0.299 * red + 0.587 * green + 0.114 * blue == pytest.approx(120, abs=1)
    grey = Color(saturation=0).finish(noise(3))
    assert np.array_equal(grey[:, :, 0], grey[:, :, 2])
    assert np.array_equal(Color(warmth=1, saturation=0).finish(noise(1)), noise(1))


@pytest.mark.parametrize("method", ["tv", "nlm"])
@pytest.mark.parametrize("channels", [1, 3])
def test_denoise_comes_closer_to_the_clean_image(method: str, channels: int) -> None:
    clean = gradient(channels).astype(float)
    noisy = np.clip(clean + np.random.default_rng(0).normal(0, 15, clean.shape), 0, 255).astype(np.uint8)
    finished = Denoise(method=method, strength=0.08).finish(noisy)
    assert np.square(finished - clean).mean() < 0.6 * np.square(noisy - clean).mean()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("value", [0, 255])
def test_repair_takes_out_a_planted_speck(channels: int, value: int) -> None:
    clean = gradient(channels)
    planted = clean.copy()
    planted[12, 5] = value
    planted[20:22, 25, 0] = 255 - clean[20:22, 25, 0]
    error = np.abs(Repair(threshold=0.15).finish(planted).astype(int) - clean)
    assert np.abs(planted.astype(int) - clean).max() > 40
    assert error.max() <= 6


def test_repair_leaves_real_digits_nearly_alone(digits: tuple[Pixels, Pixels]) -> None:
    real = digits[0][:200, :, :, None]
    repaired = np.stack([Repair().finish(pixels) for pixels in real])
    assert (repaired != real).mean() < 1e-4


def test_sharpen_steepens_edges() -> None:
    def steepest(image: Pixels) -> int:
        return int(np.abs(np.diff(image.astype(int), axis=1)).max())

    image = Denoise(strength=0.3).finish(gradient(1))
    assert steepest(Sharpen(amount=1).finish(image)) > steepest(image)


def test_upscale_keeps_a_flat_image_and_refuses_the_enormous() -> None:
    flat = np.full((9, 9, 1), 77, np.uint8)
    assert np.array_equal(Upscale(factor=3).finish(flat), np.full((27, 27, 1), 77, np.uint8))
    with pytest.raises(UserError, match="smaller factor"):
        Upscale(factor=8).finish(np.zeros((512, 512, 1), np.uint8))


def drafts() -> list[Draft]:
    """Ten pictures of class 0, three of class 1 and one of class 2; the confidence rises with the seed."""
    labels = [0] * 10 + [1] * 3 + [2]
    return [
        Draft(noise(1), seed, label, {"confidence": seed / 20, "discriminator": -seed})
        for seed, label in enumerate(labels)
    ]


@pytest.mark.parametrize(
    ("by", "kept"), [("confidence", [5, 6, 7, 8, 9, 11, 12, 13]), ("discriminator", [0, 1, 2, 3, 4, 10, 11, 13])]
)
def test_curate_keeps_the_best_of_every_class(by: str, kept: list[int]) -> None:
    curated = Curate(share=0.5, by=by).apply(drafts())
    assert [draft.seed for draft in curated] == kept
    assert {draft.steps for draft in curated} == {("curate",)}
    assert {draft.label for draft in Curate(share=0.01).apply(drafts())} == {0, 1, 2}
    assert [draft.seed for draft in Curate(share=1).apply(drafts())] == list(range(14))


def test_steps_are_recorded_in_their_order() -> None:
    finished = Sharpen().apply(Upscale(factor=2).apply(drafts()))
    assert {draft.steps for draft in finished} == {("upscale", "sharpen")}
    assert finished[3].pixels.shape == (16, 22, 1)


def test_the_union_of_steps_refuses_what_is_out_of_bounds() -> None:
    schema = TypeAdapter[FinishingStep](FinishingStep)
    assert schema.validate_python({"name": "upscale", "factor": 3}) == Upscale(factor=3)
    with pytest.raises(ValidationError, match="'curate', 'repair', 'denoise', 'tone', 'color', 'upscale', 'sharpen'"):
        schema.validate_python({"name": "blur"})
    for wrong in ({"name": "upscale", "factor": 9}, {"name": "curate", "share": 0}, {"name": "tone", "hue": 1}):
        with pytest.raises(ValidationError):
            schema.validate_python(wrong)
