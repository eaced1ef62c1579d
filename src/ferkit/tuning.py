"""A small search over the values of a recipe, with Optuna: short runs, the hopeless ones stopped early.

A search lives in one folder: `search.json` says what is searched, `study.db` (SQLite) holds the trials, `trial-001/` and
so on are their runs, `best.json` is the best so far. Killed at any moment it goes on where it was, and ends at the same
trials: what is tried next follows from the seed and the finished trials alone, and a run that was cut off goes on from
its last whole epoch.
"""

import gc
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ferkit import run_folder
from ferkit.datasets.records import Dataset
from ferkit.errors import MissingDependencyError, TrainingError, UsageError
from ferkit.files import blame
from ferkit.keras_backend import load_keras
from ferkit.recipes import TrainConfig
from ferkit.report import read_history
from ferkit.search import Plan, Trial, Tuning
from ferkit.search_space import applied, starting_point, suggest
from ferkit.training import train

SEARCH_FILE, STUDY_FILE, BEST_FILE = "search.json", "study.db", "best.json"
_LOCK_FILE = ".lock"

# The first epoch, mostly warm-up, stops nobody; and a median is one of this many finished trials.
_JUDGED_FROM = 2
_BEFORE_JUDGING = 4


class _EnoughError(Exception):
    """Ends a run from inside: all epochs are done, or it is hopeless."""


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
    dataset: Dataset,
    plan: Plan,
    *,
    out: Path,
    trials: int = 20,
    resume: bool = False,
    data: Sequence[str] = (),
    say: Callable[[str], object] | None = None,
) -> Tuning:
    """Search until there are so many trials, those of earlier sittings included.

    Args:
        dataset: faces with a training and a validation split.
        plan: what is searched; to resume, that of the search in `out`.
        out: the search's folder.
        trials: how many in all.
        resume: go on with the search in `out`.
        data: what stands for the data in the command that is left in `best.json`; empty takes the data's name.
        say: told before each trial what it tries, and why one failed; None trains without a word.

    Raises:
        UsageError: no trial is asked for.
        TrainingError: the folder is taken or unwritable, holds no such search, or no trial could be trained.
        MissingDependencyError: no Optuna.
    """
    check_trials(trials)
    optuna, folder = load_optuna(), Path(out)
    words = list(data) or [Path(dataset.source).name]
    (stored_plan if resume else check_free)(folder)
    with _alone(folder), _quiet_storage(optuna, folder):
        _claim(folder, plan, dataset, resume)
        study = _open(optuna, folder)
        for cut_off in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
            study.tell(cut_off.number, state=optuna.trial.TrialState.FAIL)
        while len(tried := _trials(study)) < trials:
            _one(optuna, study, plan, dataset, folder, len(tried) + 1, say)
            now = Tuning(plan, folder, _trials(study), dataset.val.name, len(dataset.val))
            if now.ranked:
                _keep_only(now)
                run_folder.write_json(folder / BEST_FILE, now.to_dict(words))
        result = Tuning(plan, folder, _trials(study), dataset.val.name, len(dataset.val))
    if not result.ranked:
        raise TrainingError(f"None of {len(result.trials)} trials could be trained; the last: {result.trials[-1].why}")
    return result


def check_trials(trials: int) -> None:
    if trials < 1:
        raise UsageError(f"trials must be at least 1. Received: {trials}.")


def check_free(folder: Path) -> None:
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
    if Plan.from_dict(stored["plan"]) != plan:
        raise TrainingError(f"{folder} holds another search. Resume it with the options it was started with, or none.")
    if stored["data"] != about:
        raise TrainingError(
            f"{folder} holds a search on other data ({stored['data']['source']}). Resume with the same."
        )


def _open(optuna: ModuleType, folder: Path) -> Any:
    storage = optuna.storages.RDBStorage(f"sqlite:///{(folder / STUDY_FILE).resolve()}")
    pruner = optuna.pruners.MedianPruner(n_startup_trials=_BEFORE_JUDGING, n_warmup_steps=_JUDGED_FROM)
    return optuna.create_study(
        study_name="ferkit", storage=storage, pruner=pruner, direction="maximize", load_if_exists=True
    )


