"""The search: a ladder of candidates, repair where accuracy asks for it, and a verdict on samples that served for nothing
else.

It runs from its start every time; what the session holds is not done again. So it needs no memory of its own, and a
search that was killed goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from fewbit.errors import ConstraintError, DataError, RecipeError
from fewbit.flow.auto.asks import Asks
from fewbit.flow.auto.describe import energy_of
from fewbit.flow.auto.entries import FLOAT, NO_LOSS, Entry, acceptable, mean_drop, preferred, promising
from fewbit.flow.auto.found import Found, Options
from fewbit.flow.auto.mixed import FORMATS, mixed_candidates
from fewbit.flow.auto.session import Answer, Ask, OutOfTimeError, Session
from fewbit.flow.auto.setup import Setup, Splits
from fewbit.flow.auto.speed import SPEED_FORMATS, TARGETS, speed_candidates
from fewbit.flow.common import target_for
from fewbit.plan.recipe import recipe_data
from fewbit.search.ladder import Candidate, family, ladder
from fewbit.search.limits import max_drop
from fewbit.search.objective import LATENCY
from fewbit.search.repair import repairs, trained, training_seconds

ALPHA_SHARES = (0.8, 0.1, 0.05, 0.05)
"""Of the chance to be wrong, spent on the candidates that are certified one after another: the first is nearly always
the only one. Their sum is 1, so that the chance that any of them passes wrongly is the one that was asked for
(Bonferroni with weights; as in Wiens 2003, without handing on)."""

_RESERVE = 2.5
"""Times what the float model took on the samples for certification, with the start of the process: a candidate's turn,
and its statistics."""


class Search:
    """One search.

    changed: called whenever something was found.
    """

    def __init__(self, setup: Setup, options: Options, session: Session, changed: Callable[[Found], None]) -> None:
        self.setup, self.options, self.session = setup, options, session
        self.target = target_for(setup.target)
        self.found = Found()
        handed = session.share(setup, "samples and metric")
        self.asks = Asks(handed, self.found, setup.confidence, "energy" in options.compared_by.axes)
        self._changed = changed
        self._mixtures: list[Candidate] = []  # the smallest first, each about 3 dB above the one before

    def run(self) -> Found:
        """Search, until there is a verdict or the time is over.

        Raises:
            InputError: what the user gave is wrong. ConstraintError: there was no time to measure anything.
        """
        found = self.found
        try:
            self._prepare()
        except OutOfTimeError:
            raise ConstraintError(
                f"the budget ended while the float model was looked at ({found.stage}): nothing was measured; give a longer "
                "--budget, what is finished will not be done again"
            ) from None
        reserve = _RESERVE * self.asks.references["certification"].finished.seconds
        deadline, begun = self.session.deadline, time.monotonic()
        if deadline is not None:  # at least half of what is left is for the search
            self.session.deadline = max(deadline - reserve, begun + (deadline - begun) / 2)
        try:
            self._climb()
        except OutOfTimeError:
            self._out_of_time("before all candidates were tried")
        self.session.deadline = deadline
        try:
            self._certify()
        except OutOfTimeError:
            self._out_of_time("before there was a verdict")
            self._choose_without_verdict()
        try:
            self._look_at_layers()
        except OutOfTimeError:
            if not found.out_of_time:
                found.notes.append("the time was up before the noise of the layers was found")
        self._advise()
        self._tell("done")
        return found

    def _out_of_time(self, when: str) -> None:
        found = self.found
        found.out_of_time = True
        found.notes.append(f"the time was up {when}: a longer --budget with --resume goes on")
        for entry in found.entries:
            entry.doing = ""
            if entry.status in ("waiting", "working"):
                entry.status, entry.reason = "skipped", "the time was up"

    # --- what comes first

    def _prepare(self) -> None:
        found, setup = self.found, self.setup
        self._tell("looking at the samples")
        surveyed = self._must(self.asks.survey())
        found.splits = Splits.from_dict(surveyed.finished.result["splits"])
        found.notes += surveyed.finished.result["notes"]
        self._tell("the float model in the target's format")
        found.twin = self._must(self.asks.float_twin())
        for part in ("search", "certification"):
            self._tell(f"the float model on the samples for {part}")
            answer = self._must(self.asks.reference(part))
            self.asks.references[part] = answer
            found.baseline[part] = dict(answer.finished.result)
        warned = {text for part in found.baseline.values() for text in part["warnings"]}
        found.notes += sorted(warned)
        metric = setup.resolved_metric()
        value = float(found.baseline["certification"]["value"])
        found.share = metric.points or (metric.higher_is_better and 0.0 <= value <= 1.0)
        found.drop = max_drop(self.options.max_drop, share=found.share, baseline=value)
        if self.options.compared_by != self.options.objective:
            found.notes.append(
                f"nothing is timed for {setup.target}, which stands for a device that is not this machine: candidates are "
                "compared by an estimate of the work of a run (multiplications and bytes moved, by precision), not by speed"
            )

    def _must(self, ask: Ask) -> Answer:
        answer = self.session.one(ask)
        if not answer.ok:
            raise DataError(f"{ask.label}: {answer.finished.result['reason']}")
        return answer

    # --- candidates

    def _climb(self) -> None:
        recipes = [Candidate(_id(r), "ladder", recipe_data(r), "asked for") for r in self.options.recipes]
        self._try(recipes or ladder(self.setup.target, self.options.objective))
        if all(entry.status == "failed" for entry in self.found.entries):
            first = self.found.entries[0]
            raise RecipeError(f"no candidate could be measured; {first.id}: {first.reason}")
        if self._better_was_refused() is not None:
            self._repair()
        if not recipes:
            self._allocate()
            self._mix_for_speed()

    def _allocate(self) -> None:
        """Find the smallest mixture of formats that keeps to the drop, by bisection along the frontier of size and noise."""
        formats = FORMATS.get(family(self.setup.target))
        if formats is None or "size" not in self.options.objective.axes:
            return
        noise = self._sensitivity(formats, mix=True)
        if noise is None:
            return
        candidates = self._mixtures = mixed_candidates(noise["layers"], formats, noise["pairs"])
        low, high = 0, len(candidates) - 1
        while low <= high:
            middle = (low + high) // 2
            self._try([candidates[middle]])
            if self._keeps(self.found.entries[-1]):
                high = middle - 1
            else:
                low = middle + 1

    def _sensitivity(self, recipes: Sequence[str], *, mix: bool) -> Mapping[str, Any] | None:
        """The noises of layers in the formats of some recipes; None where they cannot be found."""
        self._tell("finding how sensitive each layer is")
        answer = self.session.one(self.asks.sensitivity(recipes, mix=mix))
        if not answer.ok:
            self.found.notes.append(f"no mixed precision: {answer.finished.result['reason']}")
            return None
        self.found.notes += answer.finished.result["notes"]
        return answer.finished.result

    def _mix_for_speed(self) -> None:
        """Try mixtures of float and integers where the times of their kernels foretell that they are faster than either."""
        if "latency" not in self.options.objective.axes or self.setup.target not in TARGETS:
            return
        noise = self._sensitivity(SPEED_FORMATS, mix=False)
        if noise is None:
            return
        self._tell("finding what each layer takes in each format")
        answer = self.session.one(self.asks.costs(SPEED_FORMATS, noise["layers"]))
        if not answer.ok:
            self.found.notes.append(f"no mixture by speed: {answer.finished.result['reason']}")
            return
        self.found.notes += answer.finished.result["notes"]
        best = next(iter(preferred(self._good(), LATENCY)), self.float_entry())
        for candidate in speed_candidates(answer.finished.result, best.candidate.recipe, best.speed_up or 1.0):
            self._try([candidate])
            if self._keeps(self.found.entries[-1]):
                break  # those that are left have less noise, and are slower

    def _keeps(self, entry: Entry) -> bool:
        """Whether a candidate kept to the drop on the samples for the search."""
        assert self.found.drop is not None
        return entry.status == "measured" and float(entry.drop["drop"]) <= self.found.drop.value

    def _repair(self) -> bool:
        """Try what may give a candidate its accuracy back, one after another until the best one is accurate enough; whether
        there was something to try."""
        refused = self._better_was_refused()
        if refused is None:
            return False
        tried = [entry.candidate.asked() for entry in self.found.entries]
        to_float = self.options.objective.only != "size" and not self.target.integers_only
        found = repairs(refused.candidate, refused.built, to_float=to_float)
        candidates = [candidate for candidate in found if candidate.asked() not in tried]
        for candidate in candidates:
            self._try([candidate])
            last = self.found.entries[-1]
            slow = candidate.min_sqnr is not None and last.measured is not None and not last.faster
            if self._better_was_refused() is None or (slow and self.options.compared_by.only == "latency"):
                break  # with more layers in float it would not be faster
        return self._train(refused) or bool(candidates)

    def _widen(self, refused: Entry) -> bool:
        """Try the mixture that comes after one that was refused, with half of its noise; whether there is one."""
        names = [candidate.id for candidate in self._mixtures]
        if refused.id not in names:
            return False
        tried = {entry.id for entry in self.found.entries}
        wider = [c for c in self._mixtures[names.index(refused.id) + 1 :] if c.id not in tried]
        self._try([replace(c, stage="repair") for c in wider[:1]])
        return bool(wider)

    def _train(self, refused: Entry) -> bool:
        """Train a candidate that nothing cheaper could repair, where that is possible and short enough; whether it was
        done."""
        if self._better_was_refused() is None or "tune" in refused.candidate.options:
            return False
        found, base = self.found, refused.candidate.recipe
        again = next((e for e in found.entries if e.candidate.recipe == base and "tune" in e.candidate.options), None)
        if again is not None or find_spec("torch") is None or refused.measured is None:
            return False
        if refused.built is None or not refused.built["can_learn"]:
            return False
        assert found.splits is not None
        expected = training_seconds(len(found.splits.training), self._float_milliseconds(refused))
        left = self.session.left()
        most = _MOST_TRAINING if left == float("inf") else left / 2
        if expected > most:
            found.advice.append(
                f"{refused.id} loses too much: `fewbit tune` may give it its accuracy back, in about {expected / 60:.0f} "
                "minutes on this machine; a longer --budget lets the search try it"
            )
            return False
        self._try([trained(refused.candidate)])
        return True

    def _float_milliseconds(self, entry: Entry) -> float:
        """Of the float model for one sample: as it was timed beside a candidate, or, where the target is not timed, as the
        samples for the search took."""
        timed = None if entry.measured is None else entry.measured.get("float_milliseconds")
        looked = self.found.baseline["search"]
        return float(timed) if timed is not None else 1000.0 * looked["seconds"] / max(1, looked["samples"])

    def _better_was_refused(self) -> Entry | None:
        """The candidate that would be preferred, were it not for its accuracy; None where the best one is accurate enough."""
        good = self._good()
        order = preferred([e for e in self._pool() if e.status in ("measured", "stopped")], self.options.compared_by)
        for entry in order:
            if entry in good or entry.id == FLOAT:
                return None
            # Of the same kernels with more effort one may seem the faster by chance.
            mended = any(e.candidate.recipe == entry.candidate.recipe and e.candidate.min_sqnr is None for e in good)
            if entry.within(self.options.limits) is None and not mended:
                return entry
        return None

    def _try(self, candidates: Sequence[Candidate]) -> None:
        entries = [Entry(candidate, self._float_bytes()) for candidate in candidates]
        self.found.entries += entries
        size = max(1, self.options.workers)
        for start in range(0, len(entries), size):
            self._measure(entries[start : start + size])

    def _measure(self, entries: Sequence[Entry]) -> None:
        """Build, score and time some candidates."""
        built = self._stage(
            entries,
            "building",
            [self.asks.build(e) for e in entries],
        )
        for entry, answer in built:
            entry.built, entry.files = dict(answer.finished.result), str(answer.files)
        entries = [entry for entry, _ in built]
        for entry, answer in self._stage(entries, "scoring", [self.asks.score(e, "search") for e in entries]):
            entry.scored = dict(answer.finished.result)
            self.found.evaluated += int(entry.drop["samples"])
            if entry.scored["stopped"]:
                entry.reason = f"stopped after {entry.drop['samples']} samples: it exceeds the drop beyond doubt"
        entries = [entry for entry in entries if entry.scored is not None]
        for entry in entries:  # one after another: they measure time
            for _, answer in self._stage([entry], "timing", [self.asks.measure(entry)]):
                entry.measured = dict(answer.finished.result)
                assert self.found.twin is not None and entry.built is not None
                entry.energy = energy_of(entry.measured, entry.built, self.found.twin.finished.result)
                assert entry.scored is not None
                entry.status = "stopped" if entry.scored["stopped"] else "measured"
                entry.reason = entry.reason or entry.within(self.options.limits) or ""
            self._choose_so_far()

    def _stage(self, entries: Sequence[Entry], doing: str, asks: Sequence[Ask]) -> list[tuple[Entry, Answer]]:
        """Those for which the work was done; the others have failed, and say why."""
        if not entries:
            return []
        for entry in entries:
            entry.status, entry.doing = "working", doing
        self._tell(f"{doing} {', '.join(e.id for e in entries)}")
        answers = self.session.do(asks)
        done = []
        for entry, answer in zip(entries, answers, strict=True):
            entry.doing = ""
            entry.seconds += answer.finished.seconds
            if answer.ok:
                done.append((entry, answer))
            else:
                entry.status, entry.reason = "failed", f"{doing}: {answer.finished.result['reason']}"
        self._tell(self.found.stage)
        return done

    def _float_bytes(self) -> int:
        assert self.found.twin is not None
        return int(self.found.twin.finished.result["bytes"])

    def _choose_so_far(self) -> None:
        best = self._best_so_far()
        self.found.chosen = None if best is None or best.id == FLOAT else best
        self._tell(self.found.stage)

    def _best_so_far(self) -> Entry | None:
        """The best of those that keep to the drop on all samples that were looked at."""
        assert self.found.drop is not None
        limit = self.found.drop.value
        order = preferred(self._good(), self.options.compared_by)
        return next((e for e in order if mean_drop(e.drops) <= limit), None)

    def _pool(self) -> list[Entry]:
        """All candidates, and the float model as one of them where the target runs it."""
        return [*self.found.entries, *self._itself()]

    def _good(self) -> list[Entry]:
        assert self.found.drop is not None
        value = self.found.drop.value
        good = [e for e in self.found.entries if acceptable(e, self.options.limits, value)]
        return [*good, *(e for e in self._itself() if e.within(self.options.limits) is None)]

    def _itself(self) -> list[Entry]:
        """The float model, of which a target of integers alone can make nothing."""
        return [] if self.target.integers_only else [self.float_entry()]

    def float_entry(self) -> Entry:
        """The float model, which loses nothing and gains nothing."""
        assert self.found.twin is not None
        whole = {"ratio": 1.0, "low": 1.0, "high": 1.0, "milliseconds": None}
        return Entry(
            Candidate(FLOAT, "ladder", FLOAT, "the model as it is"),
            self._float_bytes(),
            "measured",
            files=str(self.found.twin.files),
            built={**self.found.twin.finished.result, "layers": [], "notes": [], "forms": {}, "sqnr_db": None},
            scored={"drop": _EXACT, "stopped": False, "behaviour": None},
            measured={"latency": whole, "memory": None, "joules": None},
            energy={"ratio": 1.0, "estimated": False, "source": ""},
        )

    # --- the verdict

    def _certify(self) -> None:
        """Certify candidates, the best first, until one keeps to the drop; repair once where the best one does not."""
        found = self.found
        found.chosen = None
        for spent in range(len(ALPHA_SHARES)):
            entry = self._next(last=spent == len(ALPHA_SHARES) - 1)
            if entry is None or entry.id == FLOAT:
                found.chosen, found.verdict = entry, None if entry is not None else found.verdict
                return
            verdict = self._certified(entry, spent)
            if verdict["kind"] == "pass" or (self._is_within(entry, verdict) and not self.options.strict):
                found.chosen, found.verdict = entry, verdict
                return
            entry.refused = True
            if found.verdict is None:
                found.verdict = verdict  # of the best one
            if not found.out_of_time and (not self._widen(entry) and spent == 0):
                self._repair()
            found.chosen = None
        for itself in self._itself():
            if itself.within(self.options.limits) is None:
                found.chosen, found.verdict = itself, None

    def _choose_without_verdict(self) -> None:
        """Choose the best so far that was not refused, where there was no time to certify it; nothing, if only what is
        proved will do."""
        self.found.chosen = None
        entry = None if self.options.strict else self._best_so_far()
        if entry is not None:
            self.found.chosen, self.found.verdict = entry, None

    def _next(self, *, last: bool) -> Entry | None:
        """The candidate to be certified next: the best one, and after one that was refused, the best that keeps clearly
        more of the float model; in the last place, the one that keeps most."""
        assert self.found.drop is not None
        order = preferred(self._good(), self.options.compared_by)
        refused = [e.sqnr for e in self.found.entries if e.refused]
        if refused:
            clearly = max(refused) + (2 if last else 1) * _CLEARLY
            repaired = ("repair", "tune") if not last else ()
            kept = [e for e in order if e.candidate.stage in repaired or e.sqnr >= clearly or e.id == FLOAT]
            order = kept if kept or not last else sorted(order, key=lambda e: -e.sqnr)
        return promising(order, self.options.compared_by, self.found.drop.value)

    def _is_within(self, entry: Entry, verdict: dict[str, Any]) -> bool:
        """Whether a candidate that the samples do not decide on may be chosen: all of them together, those for the
        search too, say that it keeps to the drop."""
        assert self.found.drop is not None
        seen = verdict["all"] if verdict.get("all") is not None else mean_drop(entry.drops)
        return verdict["kind"] == "undecided" and seen <= self.found.drop.value

    def _certified(self, entry: Entry, spent: int) -> dict[str, Any]:
        assert self.found.drop is not None
        confidence = 1.0 - (1.0 - self.setup.confidence) * ALPHA_SHARES[spent]
        entry.doing = "certifying"
        self._tell(f"certifying {entry.id}")
        answer = self.session.one(self.asks.score(entry, "certification", confidence))
        entry.doing = ""
        entry.seconds += answer.finished.seconds
        if not answer.ok:
            entry.status, entry.reason = "failed", f"certifying: {answer.finished.result['reason']}"
            entry.certified = {"kind": "failed"}
            return {"kind": "failed", "drop": float("inf")}
        result = answer.finished.result
        self.found.evaluated += int(result["drop"]["samples"])
        if result["all"] is not None:
            self.found.evaluated += int(self.found.baseline["search"]["samples"])
        told = {name: result[name] for name in ("kind", "all", "needed", "sentence", "behaviour")}
        entry.certified = {**result["drop"], **told}
        if told["kind"] == "fail":
            entry.reason = "on the samples for certification it exceeds the drop beyond doubt"
        return dict(entry.certified)

    def _look_at_layers(self) -> None:
        """Find how much noise each layer of the chosen model brings."""
        chosen = self.found.chosen
        if chosen is None or chosen.id == FLOAT:
            return
        self._tell(f"looking at the layers of {chosen.id}")
        answer = self.session.one(self.asks.layer_noise(chosen))
        if answer.ok:
            self.found.layer_sqnr = dict(answer.finished.result["sqnr_db"])
        else:
            self.found.notes.append(f"the noise of layers is not known: {answer.finished.result['reason']}")

    def _advise(self) -> None:
        """What the user should know beside the figures."""
        found, objective = self.found, self.options.objective
        timed = [e for e in found.entries if e.speed_up is not None]
        if timed and objective.only == "latency":
            fastest = max(timed, key=lambda e: e.speed_up or 0.0)
            if (fastest.speed_up or 0.0) < 1.0 / NO_LOSS:
                found.advice.append(
                    f"nothing is faster than the float model here (the fastest, {fastest.id}, runs at "
                    f"×{fastest.speed_up:.2f}): leave it in float, or take what saves size at its speed; more speed "
                    "takes a smaller network, more threads, or a target whose kernels suit it"
                )

    def heard(self, line: Mapping[str, Any]) -> None:
        """Work tells how far it is."""
        self.found.doing = dict(line)
        self._changed(self.found)

    def _tell(self, stage: str) -> None:
        self.found.stage, self.found.doing = stage, None
        self._changed(self.found)


_MOST_TRAINING = 120.0  # seconds, where no budget says how long a search may take
_EXACT = {"drop": 0.0, "low": 0.0, "high": 0.0, "samples": 1, "confidence": 0.95}
_CLEARLY = 3.0  # dB: half the noise power


def _id(recipe: str) -> str:
    """How a recipe is called in the session: its name, or that of its file."""
    return recipe.rsplit("/", 1)[-1]
