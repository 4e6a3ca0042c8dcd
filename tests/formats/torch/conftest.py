"""What the tests of the PyTorch doors share. Exports take seconds: each network is exported once."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

# torch is an extra: without it there is nothing to test here.
collect_ignore_glob = ["*"] if find_spec("torch") is None or find_spec("onnxscript") is None else []


@pytest.fixture(scope="session")
def cnn() -> tuple[Any, Any]:
    """A residual network and its hub."""
    import fewbit
    from tests.formats.torch.networks import Residual, image, trained

    module = trained(Residual())
    return module, fewbit.load(module, example_inputs=image(1))


@pytest.fixture(scope="session")
def transformer() -> tuple[Any, Any]:
    """A transformer with a tied embedding, and its hub, with a batch and sequences of any size."""
    import fewbit
    from tests.formats.torch.networks import Language, ids, trained

    module = trained(Language())
    shapes = {"ids": {0: "batch", 1: "sequence"}, "mask": {0: "batch", 1: "sequence"}}
    example = {"mask": ids(2, 5).bool(), "ids": ids(2, 5)}
    return module, fewbit.load(module, example_inputs=example, dynamic_shapes=shapes)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A small module, and a folder with it in every kind of file."""
    from tests.formats.torch.networks import save_all

    folder = tmp_path_factory.mktemp("small")
    return save_all(folder), folder
