"""A small search over the values of a recipe, with Optuna: short runs, the hopeless ones stopped early.

A search lives in one folder: `search.json` says what is searched, `study.db` (SQLite) holds the trials, `trial-001/` and
so on are their runs, `best.json` is the best so far. Killed at any moment it goes on where it was, and ends at the same
trials: what is tried next follows from the seed and the finished trials alone, and a run that was cut off goes on from
its last whole epoch. Where several trials run at once, what is tried next follows from those that are done by then.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from ferkit.datasets.records import Dataset
from ferkit.errors import MissingDependencyError, TrainingError, UsageError
from ferkit.runs import HERE, Where
from ferkit.training import run_folder
from ferkit.tuning.search import Plan, Tuning
from ferkit.tuning.trials import BEST_FILE, Trials

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
    dataset: Dataset,
    plan: Plan,
    *,
    out: Path,
    trials: int = 20,
    resume: bool = False,
    data: Sequence[str] = (),
    where: Where = HERE,
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
        where: on which engine trials are trained, and how many at once. It may change from sitting to sitting.
        say: told before each trial what it tries, and why one failed; None trains without a word.

    Raises:
        UsageError: no trial is asked for, or an engine that there is not.
        TrainingError: the folder is taken or unwritable, holds no such search, or no trial could be trained.
        ClusterError: of Ray.
        MissingDependencyError: no Optuna or no Ray.
    """
    check_trials(trials)
    where.check()
    optuna, folder = load_optuna(), Path(out)
    words = list(data) or [Path(dataset.source).name]
    (stored_plan if resume else check_free)(folder)
    with run_folder.alone(folder, "search"), _quiet_storage(optuna, folder):
        _claim(folder, plan, dataset, resume)
        study = _open(optuna, folder)
        search = Trials(study, plan, dataset, folder, words, where, say)
        search.do(trials)
        result = search.now()
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
