"""Metrics by identities, closed forms and the trusted implementations of other projects."""

import numpy as np
import pytest
import torch

from components.gan.symptoms import symptom, symptoms
from components.measures import metrics
from components.measures.distances import Moments, frechet, frechet_distance, kernel_distance


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_frechet_distance_of_a_set_to_itself_is_zero(rng: np.random.Generator) -> None:
    x = rng.normal(size=(300, 16))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_gaussians_against_the_closed_form(rng: np.random.Generator) -> None:
    a = rng.normal(size=(200_000, 4)) * [1, 2, 3, 4] + [0, 0, 0, 1]
    b = rng.normal(size=(200_000, 4)) * [2, 2, 1, 4]
    # Diagonal covariances: |mu|^2 + sum (sd_a - sd_b)^2.
    assert frechet_distance(a, b) == pytest.approx(1 + 1 + 0 + 4 + 0, rel=0.02)


def test_frechet_distance_against_torchmetrics(rng: np.random.Generator) -> None:
    from torchmetrics.image.fid import _compute_fid

    a = rng.normal(size=(400, 8)) @ rng.normal(size=(8, 8))
    b = rng.normal(size=(500, 8)) + 0.3
    moments = [torch.from_numpy(m) for x in (a, b) for m in (x.mean(0), np.cov(x, rowvar=False))]
    assert frechet_distance(a, b) == pytest.approx(float(_compute_fid(*moments)), rel=1e-4)


def test_kernel_distance_against_torchmetrics(rng: np.random.Generator) -> None:
    from torchmetrics.image.kid import poly_mmd

    a, b = rng.normal(size=(1500, 8)), rng.normal(size=(1500, 8)) + 0.2
    expected = poly_mmd(torch.from_numpy(a), torch.from_numpy(b), degree=3, gamma=None, coef=1.0)
    assert kernel_distance(a, b) == pytest.approx(float(expected), rel=1e-4)


