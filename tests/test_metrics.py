import numpy as np
import pytest
import torch

from components.gan import metrics


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_frechet_distance_of_a_set_to_itself_is_zero(rng: np.random.Generator) -> None:
    x = rng.normal(size=(300, 16))
    assert metrics.frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_gaussians_against_the_closed_form(rng: np.random.Generator) -> None:
    a = rng.normal(size=(200_000, 4)) * [1, 2, 3, 4] + [0, 0, 0, 1]
    b = rng.normal(size=(200_000, 4)) * [2, 2, 1, 4]
    # Diagonal covariances: |mu|^2 + sum (sd_a - sd_b)^2.
    assert metrics.frechet_distance(a, b) == pytest.approx(1 + 1 + 0 + 4 + 0, rel=0.02)


def test_frechet_distance_against_torchmetrics(rng: np.random.Generator) -> None:
    from torchmetrics.image.fid import _compute_fid

    a = rng.normal(size=(400, 8)) @ rng.normal(size=(8, 8))
    b = rng.normal(size=(500, 8)) + 0.3
    moments = [torch.from_numpy(m) for x in (a, b) for m in (x.mean(0), np.cov(x, rowvar=False))]
    assert metrics.frechet_distance(a, b) == pytest.approx(float(_compute_fid(*moments)), rel=1e-4)


def test_kernel_distance_against_torchmetrics(rng: np.random.Generator) -> None:
    from torchmetrics.image.kid import poly_mmd

    a, b = rng.normal(size=(1500, 8)), rng.normal(size=(1500, 8)) + 0.2
    expected = poly_mmd(torch.from_numpy(a), torch.from_numpy(b), degree=3, gamma=None, coef=1.0)
    assert metrics.kernel_distance(a, b) == pytest.approx(float(expected), rel=1e-4)


def test_kernel_distance_is_unbiased(rng: np.random.Generator) -> None:
    values = [metrics.kernel_distance(*rng.normal(size=(2, 50, 4))) for _ in range(300)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 300**0.5


def test_precision_and_recall_tell_quality_from_variety(rng: np.random.Generator) -> None:
    real = rng.normal(size=(1200, 2))
    assert metrics.precision_recall(real, real) == (1.0, 1.0)
    precision, recall = metrics.precision_recall(real, rng.normal(size=(1200, 2)) * 0.1)
    assert precision > 0.95
    assert recall < 0.2
    precision, recall = metrics.precision_recall(real, rng.normal(size=(1200, 2)) + 20)
    assert (precision, recall) == (0, 0)


def test_precision_against_a_plain_loop(rng: np.random.Generator) -> None:
    real, fake = rng.normal(size=(60, 3)), rng.normal(size=(50, 3)) + 0.5

    def radius(x: np.ndarray, i: int) -> float:
        return float(np.sort(np.linalg.norm(x - x[i], axis=1))[3])

    def share(points: np.ndarray, centres: np.ndarray) -> float:
        inside = [any(np.linalg.norm(p - c) <= radius(centres, i) for i, c in enumerate(centres)) for p in points]
        return float(np.mean(inside))

    assert metrics.precision_recall(real, fake) == pytest.approx((share(fake, real), share(real, fake)))


def test_nearest_finds_copies_and_scores_them(rng: np.random.Generator) -> None:
    references = rng.integers(0, 256, (5000, 12, 12, 1), dtype=np.uint8)
    chosen = np.array([4999, 0, 4096])
    copies = references[chosen].copy()
    assert (metrics.nearest(copies, [(references[:4096], None), (references[4096:], None)]) == chosen).all()
    assert metrics.psnr_ssim(copies, references[chosen]) == pytest.approx((100, 1))
    noisy = np.clip(copies.astype(int) + rng.integers(-20, 21, copies.shape), 0, 255).astype(np.uint8)
    assert (metrics.nearest(noisy, [(references, None)]) == chosen).all()
    error = np.square(noisy.astype(float) - copies).mean((1, 2, 3))
    psnr, ssim = metrics.psnr_ssim(noisy, copies)
    assert psnr == pytest.approx(np.mean(10 * np.log10(255**2 / error)), rel=1e-6)
    assert 0.5 < ssim < 1


def curve(points: int, **last: float) -> list[dict[str, float]]:
    """Points of a healthy training, of which the last eight differ."""
    healthy = {"discriminator_accuracy": 0.8, "diversity": 0.9}
    return [{"images": 100.0 * i, **healthy, **(last if i > points - 8 else {})} for i in range(1, points + 1)]


def test_collapse_and_saturation_are_named_with_what_to_change() -> None:
    assert metrics.symptom(curve(40)) is None
    assert metrics.symptom(curve(10, diversity=0.01)) is None  # the first points of every training
    collapsed, saturated = curve(40, diversity=0.01), curve(40, discriminator_accuracy=1.0)
    assert "collapse" in str(metrics.symptom(collapsed))
    assert "train.r1_gamma" in str(metrics.symptom(collapsed))
    assert "saturated" in str(metrics.symptom(saturated))
    # One point that is well is enough.
    assert metrics.symptom([*collapsed[:-1], curve(1)[0]]) is None
    healed = collapsed + [{**row, "images": row["images"] + 4000} for row in curve(20)]
    (told,) = metrics.symptoms(healed)
    assert told.startswith("at image 4,000, collapse: ")
