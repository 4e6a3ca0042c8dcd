"""The same samples are found again, in the same bytes or rounded; others are not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fewbit.data import InputInfo, open_source
from fewbit.data.check import Feed
from fewbit.data.leakage import duplicates, fingerprints, overlap


def images(count: int, seed: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.standard_normal((1, 3, 20, 20)).astype(np.float32) for _ in range(count)]


def feeds(arrays: list[np.ndarray]) -> Iterator[Feed]:
    return ({"x": array} for array in arrays)


def test_samples_in_both_sets() -> None:
    first, second = images(6, 0), images(5, 1)
    second[3], second[4] = first[2], first[5]
    source = open_source(first, inputs=[InputInfo("x", np.dtype(np.float32), (1, 3, 20, 20))])
    found = overlap(fingerprints(source.feeds()), fingerprints(feeds(second)))
    assert found.exact == ((2, 3), (5, 4)) and found.near == ()


def test_rounded_copies_are_near() -> None:
    first, second = images(4, 0), images(4, 1)
    second[1] = first[3].astype(np.float16).astype(np.float32)
    second[2] = first[0].astype(np.float16)  # of another type as well
    second[3] = first[1] * 1.01
    found = overlap(fingerprints(feeds(first)), fingerprints(feeds(second)))
    assert found.exact == () and found.near == ((0, 2), (3, 1))


def test_duplicates_within_a_set() -> None:
    held = images(5, 0)
    held[3] = held[1]
    held[4] = np.nextafter(held[0], np.float32(9))
    found = duplicates(fingerprints(feeds(held)))
    assert found.exact == ((3, 1),) and found.near == ((4, 0),)
    same = duplicates(fingerprints(feeds([held[0]] * 4)))
    assert same.exact == ((1, 0), (2, 0), (3, 0)) and same.near == ()


def test_names_types_and_shapes_count() -> None:
    ones = np.ones(4, np.float32)
    prints = fingerprints(
        [{"x": ones}, {"y": ones}, {"x": ones.reshape(2, 2)}, {"x": np.frombuffer(ones.tobytes(), np.int32)}]
    )
    assert len({p.exact for p in prints}) == 4 and len({p.fixed for p in prints}) == 4
    both = fingerprints([{"x": ones, "y": 2 * ones}, {"y": 2 * ones, "x": ones}])
    assert duplicates(both).exact == ((1, 0),)  # the order of names does not


def test_tokens_are_never_near() -> None:
    mask = np.ones((1, 4), np.float32)
    found = duplicates(fingerprints([{"ids": np.array([[1, 2, 3, i]]), "mask": mask} for i in (4, 5, 4)]))
    assert found.exact == ((2, 0),) and found.near == ()


def test_silence_and_text() -> None:
    found = duplicates(
        fingerprints(feeds([np.zeros((1, 8), np.float32), np.zeros((1, 8), np.float32), np.ones((1, 8), np.float32)]))
    )
    assert found.exact == ((1, 0),) and found.near == ()
    texts = [np.array(["a"], object), np.array(["a"], object), np.array(["b"], object), np.zeros((0,), np.float32)]
    assert duplicates(fingerprints(feeds(texts))).exact == ((1, 0),)
