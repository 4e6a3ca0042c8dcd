"""What every runtime must do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fewbit.errors import InputError


class RuntimeContract:
    """Inherit, give a fixture `model` (a path), `open(model)` and `feed()`; pytest runs the rest."""

    def open(self, model: Path) -> Any:
        """A session (`fewbit.runtimes.session.Session`)."""
        raise NotImplementedError

    def feed(self) -> dict[str, np.ndarray[Any, Any]]:
        """Inputs that the model takes."""
        raise NotImplementedError

    def test_gives_all_outputs_in_order(self, model: Path) -> None:
        session = self.open(model)
        outputs = session.run(self.feed())
        assert len(outputs) == len(session.outputs) > 0
        assert all(isinstance(output, np.ndarray) and np.isfinite(output).all() for output in outputs)

    def test_tells_its_ends(self, model: Path) -> None:
        session, feed = self.open(model), self.feed()
        ends = session.input_shapes()
        assert list(ends) == list(session.inputs) and list(session.output_shapes()) == list(session.outputs)
        for name, array in feed.items():
            dtype, shape = ends[name]
            assert dtype == array.dtype
            assert all(not isinstance(n, int) or n == m for n, m in zip(shape, array.shape, strict=True))

    def test_can_be_timed(self, model: Path) -> None:
        session, feed = self.open(model), self.feed()
        run = session.timed(feed)
        run(), run()
        before = session.run(feed)
        run()
        assert all(np.array_equal(a, b) for a, b in zip(before, session.run(feed), strict=True))

    def test_is_deterministic_and_keeps_the_feed(self, model: Path) -> None:
        session, feed = self.open(model), self.feed()
        before = {name: array.copy() for name, array in feed.items()}
        first = [output.copy() for output in session.run(feed)]
        for a, b in zip(first, session.run(feed), strict=True):
            assert np.array_equal(a, b)
        assert all(np.array_equal(feed[name], before[name]) for name in feed)

    def test_takes_more_than_it_needs_and_refuses_less(self, model: Path) -> None:
        session, feed = self.open(model), self.feed()
        session.run({**feed, "extra": np.zeros(1)})
        try:
            session.run({})
        except InputError as error:
            assert session.inputs[0] in str(error)
        else:
            raise AssertionError("a missing input must be an InputError")

    def test_a_file_that_is_no_model_is_an_input_error(self, model: Path, tmp_path: Path) -> None:
        wrong = tmp_path / f"wrong{model.suffix}"
        wrong.write_bytes(b"this is no model")
        try:
            self.open(wrong)
        except InputError as error:
            assert "\n" not in str(error)
        else:
            raise AssertionError("a file that is no model must be an InputError")
