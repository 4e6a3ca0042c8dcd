from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fewbit.runtimes.arena import Lifetime, plan_arena

LIFETIMES = st.lists(
    st.builds(
        lambda size, first, length: Lifetime("t", size, first, first + length),
        st.integers(0, 100),
        st.integers(0, 8),
        st.integers(0, 4),
    ),
    max_size=12,
)


def test_a_chain_takes_the_largest_two_neighbours() -> None:
    chain = [Lifetime("a", 64, 0, 1), Lifetime("b", 128, 1, 2), Lifetime("c", 32, 2, 3), Lifetime("d", 96, 3, 3)]
    arena = plan_arena(chain)
    assert arena.bytes == arena.live == 64 + 128 and arena.step == 1
    assert arena.offsets == (128, 0, 128, 0)


def test_a_tensor_lies_in_the_first_gap_that_is_wide_enough() -> None:
    held = [Lifetime("a", 64, 0, 3), Lifetime("b", 48, 0, 1), Lifetime("c", 32, 0, 3), Lifetime("d", 16, 2, 3)]
    assert plan_arena(held).offsets == (0, 64, 112, 64)  # d where b was


def test_sizes_are_multiples_of_16() -> None:
    assert plan_arena([Lifetime("a", 1, 0, 1), Lifetime("b", 17, 1, 1)]).bytes == 48
    assert plan_arena([Lifetime("a", 1, 0, 1), Lifetime("b", 17, 1, 1)], alignment=1).bytes == 18
    assert plan_arena([]).bytes == 0


@given(LIFETIMES)
def test_what_is_alive_together_does_not_overlap(tensors: list[Lifetime]) -> None:
    arena = plan_arena(tensors)
    placed = list(zip(tensors, arena.offsets, strict=True))
    for i, (a, start) in enumerate(placed):
        assert start % 16 == 0 and start + a.bytes <= arena.bytes
        for b, other in placed[:i]:
            assert not a.meets(b) or start + a.bytes <= other or other + b.bytes <= start
    assert arena.live <= arena.bytes <= sum(-(-t.bytes // 16) * 16 for t in tensors)
