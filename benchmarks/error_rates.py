"""How often the bounds of docs/metrics.md are wrong, for drops that lie right at the limit: 5 % are meant, and 1 % of early
stops.

python benchmarks/error_rates.py            # about half an hour
python benchmarks/error_rates.py --only bootstrap --experiments 100
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.stats import binom, norm

from fewbit.measure.metrics import Metric, resolve_metric
from fewbit.measure.paired import bootstrap as resampling
from fewbit.measure.paired import hopeless, judge, paired_drop
from fewbit.measure.paired.tango import lower_bound, score_bound, upper_bound

Answers = list[list[np.ndarray]]
Made = tuple[Answers, Answers, list[Any]]

RESAMPLES = 1000  # a fifth of what is drawn by default: the rates are the same to within their errors
LOOKS = (50, 100, 200, 400, 700, 1000)

upper, lower, tango = lru_cache(None)(upper_bound), lru_cache(None)(lower_bound), lru_cache(None)(score_bound)


def exact() -> None:
    """The worst rates of right/wrong answers over a grid of truths, by sums over all outcomes."""
    for count in (50, 100, 200, 500, 1000):
        rates = []
        for limit in np.geomspace(0.0005, 0.1, 24):
            for better in (0.0, *np.geomspace(0.0002, 0.1, 8)):
                rates.append((*_rates(count, float(limit), float(better)), limit, better))
        for kind, name in enumerate(("passes", "fails", "fails by Tango's bound alone")):
            worst = max(rates, key=lambda r: r[kind])
            print(f"{count} samples: {name} {worst[kind]:.2%} at most (drop {worst[3]:.4f}, better {worst[4]:.4f})")


def _rates(count: int, limit: float, better: float) -> tuple[float, float, float]:
    passed = failed = plain = 0.0
    for b in range(*_likely(count, limit + better)):
        of_rest = better / (1 - limit - better)
        for c in range(*_likely(count - b, of_rest)):
            chance = binom.pmf(b, count, limit + better) * binom.pmf(c, count - b, of_rest)
            passed += chance * (upper(b, c, count, 0.95) <= limit)
            failed += chance * (lower(b, c, count, 0.95) >= limit)
            plain += chance * (-tango(c, b, count, 0.95) >= limit)
    return passed, failed, plain


def _likely(count: int, share: float) -> tuple[int, int]:
    """The numbers of hits that leave out a chance of 2e-6."""
    return int(max(binom.ppf(1e-6, count, share), 0)), int(binom.ppf(1 - 1e-6, count, share)) + 1


def scores(values: np.ndarray) -> Answers:
    return [[value[None]] for value in values]


def area(count: int, random: np.random.Generator) -> Made:
    labels = random.integers(0, 2, count)
    labels[:2] = 0, 1
    real = 1.5 * labels + random.standard_normal(count)
    return scores(real + 0.5 * random.standard_normal(count)), scores(real), list(labels)


def root(count: int, random: np.random.Generator) -> Made:
    real = random.standard_normal(count)
    return scores(real + 0.4 * random.standard_normal(count)), scores(real), [0.0] * count


def skewed(count: int, random: np.random.Generator) -> Made:
    real = random.standard_normal(count)
    return scores(real - 0.1 * random.exponential(size=count) ** 2), scores(real), [0.0] * count


def sampled(experiments: int, seconds: float) -> None:
    """Of the bootstrap, and where there is no time for it of the jackknife with the fewest groups."""
    resampling.STEPS = (RESAMPLES,)  # type: ignore[assignment]
    cases: list[tuple[str, Metric, Callable[[int, np.random.Generator], Made], float]] = [
        ("AUC", resolve_metric("auc"), area, float(norm.cdf(1.5 / np.sqrt(2)) - norm.cdf(1.5 / np.sqrt(2.5)))),
        ("RMSE", resolve_metric("rmse"), root, float(np.sqrt(1.16) - 1)),
        ("skewed losses", resolve_metric(lambda outputs, _: [first[0] for first, *_ in outputs]), skewed, 0.2),
    ]
    for count in (30, 100, 300):
        for name, metric, make, limit in cases:
            kinds = []
            for seed in range(experiments):
                drop = paired_drop(metric, *make(count, np.random.default_rng(seed)), seed=seed, seconds=seconds)
                kinds.append(judge(drop, limit).kind)
            rates = [kinds.count(kind) / experiments for kind in ("pass", "fail")]
            print(f"{name}, {count} samples: passes {rates[0]:.1%}, fails {rates[1]:.1%} ({drop.method})", flush=True)


def early(experiments: int) -> None:
    random = np.random.default_rng(5)

    def flips(worse: float, better: float) -> np.ndarray:
        return random.choice([1.0, -1.0, 0.0], LOOKS[-1], p=[worse, better, 1 - worse - better])

    draws: dict[str, Callable[[], np.ndarray]] = {
        "1 % worse": lambda: flips(0.01, 0.0),
        "2 % worse, 1 % better": lambda: flips(0.02, 0.01),
        "30 % worse, 29 % better": lambda: flips(0.3, 0.29),
        "normal": lambda: 0.01 + random.standard_normal(LOOKS[-1]),
        "skewness of 2": lambda: random.exponential(size=LOOKS[-1]) - 0.99,
        "skewness of -2": lambda: 1.01 - random.exponential(size=LOOKS[-1]),
        "skewness of -6": lambda: 0.01 + np.exp(0.5) - random.lognormal(size=LOOKS[-1]),
    }
    for name, draw in draws.items():
        stopped = 0
        for _ in range(experiments):
            losses = draw()
            stopped += any(
                hopeless(losses[:seen], 0.01, planned=LOOKS[-1], seen=seen, before=before)
                for before, seen in zip((0, *LOOKS), LOOKS, strict=False)
            )
        print(f"early stops, {name}: {stopped / experiments:.2%}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["exact", "bootstrap", "jackknife", "early"])
    parser.add_argument(
        "--experiments", type=int, default=400, help="of the bootstrap; early stops take fifteen times as many"
    )
    given = parser.parse_args()
    if given.only in (None, "exact"):
        exact()
    if given.only in (None, "early"):
        early(15 * given.experiments)
    if given.only in (None, "bootstrap"):
        sampled(given.experiments, seconds=60.0)
    if given.only in (None, "jackknife"):
        sampled(given.experiments, seconds=0.0)


if __name__ == "__main__":
    main()
