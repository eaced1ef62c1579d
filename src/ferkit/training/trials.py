"""A small search over the values of a recipe, with Optuna: short runs, the hopeless ones stopped early.

A search lives in one folder: `search.json` says what is searched, `study.db` (SQLite) holds the trials, `trial-001/`
and so on are their runs, `best.json` is the best so far. Killed at any moment it goes on where it was, and ends at the
same trials: what is tried next follows from the seed and the finished trials alone, and a run that was cut off goes on
from its last whole epoch. Where several trials run at once, what is tried next follows from those that are done by
then.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ferkit.data import Dataset
from ferkit.errors import MissingDependencyError, TrainingError, UsageError
from ferkit.evaluation import read_history
from ferkit.training import run_folder
from ferkit.training.config import USUAL_SEARCH
from ferkit.training.experiments import HERE, Experiment, Outcome, Row, Say, Where
from ferkit.training.search import Plan, Trial, Tuning, starting_point, suggest
from ferkit.training.start import Data, load_data

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
    say: Say | None
    _asked: dict[int, Any] = field(default_factory=dict)
    _stopped: set[int] = field(default_factory=set)

    def do(self, count: int) -> None:
        """Have trials done until there are so many, the ones that a kill cut off first."""
        self._take_back()
        with closing(self.where.runs(self._experiments(count), self._should_stop, say=self.say)) as outcomes:
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

    def _experiments(self, count: int) -> Iterator[Experiment]:
        """Trials, each thought of when there is room for it, so that it knows of all that ended before."""
        again = [one.user_attrs["number"] for one in self._in_state("WAITING") if "number" in one.user_attrs]
        known = {*again, *(number for number, _ in self._finished())}
        for number in [*again, *(one for one in range(1, count + 1) if one not in known)]:
            trial = self._asked[number] = self._ask(number)
            config = self.plan.config.changed(**trial.user_attrs["values"])
            folder = self.folder / f"trial-{number:03}"
            one = Experiment(self.dataset, config, folder, number=number, name=f"Trial {number}")
            if self._goes_on(one):
                yield one
            else:  # it was cut off between its last epoch and its end
                self._tell(Outcome(one))

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

    def _goes_on(self, one: Experiment) -> bool:
        """Judge the epochs that a trial has behind it; whether some are left to do."""
        table = one.folder / "history.csv"
        if table.is_file() and run_folder.stored_config(one.folder, self.dataset, {})[0] == one.config:
            return not any(self._should_stop(one, row) for row in read_history(table))
        if one.folder.exists():
            shutil.rmtree(one.folder)  # of a session that was cut off before its first epoch ended
        return True

    def _should_stop(self, one: Experiment, row: Row) -> bool:
        """Judge an epoch. No model is written, the figure is enough: so the last epoch ends a run too."""
        trial, last = self._asked[one.number], row["epoch"] == self.plan.config.epochs
        trial.report(row["val_accuracy"], int(row["epoch"]))
        if not last and trial.should_prune():
            self._stopped.add(one.number)
        return last or one.number in self._stopped

    def _tell(self, outcome: Outcome) -> None:
        """Write down how a trial went, and where the search stands."""
        one = outcome.experiment
        trial = self._asked.pop(one.number)
        if outcome.why is not None:
            trial.set_user_attr("why", outcome.why)
            if self.say:
                self.say(f"{one.name} failed: {outcome.why}")
        else:
            history = read_history(one.folder / "history.csv")
            trial.set_user_attr("epochs", len(history))
        if outcome.why is not None or one.number in self._stopped:
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


SEARCH_FILE, STUDY_FILE = "search.json", "study.db"

# The first epoch, mostly warm-up, stops nobody; and a median is one of this many finished trials.
_JUDGED_FROM = 2
_BEFORE_JUDGING = 4


def load_optuna() -> ModuleType:
    try:
        import optuna
    except ImportError as problem:
        raise MissingDependencyError(
            "Searching needs Optuna, which the base install leaves out. Install it with: pip install 'ferkit[tune]'."
        ) from problem
    module: ModuleType = optuna
    return module


def tune(
    data: Data,
    recipe: str | Plan | None = None,
    search: Sequence[str] | None = None,
    *,
    out: str | Path = "runs/tune",
    trials: int = 20,
    resume: bool = False,
    data_args: Sequence[str] = (),
    where: Where = HERE,
    say: Say | None = None,
    **changes: Any,
) -> Tuning:
    """Search for better values of a recipe until there are so many trials, those of earlier sessions included.

    Args:
        data: Faces with a training and a validation split, or the path of such data.
        recipe: Where to start, "better" by default, or a whole `Plan`.
        search: Names of the values to search, of `SPACE`; by default those of `USUAL_SEARCH`.
        out: The search's folder.
        trials: How many in all.
        resume: Go on with the search in `out`; recipe, search and changes may then be left out.
        data_args: The data in the command that is left in `best.json`, with its options; by default the data's name.
        where: On which engine trials are trained, and how many at once. It may change from session to session.
        say: Told before each trial what it tries, and why one failed; None trains without a word.
        **changes: Values of all trials, as `ferkit.train` takes them; `epochs` is 5 where it is left out.

    Raises:
        UsageError: no trial is asked for, or an engine that there is not.
        TrainingError: the folder is taken or unwritable, holds no such search, or no trial could be trained.
        ClusterError: of Ray.
        MissingDependencyError: no Optuna or no Ray.
    """
    if trials < 1:
        raise UsageError(f"trials must be at least 1. Received: {trials}.")
    where.check()
    folder = Path(out)
    if resume:
        plan = stored_plan(folder)
        plan.check(recipe, search, changes)
    else:
        plan = (
            recipe
            if isinstance(recipe, Plan)
            else Plan.of(recipe or "better", USUAL_SEARCH if search is None else search, **changes)
        )
        _check_free(folder)
    optuna = load_optuna()
    faces = load_data(data)
    with run_folder.alone(folder, "search"), _quiet_storage(optuna, folder):
        _claim(folder, plan, faces, resume)
        study = Trials(
            _open(optuna, folder), plan, faces, folder, list(data_args) or [Path(faces.source).name], where, say
        )
        study.do(trials)
        result = study.now()
    if not result.ranked:
        raise TrainingError(f"None of {len(result.trials)} trials could be trained; the last: {result.trials[-1].why}")
    return result


def _check_free(folder: Path) -> None:
    """Raise `TrainingError` if a search cannot begin in the folder because there is one."""
    taken = any((folder / name).exists() for name in (SEARCH_FILE, STUDY_FILE, BEST_FILE))
    if taken or any(folder.glob("trial-*")):
        raise TrainingError(f"{folder} holds a search already. Go on with --resume, or choose another --out.")


def stored_plan(folder: Path) -> Plan:
    """The plan of the search in a folder, to resume it."""
    path = folder / SEARCH_FILE
    if not path.is_file():
        raise TrainingError(f"{folder} holds no search: nothing to resume. Start it without --resume.")
    try:
        return Plan.from_dict(json.loads(path.read_text(encoding="utf-8"))["plan"])
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise TrainingError(f"{path} cannot be read ({problem}). Start a new search.") from problem


def _claim(folder: Path, plan: Plan, dataset: Dataset, resume: bool) -> None:
    """Say in the folder what is searched; a search that goes on must be the same one, on the same data."""
    path, about = folder / SEARCH_FILE, run_folder.about(dataset)
    if not resume:
        run_folder.write_json(path, {"plan": plan.to_dict(), "data": about})
        return
    stored = json.loads(path.read_text(encoding="utf-8"))
    # Facts that were not noted down yet when the search was begun are taken as given.
    if {**about, **stored["data"]} != about:
        raise TrainingError(
            f"{folder} holds a search on other data ({stored['data']['source']}). Resume with the same."
        )


def _open(optuna: ModuleType, folder: Path) -> Any:
    storage = optuna.storages.RDBStorage(f"sqlite:///{(folder / STUDY_FILE).resolve()}")
    pruner = optuna.pruners.MedianPruner(n_startup_trials=_BEFORE_JUDGING, n_warmup_steps=_JUDGED_FROM)
    return optuna.create_study(
        study_name="ferkit", storage=storage, pruner=pruner, direction="maximize", load_if_exists=True
    )


@contextmanager
def _quiet_storage(optuna: ModuleType, folder: Path) -> Iterator[None]:
    """Optuna says what it does on standard error, and its database has errors of its own: neither is for users."""
    from sqlalchemy.exc import SQLAlchemyError

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    except (optuna.exceptions.OptunaError, SQLAlchemyError) as problem:
        cause = problem.__cause__ or problem
        raise TrainingError(f"{folder / STUDY_FILE} cannot be used: {str(cause).splitlines()[0]}") from problem
    finally:
        optuna.logging.set_verbosity(before)
