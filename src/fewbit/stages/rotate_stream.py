"""Rotate: what a few channels of a language model's residual stream carry is spread over all of them."""

from __future__ import annotations

from fewbit.core.rotation import random_signs
from fewbit.errors import RecipeError
from fewbit.graph.hub import Hub
from fewbit.graph.rewrites.rotate_stream import Stream, find_stream
from fewbit.plan.plan import Rewrite


def stream_rotation(hub: Hub) -> tuple[Rewrite, ...]:
    """The rotation of the residual stream, folded into the weights beside it.

    Raises:
        RecipeError: the graph has no stream that can be rotated without changing what it computes; says why.
    """
    stream = find_stream(hub)
    if not isinstance(stream, Stream):
        raise RecipeError(f"rewrite rotate of the recipe cannot be done: {stream}; leave it out of `rewrites`")
    reason = (
        f"{stream.width} channels of the residual stream rotated into {len(stream.writers)} weights that write it and "
        f"{len(stream.readers)} that read it"
    )
    return (Rewrite("rotate", str(stream.values[0].name), random_signs(stream.width), reason),)
