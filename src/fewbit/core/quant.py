"""Quantization of whatever kind a spec names: affine integers, indices into a codebook, or 8-bit floats."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fewbit.core import affine
from fewbit.core.affine import expand_blocks
from fewbit.core.codebook.floats import Float8, from_fp8, to_fp8
from fewbit.core.codebook.nearest import decode, encode
from fewbit.spec import QParams


def quantize(x: NDArray[Any], params: QParams) -> NDArray[Any]:
    """What is stored for x, in its shape and in `params.spec.dtype.storage`.

    Raises:
        InputError: x is not finite (codebooks and 8-bit floats have no level for it), or a scale does not fit.
    """
    spec = params.spec
    if params.table is not None:
        return encode(x, expand_blocks(params.scale, x.shape, spec.block_shape), params.table)
    if spec.dtype.is_float8:
        return to_fp8(x, cast(Float8, spec.dtype.kind), expand_blocks(params.scale, x.shape, spec.block_shape))
    return affine.quantize(x, params)


def dequantize(q: NDArray[Any], params: QParams) -> NDArray[np.float32]:
    """float32 values of what `quantize` gave, in the shape of q.

    Raises:
        InputError: an index beyond the table.
    """
    spec = params.spec
    if params.table is not None:
        return decode(q, expand_blocks(params.scale, q.shape, spec.block_shape), params.table)
    if spec.dtype.is_float8:
        return from_fp8(q, expand_blocks(params.scale, q.shape, spec.block_shape))
    return affine.dequantize(q, params)
