"""Paired right/wrong answers: the score interval of Tango (1998) and the exact test of McNemar (1947)."""

from __future__ import annotations

import math

EDGE = 1e-15
"""How near to ±1 a difference of shares is looked for: the variance is 0 there."""


def score(difference: float, worse: float, better: float, count: float) -> float:
    """How many standard errors the seen difference lies above a supposed one, equation (3.1) of Tango (1998).

    T(Δ) = (b − c − nΔ) / √(n (2q + Δ(1 − Δ))), with q the likeliest share of c under Δ: the root of 2n·q² + (−b − c +
    (2n − b + c)Δ)·q − cΔ(1 − Δ) = 0.

    Args:
        difference: the supposed share of b less that of c, within −1 and 1.
        worse, better: pairs of which only the first (b) or only the second (c) is right. Need not be whole: what more
            samples would tell is asked with multiples of what was seen.
        count: all pairs (n).
    """
    _, variance = _supposed(difference, worse, better, count)
    distance = worse - better - count * difference
    if distance == 0:
        return 0.0
    return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)


def _supposed(difference: float, worse: float, better: float, count: float) -> tuple[float, float]:
    """The likeliest share of c under a supposed difference, and the variance of b − c."""
    linear = -worse - better + (2 * count - worse + better) * difference
    constant = -better * difference * (1 - difference)
    q = (math.sqrt(max(linear * linear - 8 * count * constant, 0.0)) - linear) / (4 * count)
    return q, count * (2 * q + difference * (1 - difference))


def score_bound(worse: float, better: float, count: float, confidence: float) -> float:
    """The upper bound of the share of b less that of c: the Δ at which T(Δ) = −z. One-sided; the lower bound is minus the
    upper one with b and c exchanged, and a two-sided interval at 95 % takes both at 97.5 %."""
    from scipy.optimize import brentq
    from scipy.special import ndtri

    if worse == count:
        return 1.0
    z = float(ndtri(confidence))
    return float(brentq(lambda d: score(d, worse, better, count) + z, (worse - better) / count, 1 - EDGE))


def upper_bound(worse: float, better: float, count: float, confidence: float) -> float:
    """The bound that verdicts use: Tango's, and where no answer got better, not below the exact one of a share.

    With c = 0 Tango's bound is that of Wilson, which lies below a true share of 2.7 / n one of 15 times; the exact bound of
    Clopper and Pearson (1934) does so at most one of 20 times. Without any change it is the rule of three: about 3 / n.
    """
    bound = score_bound(worse, better, count, confidence)
    return bound if better else max(bound, share_bound(worse, count, confidence))


def lower_bound(worse: float, better: float, count: float, confidence: float) -> float:
    """The bound that verdicts use: Tango's, lowered by the skewness of b − c where that lies to its disadvantage.

    The score T becomes T − γ(T² − 1) / 6, with γ the skewness under Δ (Cornish and Fisher; of shares: Gart and Nam 1990). A
    few losses by chance make Tango's bound lie above the truth up to 9.8 times of 100 at 95 %, and this one up to 6.7 times.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri

    bound, z = -score_bound(better, worse, count, confidence), float(ndtri(confidence))

    def excess(difference: float) -> float:
        q, variance = _supposed(difference, worse, better, count)
        third = count * difference * (1 - 3 * (2 * q + difference) + 2 * difference**2)
        seen = score(difference, worse, better, count)
        return float(seen - third / variance**1.5 * (seen * seen - 1) / 6 - z)

    if not 0 < bound < 1 or excess(bound) >= 0:
        return bound
    return float(brentq(excess, 0.0, bound))  # without a difference there is no skewness: the score exceeds z there


def share_bound(hits: float, count: float, confidence: float) -> float:
    """The exact one-sided upper bound of a share (Clopper and Pearson 1934); 1 − (1 − confidence)^(1/n) for no hits."""
    from scipy.stats import beta

    return 1.0 if hits >= count else float(beta.ppf(confidence, hits + 1, count - hits))


def mcnemar(worse: int, better: int) -> float:
    """The two-sided chance of a split at least as uneven, if answers got worse as often as better; exact (binomial)."""
    from scipy.stats import binomtest

    return float(binomtest(worse, worse + better).pvalue) if worse + better else 1.0