def _one(
    optuna: ModuleType,
    study: Any,
    plan: Plan,
    dataset: Dataset,
    folder: Path,
    number: int,
    say: Callable[[str], object] | None,
) -> None:
    """The next trial, from the question what to try to the answer how it went."""
    states = optuna.trial.TrialState
    # A sampler for each trial, so that one that was cut off is asked for again with the same values.
    seed = int(np.random.SeedSequence([plan.config.seed, number]).generate_state(1)[0])
    study.sampler = optuna.samplers.TPESampler(seed=seed)
    if number == 1 and not study.get_trials(states=[states.WAITING]):
        study.enqueue_trial(starting_point(plan.search, plan.config))
    trial = study.ask()
    values = suggest(trial, plan.search, plan.config)
    trial.set_user_attr("values", values)
    if say:
        say(f"Trial {number}: {', '.join(f'{name} {value}' for name, value in values.items())}")
    try:
        accuracy = _run(trial, applied(plan.config, values), dataset, folder / f"trial-{number:03}", quiet=say is None)
    except TrainingError as problem:
        if isinstance(problem.__cause__, OSError):
            raise  # of the disk, not of the values
        trial.set_user_attr("why", str(problem))
        study.tell(trial, state=states.PRUNED)
        if say:
            say(f"Trial {number} failed: {problem}")
        return
    study.tell(trial, accuracy, state=states.COMPLETE if accuracy is not None else states.PRUNED)


def _run(trial: Any, config: TrainConfig, dataset: Dataset, folder: Path, *, quiet: bool) -> float | None:
    """Train a trial; the accuracy of its best epoch, None if it was stopped. No model is written: the figure is enough."""
    table = folder / "history.csv"
    begun = table.is_file() and run_folder.stored_config(folder, dataset, {})[0] == config
    if not begun and folder.exists():
        shutil.rmtree(folder)  # of a sitting that was cut off before its first epoch ended
    stopped = False

    def judge(row: Mapping[str, float]) -> None:
        nonlocal stopped
        trial.report(row["val_accuracy"], int(row["epoch"]))
        stopped = row["epoch"] < config.epochs and trial.should_prune()

    def on_epoch(row: Mapping[str, float]) -> None:
        judge(row)
        if stopped or row["epoch"] == config.epochs:
            raise _EnoughError

    history = read_history(table) if begun else []
    for row in history:
        judge(row)
    if not stopped and len(history) < config.epochs:
        _forget_networks()
        with suppress(_EnoughError):
            train(dataset, config, out=folder, resume=begun, quiet=quiet, on_epoch=on_epoch)
        history = read_history(table)
    trial.set_user_attr("epochs", len(history))
    return None if stopped else max(row["val_accuracy"] for row in history)


def _forget_networks() -> None:
    """What Keras remembers of the trials before would fill the memory."""
    load_keras().backend.clear_session()
    gc.collect()


def _trials(study: Any) -> tuple[Trial, ...]:
    """Finished trials in order; those that a kill cut off were asked for again and do not count."""
    found: list[Trial] = []
    for one in study.get_trials():
        if one.state.name not in ("COMPLETE", "PRUNED"):
            continue
        told, why = one.user_attrs, one.user_attrs.get("why", "")
        state = "done" if one.state.name == "COMPLETE" else "failed" if why else "stopped"
        accuracy = max(one.intermediate_values.values(), default=None)
        found.append(Trial(len(found) + 1, state, told["values"], accuracy, told.get("epochs", 0), why))
    return tuple(found)


def _keep_only(tuning: Tuning) -> None:
    """Checkpoints of all trials but the best would only fill the disk."""
    for trial in tuning.trials:
        if trial.number != tuning.ranked[0].number:
            shutil.rmtree(tuning.folder / f"trial-{trial.number:03}" / "checkpoints", ignore_errors=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder, made if need be; the system lets go of it when the process ends, however it ends."""
    with blame(folder / _LOCK_FILE, TrainingError):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK_FILE).open("a")
    with lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass  # Windows has other locks; two searches in one folder are rare enough
        except BlockingIOError as problem:
            raise TrainingError(f"Another search works in {folder}. Wait for it, or choose another --out.") from problem
        yield


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
