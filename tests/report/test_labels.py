"""Names of points: none covers another."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.report.html.labels import LEADER, Box, place
from fewbit.report.html.names import shortened

FRAME = Box(0.0, 0.0, 400.0, 300.0)
POINTS = st.lists(st.tuples(st.floats(0, 400), st.floats(0, 300)), max_size=25)


def marks(points: list[tuple[float, float]]) -> list[Box]:
    return [Box(x - 5, y - 5, x + 5, y + 5) for x, y in points]


def apart(one: Box, other: Box) -> bool:
    return one.right <= other.left or other.right <= one.left or one.top <= other.bottom or other.top <= one.bottom


@settings(max_examples=50, deadline=None)
@given(points=POINTS, width=st.floats(10, 180))
def test_no_label_covers_a_label_or_a_point(points: list[tuple[float, float]], width: float) -> None:
    found = [one for one in place(points, [(width, 14.0)] * len(points), marks(points), [], FRAME) if one is not None]
    boxes = [one.box for one in found]
    for i, box in enumerate(boxes):
        assert all(apart(box, other) for other in [*boxes[:i], *boxes[i + 1 :], *marks(points)])
        assert box.left >= 0 and box.bottom >= 0 and box.right <= 400 and box.top <= 300


def test_a_lone_label_is_beside_its_point() -> None:
    (found,) = place([(100.0, 100.0)], [(50.0, 10.0)], marks([(100.0, 100.0)]), [], FRAME)
    assert found is not None and found.leader is None
    assert found.box == Box(109.0, 95.0, 159.0, 105.0)


def test_error_bars_are_avoided_where_there_is_other_room() -> None:
    bar = Box(101.0, 99.0, 300.0, 101.0)
    (found,) = place([(100.0, 100.0)], [(50.0, 10.0)], marks([(100.0, 100.0)]), [bar], FRAME)
    assert found is not None and apart(found.box, bar)
    everywhere = Box(-1.0, -1.0, 401.0, 301.0)
    (found,) = place([(100.0, 100.0)], [(50.0, 10.0)], marks([(100.0, 100.0)]), [everywhere], FRAME)
    assert found is not None


def test_a_label_that_is_far_away_has_a_line_to_its_point() -> None:
    wall = Box(60.0, 60.0, 140.0, 140.0)
    (found,) = place([(100.0, 100.0)], [(50.0, 10.0)], [wall], [], FRAME)
    assert found is not None and found.leader is not None
    x, y = found.leader
    assert (x - 100) ** 2 + (y - 100) ** 2 > LEADER**2
    assert found.box.left <= x <= found.box.right and found.box.bottom <= y <= found.box.top


def test_without_room_there_is_no_label() -> None:
    assert place([(20.0, 20.0)], [(90.0, 10.0)], [], [], Box(0.0, 0.0, 80.0, 80.0)) == [None]


def test_a_long_name_keeps_its_ends() -> None:
    assert shortened("block.17.attention.out_proj", 15) == "block.1…ut_proj"
    assert shortened("conv1", 15) == "conv1"
