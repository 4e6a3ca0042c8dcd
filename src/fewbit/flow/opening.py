"""The one place where models are opened for the jobs: a file or object of any kind becomes a hub, or a file that runs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewbit.data.source import first_feed
from fewbit.errors import RecipeError
from fewbit.formats.keras.kinds import is_keras
from fewbit.formats.litert.kinds import is_litert
from fewbit.formats.torch.kinds import is_torch_object, kind_of, needs_example
from fewbit.graph import load as graph
from fewbit.graph.hub import Hub
from fewbit.graph.info import RuleOutcome
from fewbit.graph.save import save
from fewbit.progress import SILENT, Progress

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

IMPORT = "import"
"""The rule under which a hub's log tells what an import door changed or could not keep."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What a PyTorch model may need to be imported, and which signature of a LiteRT file or SavedModel; see `load`."""

    example_inputs: Any = None
    dynamic_shapes: Any = None
    factory: str | Callable[[], Any] | None = None
    allow_pickle: bool = False
    signature: str | None = None

    def given(self) -> list[str]:
        """The options that are not at their defaults."""
        named = {name: getattr(self, name) for name in self.__slots__}
        return [name for name, value in named.items() if value is not None and value is not False]

    def unused(self, models: Sequence[Any]) -> list[str]:
        """Those that none of these models can use."""
        torch = any(is_torch(model) for model in models)
        signed = any(is_litert(model) or is_keras(model) for model in models)
        return [name for name in self.given() if not (signed if name == "signature" else torch)]


def load(
    model: str | Path | onnx.ModelProto | ir.Model | Hub | Any,
    *,
    normalize: bool = True,
    example_inputs: Any = None,
    dynamic_shapes: Any = None,
    factory: str | Callable[[], Any] | None = None,
    allow_pickle: bool = False,
    signature: str | None = None,
) -> Hub:
    """A hub of a model; the argument is not changed.

    Args:
        model: a model file, an onnx.ModelProto, an onnx_ir.Model or a hub; or PyTorch's: a torch.nn.Module, a TorchScript
            module, an ExportedProgram, or a file of any of them or of weights; or a LiteRT (.tflite) file, a Keras file or the
            folder of a SavedModel. What a file is, its content says.
        normalize: apply the default rules of `fewbit.graph.normalize`; what they did is in `Hub.log`.
        example_inputs: for a module of PyTorch: a tensor or array, a tuple of arguments of forward, or a mapping of their
            names. Their shapes and dtypes are what matters.
        dynamic_shapes: torch.export's, in which a size can also be a name: {"ids": {0: "batch", 1: "sequence"}}. None: the
            first axis of every input, where all have one size there and the module's code allows it; else the log has a
            line that says so.
        factory: for a file of weights, what builds the module: a callable, or `FILE.py:NAME("literal", ...)`.
        allow_pickle: unpickle files of PyTorch that run code when they are loaded. That code can do whatever you can:
            allow it only for files whose maker you trust.
        signature: the signature or subgraph of a LiteRT file, or the signature of a SavedModel, that has several; None: the
            first.

    Raises:
        ModelError: no model, a broken or refused one, external data that is missing, or a module that cannot be exported.
        DataError, RecipeError: the options do not fit the model.
        MissingExtraError: a PyTorch model, and torch is not installed; or a LiteRT file without ai-edge-litert; or a
            Keras file or SavedModel without tensorflow.
    """
    options = ImportOptions(example_inputs, dynamic_shapes, factory, allow_pickle, signature)
    _refuse(options, model)
    return graph.load(_imported(model, options) if _comes_in(model) else model, normalize=normalize)


def _comes_in(model: Any) -> bool:
    """Whether a model has to go through an import door."""
    return is_torch(model) or is_litert(model) or is_keras(model)


def _imported(model: Any, options: ImportOptions) -> Hub:
    if is_litert(model):
        from fewbit.formats.litert.read.door import read_litert

        read = read_litert(model, signature=options.signature)
        return _hub(read.model, read.notes)
    if is_keras(model):
        from fewbit.formats.keras.door import import_keras

        made = import_keras(model, signature=options.signature)
        return _hub(made.model, made.notes)
    from fewbit.formats.torch.door import import_torch

    imported = import_torch(
        model,
        example_inputs=options.example_inputs,
        dynamic_shapes=options.dynamic_shapes,
        factory=options.factory,
        allow_pickle=options.allow_pickle,
    )
    return _hub(imported.model, imported.notes)


def _hub(model: ir.Model, notes: Iterable[str]) -> Hub:
    hub = Hub(model)
    hub.record(RuleOutcome(IMPORT, "", False, note) for note in notes)
    return hub


def _refuse(options: ImportOptions, *models: Any) -> None:
    """Raise RecipeError if there are options that none of these models can use."""
    unused = options.unused(models)
    if unused:
        kind = "LiteRT" if unused == ["signature"] else "PyTorch"
        names = " and ".join(str(m) if isinstance(m, str | Path) else "the model" for m in models)
        raise RecipeError(f"{', '.join(unused)}: only for {kind} models, and {names} is none; leave it out")


def is_torch(model: Any) -> bool:
    """Whether a model or file is PyTorch's."""
    return kind_of(Path(model)) is not None if isinstance(model, str | Path) else is_torch_object(model)


def open_models(
    models: Sequence[Any],
    options: ImportOptions,
    data: Any = None,
    progress: Progress = SILENT,
    *,
    to_run: bool = False,
) -> list[Any]:
    """PyTorch and LiteRT models as hubs that are not normalized, with the first sample of the data where an example is needed
    and none is given; all others as they are, None included. Notes of the import go to `progress`.

    Args:
        to_run: models are to run in their own runtimes: LiteRT files stay as they are too, but for one of whose signatures one
            is asked for.

    Raises:
        InputError: a model that cannot be imported, or options that no model can use.
    """
    _refuse(options, *(model for model in models if model is not None))
    opened = []
    for model in models:
        stays = model is None or not _comes_in(model) or (to_run and options.signature is None and is_litert(model))
        opened.append(model if stays else _open(model, options, data))
    for hub in opened:
        for note in import_notes(hub) if isinstance(hub, Hub) else ():
            progress.note(note)
    return opened


def _open(model: Any, options: ImportOptions, data: Any) -> Hub:
    if options.example_inputs is None and data is not None and is_torch(model) and needs_example(model):
        options = replace(options, example_inputs=first_feed(data))
    return _imported(model, options)


def import_notes(hub: Hub) -> list[str]:
    """What the door that a hub came through has to say."""
    return [outcome.reason for outcome in hub.log if outcome.rule == IMPORT]


@contextmanager
def on_disk(model: Any) -> Iterator[Path]:
    """The path of an ONNX file as it is; a model in memory in a file for the time of the block."""
    if isinstance(model, str | Path):
        yield Path(model)
        return
    with tempfile.TemporaryDirectory(prefix="fewbit-") as folder:
        path = Path(folder) / "model.onnx"
        save(graph.load(model, normalize=False).model, path)
        yield path
