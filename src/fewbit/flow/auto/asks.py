"""What a search asks of the processes that work for it, and what each piece of work depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fewbit.flow.auto.entries import Entry
from fewbit.flow.auto.found import Found
from fewbit.flow.auto.session import Answer, Ask
from fewbit.flow.auto.setup import Part
from fewbit.flow.auto.work import PLAN


@dataclass(frozen=True, slots=True)
class Asks:
    """The pieces of work of one search.

    setup: what all of them are handed. found: what is known so far. energy: whether it counts. references: what the float
    model answered, by part.
    """

    setup: Any
    found: Found
    confidence: float
    energy: bool
    references: dict[Part, Answer] = field(default_factory=dict)

    def survey(self) -> Ask:
        return Ask("survey", "survey", {}, {"setup": self.setup})

    def float_twin(self) -> Ask:
        return self._ask("float_twin", "float model", {}, {})

    def reference(self, part: Part) -> Ask:
        return self._ask("reference", f"float on {part}", {"part": part}, {"part": part})

    def sensitivity(self, recipes: Sequence[str], *, mix: bool) -> Ask:
        asked = {"recipes": recipes, "mix": mix}
        return self._ask("sensitivity", "sensitivity", asked, asked)

    def costs(self, recipes: Sequence[str], noise: Sequence[Mapping[str, Any]]) -> Ask:
        return self._ask("costs", "costs", {"recipes": recipes}, {"noise": noise}, alone=True)

    def build(self, entry: Entry) -> Ask:
        candidate = entry.candidate.asked()
        return self._ask("build", entry.id, candidate, {"candidate": candidate})

    def score(self, entry: Entry, part: Part, confidence: float | None = None) -> Ask:
        assert self.found.drop is not None
        asked = {"part": part, "limit": self.found.drop.value, "confidence": confidence or self.confidence}
        answers = str(self.references[part].files / "outputs.npz")
        pooled = str(self.references["search"].files / "outputs.npz") if part == "certification" else None
        arguments = {**asked, "model": _file(entry), "answers": answers, "pooled": pooled, "points": self.found.share}
        return self._ask("score", entry.id, {**asked, "candidate": entry.candidate.asked()}, arguments)

    def measure(self, entry: Entry) -> Ask:
        twin = self.found.twin
        assert twin is not None
        files = {"model": _file(entry), "baseline": str(twin.files / twin.finished.result["file"])}
        asked = {"candidate": entry.candidate.asked(), "energy": self.energy}
        return self._ask("measure", entry.id, asked, {**files, "energy": self.energy}, alone=True)

    def layer_noise(self, entry: Entry) -> Ask:
        arguments = {"plan": f"{entry.files}/{PLAN}"}
        return self._ask("layer_noise", entry.id, {"candidate": entry.candidate.asked()}, arguments)

    def _ask(
        self, kind: str, label: str, asked: Mapping[str, Any], arguments: Mapping[str, Any], *, alone: bool = False
    ) -> Ask:
        return Ask(kind, label, asked, {"setup": self.setup, "splits": self.found.splits, **arguments}, alone)


def _file(entry: Entry) -> str:
    assert entry.built is not None
    return f"{entry.files}/{entry.built['file']}"
