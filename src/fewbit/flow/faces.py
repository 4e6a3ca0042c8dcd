"""Several models behind one face: the same samples for all of them, whatever they call their inputs and outputs and how they
lay them out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.data import DataSource, InputInfo, open_source
from fewbit.errors import DataError, ModelError
from fewbit.flow.common import samples_for, session_inputs
from fewbit.runtimes.onnxruntime import OrtSession
from fewbit.runtimes.session import Ends, Feed, Outputs, Session

Axes = tuple[int, ...]

_LAYOUTS: dict[Axes, str] = {(0, 2, 3, 1): "channels last", (0, 3, 1, 2): "channels first"}
"""How axes of NCHW become those of NHWC, and back."""

_SAME: Axes = ()


@dataclass(frozen=True, slots=True)
class Link:
    """An end of a face and the end of a model that it stands for.

    axes: the face's axes in the order in which the model has them; empty where both have the same.
    sure: False where another order fits the shapes as well.
    """

    face: str
    own: str
    axes: Axes
    sure: bool


class FacedSession:
    """A session under other names, and with the axes of images in another order."""

    def __init__(
        self, session: Session, inputs: tuple[Ends, Sequence[Link]], outputs: tuple[Ends, Sequence[Link]]
    ) -> None:
        self.session = session
        self._inputs, self._given = inputs
        self._outputs, self._made = outputs
        self.inputs, self.outputs = list(self._inputs), list(self._outputs)

    def run(self, feed: Feed) -> Outputs:
        """As the session's, by the names and axes of the face."""
        made = dict(zip(self.session.outputs, self.session.run(self.own_feed(feed)), strict=True))
        return [_back(made[link.own], link.axes) for link in self._made]

    def timed(self, feed: Feed) -> Callable[[], object]:
        return self.session.timed(self.own_feed(feed))

    def input_shapes(self) -> Ends:
        return self._inputs

    def output_shapes(self) -> Ends:
        return self._outputs

    def own_feed(self, feed: Feed) -> Feed:
        """A feed of the face as the session takes it.

        Raises:
            DataError: an input is missing.
        """
        missing = [name for name in self.inputs if name not in feed]
        if missing:
            raise DataError(f"input {missing[0]!r} is missing from the sample; the model wants {self.inputs}")
        return {link.own: _turned(np.asarray(feed[link.face]), link.axes) for link in self._given}


def own_feed(session: Session, feed: Feed) -> Feed:
    """A feed as the model itself takes it, behind all faces of a session."""
    while isinstance(session, FacedSession):
        feed, session = session.own_feed(feed), session.session
    return feed


def in_layout_of(wanted: NDArray[Any], given: NDArray[Any]) -> NDArray[Any] | None:
    """An array in the order of axes that gives it the shape of another; None if there is none."""
    if wanted.shape == given.shape:
        return given
    fitting = [a for a in _LAYOUTS if given.ndim == len(a) and tuple(given.shape[i] for i in a) == wanted.shape]
    return given.transpose(fitting[0]) if fitting else None


def aligned(reference: Session, session: Session, label: str, *, outputs: bool = True) -> tuple[Session, list[str]]:
    """A session behind the face of another: ends are matched by name, else by position, else by shape; images with four axes
    also where one model has their channels first and the other last.

    Args:
        label: how notes and errors call the session's model.
        outputs: False leaves the session's outputs as they are, and does not ask whether they match.

    Returns:
        the session, itself where nothing differs, and notes on what does.

    Raises:
        ModelError: the ends do not match; the message has both.
    """
    given = _links(reference.input_shapes(), session.input_shapes(), "inputs", label)
    face = reference.output_shapes() if outputs else session.output_shapes()
    made = _links(face, session.output_shapes(), "outputs", label) if outputs else _as_they_are(session)
    notes = [*_notes("input", given, label), *_notes("output", made, label)]
    if isinstance(reference, OrtSession) != isinstance(session, OrtSession):
        unsure = [link.face for link in (*given, *made) if not link.sure]
        notes += [f"{name} may have its channels first or last in {label}: it is taken as it is" for name in unsure]
    same = all(link.face == link.own and link.axes == _SAME for link in (*given, *made))
    if same and [link.own for link in made] == list(session.outputs):
        return session, notes
    return FacedSession(session, (reference.input_shapes(), given), (face, made)), notes


