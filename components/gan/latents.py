"""Latents that any language computes alike, bit for bit, from 32-bit integers and IEEE 754 doubles.

A seed counts: its latent is the output of a block cipher on (block, seed), so that no latent depends on another one.
The numbers are normal by the inverse of the distribution function. Every operation is one of + - * / and the square
root, rounded for itself: no library's logarithm, and no fused multiply-add.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Doubles = npt.NDArray[np.float64]
WORD = np.uint64(32)
MASK = np.uint64(2**32 - 1)

# Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): multipliers, and what the key grows
# by in each of its rounds.
ROUNDS = 10
MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
GROWTH = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)

# PPND16 (Wichura 1988, algorithm AS 241): coefficients of numerator and denominator, the highest power first.
# |p - 1/2| <= 0.425, in 0.425^2 - (p - 1/2)^2:
CENTRE = (
    (
        2.5090809287301226727e3,
        3.3430575583588128105e4,
        6.7265770927008700853e4,
        4.5921953931549871457e4,
        1.3731693765509461125e4,
        1.9715909503065514427e3,
        1.3314166789178437745e2,
        3.3871328727963666080e0,
    ),
    (
        5.2264952788528545610e3,
        2.8729085735721942674e4,
        3.9307895800092710610e4,
        2.1213794301586595867e4,
        5.3941960214247511077e3,
        6.8718700749205790830e2,
        4.2313330701600911252e1,
        1.0,
    ),
)
# Beyond, in sqrt(-ln(p)) - 1.6. The third pair, for p < exp(-25), is not needed: p is at least 2^-33.
TAIL = (
    (
        7.74545014278341407640e-4,
        2.27238449892691845833e-2,
        2.41780725177450611770e-1,
        1.27045825245236838258e0,
        3.64784832476320460504e0,
        5.76949722146069140550e0,
        4.63033784615654529590e0,
        1.42343711074968357734e0,
    ),
    (
        1.05075007164441684324e-9,
        5.47593808499534494600e-4,
        1.51986665636164571966e-2,
        1.48103976427480074590e-1,
        6.89767334985100004550e-1,
        1.67638483018380384940e0,
        2.05319162663775882187e0,
        1.0,
    ),
)

# fdlibm's `e_log.c` (Sun Microsystems 1993): ln 2 in two parts, and a polynomial, the highest power first.
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
LOGARITHM = (
    1.479819860511658591e-01,
    1.531383769920937332e-01,
    1.818357216161805012e-01,
    2.222219843214978396e-01,
    2.857142874366239149e-01,
    3.999999999940941908e-01,
    6.666666666666735130e-01,
)
SQRT_HALF = 0.70710678118654752440


def philox_latents(seeds: Sequence[int], size: int) -> npt.NDArray[np.float32]:
    """z ~ N(0, 1), (len(seeds), size): number i of a latent is word i % 4 of the block (i // 4, seed, 0), key 0.

    A seed is a 64-bit integer, its low word before its high word; a negative one is taken modulo 2^64.
    """
    seed = np.asarray(seeds, np.int64).astype(np.uint64)[:, None]
    block = np.arange(-(-size // 4), dtype=np.uint64)[None]
    zero = np.zeros((), np.uint64)
    words = np.stack(philox((block, seed & MASK, seed >> WORD, zero), (zero, zero)), axis=-1)
    return normal(words.reshape(len(seeds), -1)[:, :size]).astype(np.float32)


def philox(counter: Sequence[Words], key: Sequence[Words]) -> list[Words]:
    """Four words of random bits for four words of `counter` and two of `key`; arrays of words are broadcast."""
    a, b, c, d = counter
    left, right = key
    for _ in range(ROUNDS):
        first, second = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b, c, d = (second >> WORD) ^ b ^ left, second & MASK, (first >> WORD) ^ d ^ right, first & MASK
        left, right = (left + GROWTH[0]) & MASK, (right + GROWTH[1]) & MASK
    return list(np.broadcast_arrays(a, b, c, d))


def normal(words: Words) -> Doubles:
    """Return the quantile of the normal distribution at (word + 1/2) / 2^32, by PPND16."""
    p = (words.astype(np.float64) + 0.5) / 2.0**32
    q = p - 0.5
    beyond = np.abs(q) > 0.425
    z = q * _ratio(CENTRE, 0.180625 - q * q)
    tail = np.minimum(p[beyond], 1.0 - p[beyond])
    z[beyond] = np.sign(q[beyond]) * _ratio(TAIL, np.sqrt(-logarithm(tail)) - 1.6)
    return z


def logarithm(x: Doubles) -> Doubles:
    """Compute the natural logarithm of positive numbers by fdlibm's polynomial, to less than one ulp."""
    fraction, exponent = np.frexp(x)
    small = fraction < SQRT_HALF
    k = (exponent - small).astype(np.float64)
    f = np.where(small, 2.0 * fraction, fraction) - 1.0
    s = f / (2.0 + f)
    z = s * s
    half = 0.5 * f * f
    r = z * _polynomial(LOGARITHM, z)
    return k * LN2_HIGH - ((half - (s * (half + r) + k * LN2_LOW)) - f)


def _ratio(coefficients: tuple[Sequence[float], Sequence[float]], x: Doubles) -> Doubles:
    numerator, denominator = (_polynomial(of, x) for of in coefficients)
    return numerator / denominator


def _polynomial(coefficients: Sequence[float], x: Doubles) -> Doubles:
    """By Horner's rule."""
    return reduce(lambda value, next_one: value * x + next_one, coefficients[1:], np.full_like(x, coefficients[0]))