def test_kernel_distance_is_unbiased(rng: np.random.Generator) -> None:
    values = [kernel_distance(*rng.normal(size=(2, 50, 4))) for _ in range(300)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 300**0.5


def test_moments_of_parts_are_those_of_the_whole(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(999, 12)) + 3, rng.normal(size=(500, 12))
    first, *rest = (Moments.of(part.astype(np.float32)) for part in np.array_split(x, 7))
    streamed = sum(rest, first)
    assert np.allclose(streamed.covariance, np.cov(x, rowvar=False), atol=1e-6)
    assert frechet(streamed, Moments.of(y)) == pytest.approx(frechet_distance(x, y), rel=1e-5)
    assert np.allclose((streamed - first).mean, np.concatenate(np.array_split(x, 7)[1:]).mean(0), atol=1e-6)


def test_a_kernel_distance_by_parts_is_as_good(rng: np.random.Generator) -> None:
    """Of many fakes only those of one part are compared with each other: that loses little of what chance does."""
    real, fake = rng.normal(size=(800, 8)), rng.normal(size=(9000, 8)) + 0.2
    found = metrics.kernel_resampled(fake, real, (np.zeros(9000), np.zeros(800)), 0)
    assert abs(found.value - kernel_distance(fake, real)) < 0.3 * float(found.by_fakes.std())
    few = metrics.kernel_pulls(fake[:3000], real)
    assert few.value == pytest.approx(kernel_distance(fake[:3000], real))


def test_precision_and_recall_tell_quality_from_variety(rng: np.random.Generator) -> None:
    real = rng.normal(size=(1200, 2))
    assert [v.mean() for v in metrics.precision_recall(real, real)] == [1.0, 1.0]
    precision, recall = (v.mean() for v in metrics.precision_recall(real, rng.normal(size=(1200, 2)) * 0.1))
    assert precision > 0.95
    assert recall < 0.2
    away = rng.normal(size=(1200, 2)) + 20
    assert [v.mean() for v in metrics.precision_recall(real, away)] == [0, 0]
    assert [v.mean() for v in metrics.density_coverage(real, away)] == [0, 0]


def test_manifolds_against_scikit_learn(rng: np.random.Generator) -> None:
    from sklearn.neighbors import NearestNeighbors

    # Of whole numbers, whose squared distances are exact in fp32: a point at the edge of a ball is on one side of it.
    real, fake = np.rint(100 * rng.normal(size=(700, 3))), np.rint(100 * rng.normal(size=(600, 3))) + 50

    def inside(centres: np.ndarray, points: np.ndarray, k: int) -> np.ndarray:
        radius = NearestNeighbors(n_neighbors=k + 1).fit(centres).kneighbors(centres)[0][:, k]
        return np.linalg.norm(points[:, None] - centres, axis=2) <= radius

    precision, recall = metrics.precision_recall(real, fake)
    assert (precision == inside(real, fake, 3).any(1)).all()
    assert (recall == inside(fake, real, 3).any(1)).all()
    density, coverage = metrics.density_coverage(real, fake)
    held = inside(real, fake, 5)
    assert density == pytest.approx(held.sum(1) / 5)
    assert (coverage == held.any(0)).all()


def test_class_score_against_scipy(rng: np.random.Generator) -> None:
    from scipy.special import softmax
    from scipy.stats import entropy

    probabilities = softmax(rng.normal(size=(500, 10)) * 3, axis=1)
    expected = np.exp(entropy(probabilities, probabilities.mean(0, keepdims=True), axis=1).mean())
    found = metrics.class_score(probabilities)
    assert found.value == pytest.approx(expected, rel=1e-6)
    assert found.low < found.value < found.high
    assert metrics.class_score(np.eye(10)[rng.permutation(1000) % 10]).value == pytest.approx(10)


def test_calibration_error_against_torchmetrics(rng: np.random.Generator) -> None:
    from torchmetrics.functional.classification import binary_calibration_error

    probability = rng.uniform(size=3000)
    truth = rng.uniform(size=3000) < probability**2
    expected = binary_calibration_error(torch.from_numpy(probability), torch.from_numpy(truth).int(), n_bins=10)
    assert metrics.calibration_error(probability, truth) == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize("size, scales", [(28, 2), (200, 5)])
def test_ms_ssim_against_torchmetrics(rng: np.random.Generator, size: int, scales: int) -> None:
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as reference

    images = torch.nn.functional.interpolate(torch.rand(4, 3, 7, 7), (size, size), mode="bicubic").clamp(0, 1)
    other = (images + 0.2 * torch.rand_like(images)).clamp(0, 1)
    a, b = ((x.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy() for x in (images, other))
    weights = torch.tensor([0.0448, 0.2856, 0.3001, 0.2363, 0.1333][:scales])
    found = metrics.ms_ssim(a, b)
    for i in range(4):
        x, y = (torch.from_numpy(p[i : i + 1]).permute(0, 3, 1, 2).float() / 255 for p in (a, b))
        betas = tuple((weights / weights.sum()).tolist())
        assert found[i] == pytest.approx(float(reference(x, y, data_range=1.0, betas=betas)), abs=1e-4)
    assert metrics.ms_ssim(a, a) == pytest.approx(np.ones(4), abs=1e-6)


def test_pairs_are_of_one_class_and_each_image_is_in_one() -> None:
    labels = np.array([0, 1, 0, 1, 1, 0, 2, 0])
    first, second = metrics.pairs_within(labels, 100)
    assert len(first) == 3
    assert (labels[first] == labels[second]).all()
    assert len({*first, *second}) == 6


def test_the_nearest_is_found_and_scored(rng: np.random.Generator) -> None:
    references = rng.integers(0, 256, (5000, 12, 12, 1), dtype=np.uint8)
    chosen = np.array([4999, 0, 4096])
    planted = references[chosen].copy()
    found = metrics.neighbours(planted, [references[:4096], references[4096:]])
    assert (found.nearest == chosen).all()
    assert found.distance == pytest.approx(np.zeros(3), abs=3)
    psnr, ssim = metrics.psnr_ssim(planted, references[chosen])
    assert (psnr.mean(), ssim.mean()) == pytest.approx((100, 1))
    noisy = np.clip(planted.astype(int) + rng.integers(-20, 21, planted.shape), 0, 255).astype(np.uint8)
    found = metrics.neighbours(noisy, [references])
    assert (found.nearest == chosen).all()
    error = np.square(noisy.astype(float) - planted).mean((1, 2, 3))
    psnr, ssim = metrics.psnr_ssim(noisy, planted)
    assert psnr == pytest.approx(10 * np.log10(255**2 / error), rel=1e-6)
    assert 0.5 < ssim.mean() < 1


def test_neighbours_against_scikit_learn(rng: np.random.Generator) -> None:
    from sklearn.neighbors import NearestNeighbors

    # Of whole numbers, see above.
    images, references = np.rint(100 * rng.normal(size=(50, 6))), np.rint(100 * rng.normal(size=(400, 6)))
    distances, index = NearestNeighbors(n_neighbors=1).fit(references).kneighbors(images)
    found = metrics.neighbours(images, np.array_split(references, 3))
    assert (found.nearest == index[:, 0]).all()
    assert found.distance == pytest.approx(distances[:, 0], rel=1e-5)


def curve(points: int, **last: float) -> list[dict[str, float]]:
    """Points of a healthy training, of which the last eight differ."""
    healthy = {"discriminator_accuracy": 0.8, "diversity": 0.9}
    return [{"images": 100.0 * i, **healthy, **(last if i > points - 8 else {})} for i in range(1, points + 1)]


def test_collapse_and_saturation_are_named_with_what_to_change() -> None:
    assert symptom(curve(40)) is None
    assert symptom(curve(10, diversity=0.01)) is None  # the first points of every training
    collapsed, saturated = curve(40, diversity=0.01), curve(40, discriminator_accuracy=1.0)
    assert "collapse" in str(symptom(collapsed))
    assert "train.r1_gamma" in str(symptom(collapsed))
    assert "saturated" in str(symptom(saturated))
    # One point that is well is enough.
    assert symptom([*collapsed[:-1], curve(1)[0]]) is None
    healed = collapsed + [{**row, "images": row["images"] + 4000} for row in curve(20)]
    (told,) = symptoms(healed)
    assert told.startswith("at image 4,000, collapse: ")