def behind_one_face(
    sessions: Mapping[str, Session], first: int = 0, *, outputs: bool = True
) -> tuple[list[Session], list[str]]:
    """All sessions behind the face of one of them, and notes; arguments and errors as of `aligned`."""
    reference = list(sessions.values())[first]
    pairs = [
        (s, []) if s is reference else aligned(reference, s, label, outputs=outputs) for label, s in sessions.items()
    ]
    return [session for session, _ in pairs], [note for _, notes in pairs for note in notes]


def samples_for_all(
    sessions: Mapping[str, Session],
    data: Any,
    *,
    limit: int | None,
    preprocess: str | None,
    purpose: str,
    outputs: bool = True,
) -> tuple[DataSource, list[Session], list[str]]:
    """Samples, all sessions behind the face that the samples have, and notes on what differs.

    That face is the first session's where its first sample fits, or the next one's; or, where a model is not ONNX and no face
    fits, that of the samples themselves, if their shapes tell what is what: samples for the ONNX form of a model fit its
    LiteRT form.

    Args:
        sessions: label → session, that of most concern first.
        outputs: as of `aligned`.

    Raises:
        ModelError: the models' ends do not match. DataError: the samples fit none of them.
    """

    def source(session: Session) -> DataSource:
        return samples_for(data, session_inputs(session), limit=limit, preprocess=preprocess, purpose=purpose)

    faced, notes = behind_one_face(sessions, outputs=outputs)
    if same_inputs(list(sessions.values())) or isinstance(data, Iterator):  # an iterator cannot be read to try it
        return source(faced[0]), faced, notes
    refused: list[DataError] = []
    for index, session in enumerate(sessions.values()):
        try:
            samples = source(session)
            next(iter(samples))
        except DataError as error:
            refused.append(error)
        else:
            return samples, *behind_one_face(sessions, index, outputs=outputs)
    if all(isinstance(session, OrtSession) for session in sessions.values()):
        raise refused[0]
    try:
        face, links = _face_of_samples(data, faced[0].input_shapes())
    except (DataError, ModelError):
        raise refused[0] from None
    label = next(iter(sessions))
    wrapped: list[Session] = [FacedSession(s, (face, links), (s.output_shapes(), _as_they_are(s))) for s in faced]
    return source(wrapped[0]), wrapped, [*(f"samples: {note}" for note in _notes("input", links, label)), *notes]


def same_inputs(sessions: Sequence[Session]) -> bool:
    """Whether these are ONNX models whose inputs have the same names, which says enough."""
    return all(isinstance(s, OrtSession) and list(s.inputs) == list(sessions[0].inputs) for s in sessions)


def samples_in_layout(
    data: Any, inputs: list[InputInfo], *, limit: int | None, preprocess: str | None, purpose: str
) -> tuple[DataSource, list[str]]:
    """Samples for a model that may have its channels last, and notes: those for its ONNX form, with other names or the
    channels first, are turned, if their shapes tell what is what.

    Raises:
        DataError: they fit neither way.
    """
    source = samples_for(data, inputs, limit=limit, preprocess=preprocess, purpose=purpose)
    if isinstance(data, Iterator):  # it cannot be read to try it
        return source, []
    try:
        next(iter(source))
        return source, []
    except DataError as refused:
        try:
            ends: Ends = {info.name: (info.dtype, list(info.shape or ())) for info in inputs}
            face, links = _face_of_samples(data, ends)
        except (DataError, ModelError):
            raise refused from None
    faced = [InputInfo(name, dtype, tuple(shape)) for name, (dtype, shape) in face.items()]
    given = samples_for(data, faced, limit=limit, preprocess=preprocess, purpose=purpose)

    def turned() -> Iterator[tuple[Feed, Any]]:
        for feed, label in given:
            yield {link.own: _turned(np.asarray(feed[link.face]), link.axes) for link in links}, label

    notes = [f"samples: {note}" for note in _notes("input", links, "the model")]
    return DataSource(turned, inputs, description=given.description, count=given.count), notes


