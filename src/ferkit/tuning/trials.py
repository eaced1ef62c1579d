"""The trials of a search: thought of, trained, judged after every epoch, written down."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ferkit.datasets.records import Dataset
from ferkit.report import read_history
from ferkit.runs import Job, Outcome, Row, Where
from ferkit.search_space import applied, starting_point, suggest
from ferkit.training import run_folder
from ferkit.tuning.search import Plan, Trial, Tuning

BEST_FILE = "best.json"


@dataclass
class Trials:
    """The trials of a study of Optuna in a search's folder.

    words: argument and options of the data, for the command in `best.json`. where, say: as `tune` takes them.
    """

    study: Any
    plan: Plan
    dataset: Dataset
    folder: Path
    words: Sequence[str]
    where: Where
    say: Callable[[str], object] | None
    _asked: dict[int, Any] = field(default_factory=dict)
    _stopped: set[int] = field(default_factory=set)

    def do(self, count: int) -> None:
        """Have trials done until there are so many, the ones that a kill cut off first."""
        self._take_back()
        with closing(self.where.runs(self.dataset, self._jobs(count), self._enough, say=self.say)) as outcomes:
            for outcome in outcomes:
                self._tell(outcome)

    def now(self) -> Tuning:
        """Where the search stands."""
        found: list[Trial] = []
        for number, one in self._finished():
            told, why = one.user_attrs, one.user_attrs.get("why", "")
            state = "done" if one.state.name == "COMPLETE" else "failed" if why else "stopped"
            accuracy = max(one.intermediate_values.values(), default=None)
            found.append(Trial(number, state, told["values"], accuracy, told.get("epochs", 0), why))
        return Tuning(self.plan, self.folder, tuple(found), self.dataset.val.name, len(self.dataset.val))

    def _finished(self) -> list[tuple[int, Any]]:
        done = self._in_state("COMPLETE", "PRUNED")
        # Searches begun before several trials ran at once did not note numbers down: theirs is the order.
        return sorted(
            ((one.user_attrs.get("number", n), one) for n, one in enumerate(done, 1)), key=lambda pair: pair[0]
        )

    def _in_state(self, *names: str) -> list[Any]:
        return [one for one in self.study.get_trials(deepcopy=False) if one.state.name in names]

    def _take_back(self) -> None:
        """Trials that a kill cut off do not count; they are asked for again, with the values and number that they had."""
        for one in self._in_state("RUNNING"):
            self.study.tell(one.number, state=_states().FAIL)
            # Without values it was cut off while they were thought of, and they will be thought of as before.
            if {"values", "number"} <= one.user_attrs.keys():
                self.study.enqueue_trial(one.params, user_attrs={"number": one.user_attrs["number"]})

    def _jobs(self, count: int) -> Iterator[Job]:
        """Trials, each thought of when there is room for it, so that it knows of all that ended before."""
        again = [one.user_attrs["number"] for one in self._in_state("WAITING") if "number" in one.user_attrs]
        known = {*again, *(number for number, _ in self._finished())}
        for number in [*again, *(one for one in range(1, count + 1) if one not in known)]:
            trial = self._asked[number] = self._ask(number)
            config = applied(self.plan.config, trial.user_attrs["values"])
            job = Job(number, f"Trial {number}", self.folder / f"trial-{number:03}", config)
            if self._goes_on(job):
                yield job
            else:  # it was cut off between its last epoch and its end
                self._tell(Outcome(job))

    def _ask(self, number: int) -> Any:
        """A trial with values, those of the recipe for the first one."""
        from optuna.samplers import TPESampler

        # A sampler for each trial, so that one that was cut off is asked for again with the same values.
        seed = int(np.random.SeedSequence([self.plan.config.seed, number]).generate_state(1)[0])
        # Where others are under way: do not try what they try.
        self.study.sampler = TPESampler(seed=seed, constant_liar=not self.where.alone)
        if number == 1 and not self._in_state("WAITING"):
            self.study.enqueue_trial(starting_point(self.plan.search, self.plan.config))
        trial = self.study.ask()
        trial.set_user_attr("number", number)
        values = suggest(trial, self.plan.search, self.plan.config)
        trial.set_user_attr("values", values)
        if self.say:
            self.say(f"Trial {number}: {', '.join(f'{name} {value}' for name, value in values.items())}")
        return trial

    def _goes_on(self, job: Job) -> bool:
        """Judge the epochs that a trial has behind it; whether some are left to do."""
        table = job.folder / "history.csv"
        if table.is_file() and run_folder.stored_config(job.folder, self.dataset, {})[0] == job.recipe:
            return not any(self._enough(job, row) for row in read_history(table))
        if job.folder.exists():
            shutil.rmtree(job.folder)  # of a sitting that was cut off before its first epoch ended
        return True

    def _enough(self, job: Job, row: Row) -> bool:
        """Judge an epoch. No model is written, the figure is enough: so the last epoch ends a run too."""
        trial, last = self._asked[job.number], row["epoch"] == self.plan.config.epochs
        trial.report(row["val_accuracy"], int(row["epoch"]))
        if not last and trial.should_prune():
            self._stopped.add(job.number)
        return last or job.number in self._stopped

    def _tell(self, outcome: Outcome) -> None:
        """Write down how a trial went, and where the search stands."""
        job, trial = outcome.job, self._asked.pop(outcome.job.number)
        if outcome.why is not None:
            trial.set_user_attr("why", outcome.why)
            if self.say:
                self.say(f"{job.name} failed: {outcome.why}")
        else:
            history = read_history(job.folder / "history.csv")
            trial.set_user_attr("epochs", len(history))
        if outcome.why is not None or job.number in self._stopped:
            self.study.tell(trial, state=_states().PRUNED)
        else:
            self.study.tell(trial, max(row["val_accuracy"] for row in history), state=_states().COMPLETE)
        now = self.now()
        if now.ranked:
            _keep_only(now)
            run_folder.write_json(self.folder / BEST_FILE, now.to_dict(self.words))


def _keep_only(tuning: Tuning) -> None:
    """Checkpoints of all trials but the best would only fill the disk."""
    for trial in tuning.trials:
        if trial.number != tuning.ranked[0].number:
            shutil.rmtree(tuning.folder / f"trial-{trial.number:03}" / "checkpoints", ignore_errors=True)


def _states() -> Any:
    from optuna.trial import TrialState

    return TrialState
