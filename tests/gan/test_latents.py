"""Latents of new models: the published generator, its quantiles, and the same bits from other languages."""

from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor

from components.gan.latents import CENTRE, LOGARITHM, TAIL, logarithm, normal, philox, philox_latents

SEEDS = (0, 1, 7, 1_000_000, 2**32 - 1, 2**32, 2**52 + 12345, 2**53 - 1, -1, -7, -(2**33) - 5)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_known_answers_of_random123(counter: str, key: str, expected: str) -> None:
    """From `kat_vectors` of Random123, by the authors of the paper."""
    given, by = ([np.uint64(int(word, 16)) for word in words.split()] for words in (counter, key))
    assert [f"{int(word):08x}" for word in philox(given, by)] == expected.split()


def words(count: int) -> np.ndarray:
    """The least and greatest words, those where another formula begins, and many between."""
    border = round((0.5 - 0.425) * 2**32)
    edges = [*range(1000), *range(border - 1000, border + 1000)]
    edges += [2**32 - 1 - word for word in edges]
    return np.r_[np.array(edges, np.uint64), np.random.default_rng(0).integers(0, 2**32, count, np.uint64)]


def test_normal_numbers_are_quantiles_to_a_few_units_in_the_last_place() -> None:
    chosen = words(200_000)
    p = (chosen + 0.5) / 2**32
    # scipy's own is good to some 1e-15 only near p = 1, where 1 - p says more.
    expected = np.where(p < 0.5, special.ndtri(p), -special.ndtri(1 - p))
    found = normal(chosen)
    assert np.abs(found / expected - 1).max() < 4e-15
    assert np.array_equal(normal(2**32 - 1 - chosen), -found)
    # Python's is by the same algorithm, with the logarithm of the C library.
    by_python = NormalDist().inv_cdf
    assert max(abs(by_python(x) - z) for x, z in zip(p[:6000], found[:6000], strict=True)) < 1e-14


def test_its_logarithm_is_off_by_less_than_a_unit_in_the_last_place() -> None:
    x = (words(200_000) + 0.5) / 2**32
    assert (np.abs(logarithm(x) - np.log(x)) <= 2 * np.spacing(np.abs(np.log(x)))).all()
    for value in (0.5, 1e-9, math.exp(-1), 0.9999):
        assert logarithm(np.array([value]))[0] == pytest.approx(math.log(value), rel=3e-16, abs=1e-20)


def test_latents_are_normal_and_independent() -> None:
    z = philox_latents(range(4000), 50)
    assert z.shape == (4000, 50)
    assert z.dtype == np.float32
    assert stats.kstest(z.ravel(), "norm").pvalue > 0.001
    # By place within the latent, whose words are of one block or of several, and along the seeds.
    assert min(stats.kstest(column, "norm").pvalue for column in z.T) > 0.001 / 50
    correlated = np.corrcoef(z.T)[np.triu_indices(50, 1)] * math.sqrt(len(z))
    assert stats.kstest(correlated, "norm").pvalue > 0.001
    along = (z[1:] * z[:-1]).sum(0) / math.sqrt(len(z) - 1)
    assert stats.kstest(along, "norm").pvalue > 0.001


def test_a_latent_is_a_function_of_its_seed_and_longer_ones_begin_alike() -> None:
    many = philox_latents(SEEDS, 100)
    for row, seed in enumerate(SEEDS):
        assert np.array_equal(philox_latents([seed], 100)[0], many[row])
    assert np.array_equal(philox_latents(SEEDS, 7), many[:, :7])
    assert len(np.unique(many)) == many.size


def by_torch(seeds: tuple[int, ...], size: int) -> Tensor:
    """The same by torch alone, in its 64-bit integers and doubles."""
    mask = 2**32 - 1
    seed = torch.tensor(seeds)[:, None]
    counter = [
        torch.arange(-(-size // 4))[None],
        seed & mask,
        (seed >> 32) & mask,
        torch.zeros(1, 1, dtype=torch.int64),
    ]
    counter, left, right = [part.expand(len(seeds), -(-size // 4)) for part in counter], 0, 0

    def product(a: int, b: Tensor) -> tuple[Tensor, Tensor]:
        # Of 16-bit halves, because its integers have a sign.
        low, middle = a * (b & 0xFFFF), a * (b >> 16)
        whole = (middle & 0xFFFF) * 2**16 + low
        return (middle >> 16) + (whole >> 32), whole & mask

    for _ in range(10):
        (h0, l0), (h1, l1) = product(0xD2511F53, counter[0]), product(0xCD9E8D57, counter[2])
        counter = [h1 ^ counter[1] ^ left, l1, h0 ^ counter[3] ^ right, l0]
        left, right = (left + 0x9E3779B9) & mask, (right + 0xBB67AE85) & mask
    p = (torch.stack(counter, -1).flatten(1)[:, :size].double() + 0.5) / 2**32
    q = p - 0.5

    def polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
        value = torch.full_like(x, coefficients[0])
        for coefficient in coefficients[1:]:
            value = value * x
            value = value + coefficient
        return value

    m, k = torch.frexp(torch.minimum(p, 1 - p))
    double = m < math.sqrt(0.5)
    f, k = torch.where(double, 2 * m, m) - 1, (k - double.int()).double()
    s = f / (2 + f)
    half, r = 0.5 * f * f, s * s * polynomial(LOGARITHM, s * s)
    log = k * 6.93147180369123816490e-01 - ((half - (s * (half + r) + k * 1.90821492927058770002e-10)) - f)
    far = torch.sqrt(-log) - 1.6
    near = 0.180625 - q * q
    centre = q * (polynomial(CENTRE[0], near) / polynomial(CENTRE[1], near))
    tail = q.sign() * (polynomial(TAIL[0], far) / polynomial(TAIL[1], far))
    return torch.where(q.abs() <= 0.425, centre, tail).float()


def test_torch_computes_the_same_bits() -> None:
    assert np.array_equal(by_torch(SEEDS, 3000).numpy(), philox_latents(SEEDS, 3000))


def test_javascript_computes_the_same_bits() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node (package nodejs)")
    command = [node, str(Path(__file__).with_name("latents.mjs")), "3000", *map(str, SEEDS)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    bits = np.array([[int(word, 16) for word in line.split()] for line in out.splitlines()], np.uint32)
    assert np.array_equal(bits.view(np.float32), philox_latents(SEEDS, 3000))