def _face_of_samples(data: Any, ends: Ends) -> tuple[Ends, list[Link]]:
    """The inputs as the first sample has them, where the model has these; batch and other open sizes as the model has them.

    Raises:
        DataError, ModelError: they cannot be told.
    """
    given = open_source(data, inputs=(), limit=1).first()
    arrays = given if isinstance(given, Mapping) else {next(iter(ends)): given}
    shapes: Ends = {str(name): (np.asarray(a).dtype, list(np.shape(a))) for name, a in arrays.items()}
    links = _links(shapes, ends, "inputs", "the model")
    face: Ends = {}
    for link in links:
        dtype, shape = ends[link.own]
        face[link.face] = dtype, [shape[link.axes.index(a)] for a in range(len(shape))] if link.axes else shape
    return face, links


def _as_they_are(session: Session) -> list[Link]:
    return [Link(name, name, _SAME, True) for name in session.outputs]


def _links(face: Ends, own: Ends, kind: str, label: str) -> list[Link]:
    """Which end of the model each end of the face is."""
    pairs = {name: name for name in face if name in own}
    left = [name for name in face if name not in pairs]
    free = [name for name in own if name not in pairs]
    if len(left) == len(free):
        fitting = {name: [other for other in free if _orders(face[name], own[other])] for name in left}
        if all(other in fitting[name] for name, other in zip(left, free, strict=True)):
            pairs |= zip(left, free, strict=True)
        elif sorted(other for found in fitting.values() for other in found) == sorted(free):
            pairs |= {name: found[0] for name, found in fitting.items() if len(found) == 1}
    links = []
    for name in face:
        orders = _orders(face[name], own[pairs[name]]) if name in pairs else []
        if not orders:
            raise ModelError(f"{label} has other {kind}: {_told(own)}, where {_told(face)} is wanted")
        links.append(Link(name, pairs[name], orders[0], len(orders) == 1))
    if len(face) != len(own):
        raise ModelError(f"{label} has other {kind}: {_told(own)}, where {_told(face)} is wanted")
    return links


def _orders(face: tuple[Any, Sequence[Any]], own: tuple[Any, Sequence[Any]]) -> list[Axes]:
    """The orders of axes in which an end of the face can be one of the model: those in which most sizes are equal."""
    kinds = {None if dtype is None else dtype.kind.replace("u", "i") for dtype, _ in (face, own)}
    shape, wanted = list(face[1]), list(own[1])
    if len(kinds) > 1:
        return []
    if not shape or not wanted:  # one is not known
        return [_SAME]
    if len(shape) != len(wanted):
        return []
    scores: dict[Axes, int] = {}
    for axes in (_SAME, *(_LAYOUTS if len(shape) == 4 else ())):
        turned = [shape[a] for a in axes] if axes else shape
        known = [(a, b) for a, b in zip(turned, wanted, strict=True) if isinstance(a, int) and isinstance(b, int)]
        if all(a == b for a, b in known):
            scores[axes] = len(known)
    most = max(scores.values(), default=0)
    best = [axes for axes, score in scores.items() if score == most]
    # Two orders of the same sizes differ only where the sizes that move are not all 1.
    return best if len(best) == 1 or any(n != 1 for n in shape[1:]) else best[:1]


def _notes(kind: str, links: Sequence[Link], label: str) -> list[str]:
    notes = []
    for link in links:
        layout = f"has its {_LAYOUTS[link.axes]}" if link.axes else ""
        name = f"is {link.own}" if link.face != link.own else ""
        if layout or name:
            notes.append(f"{kind} {link.face} {' and '.join(filter(None, (name, layout)))} in {label}")
    return notes


def _told(ends: Ends) -> str:
    return ", ".join(str(InputInfo(name, dtype, tuple(shape))) for name, (dtype, shape) in ends.items()) or "none"


def _turned(array: NDArray[Any], axes: Axes) -> NDArray[Any]:
    return np.ascontiguousarray(array.transpose(axes)) if axes and array.ndim == len(axes) else array


def _back(array: NDArray[Any], axes: Axes) -> NDArray[Any]:
    return array.transpose(np.argsort(axes)) if axes and array.ndim == len(axes) else array
