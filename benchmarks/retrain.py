"""Train a row of the leaderboard or a run behind `default` again, and before it whatever it learnt from: its teachers, the model that it began as.

    python benchmarks/retrain.py long fer2013.csv.gz --votes fer2013new.csv

The commands are those of `benchmarks/LEADERBOARD.md`. Runs that are finished stay as they are, one that was interrupted
goes on from its last whole epoch: the same command again, over as many sittings as it takes. `--plan` only prints what
would be done, `--epochs 1 --runs elsewhere` rehearses the whole chain. Soft labels that a run learns from
(`RUN/answers.npz`) are made by `tools/label_teacher.py`; runs that begin with pretrained weights need their package in
the working directory (docs/fine-tuning.md).
"""

import itertools
import json
import shlex
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

from _shared import HERE, options_of
from ferkit.models import FOLDS_FILE as OUT_OF_FOLD
from ferkit.models import model_folder
from ferkit.training.folds import FOLDS_FILE
from ferkit.training.run_folder import CONFIG_FILE

ROWS = HERE / "leaderboard.json"
# How commands of the leaderboard name what is not theirs.
RUNS, DATA, VOTES = "runs/", "DATA", "VOTES"
# The runs behind the packaged `default`, which has no row in the first section of the leaderboard.
_SHARED = (
    "--votes VOTES --recipe better --batch-size 64 --precision bfloat16 --set weight_decay=0.05 --set mixup=0.2 --set mix_share=0.3 "
    "--set augmentation.rotation=15 --set augmentation.zoom=0.15 --set augmentation.shift=0.1 --set augmentation.erase=0.3 "
)
_SOFT = _SHARED + "--set label_smoothing=0 --set votes_weight=0.5 --set teacher_share=0.6 --set average=0.999 "
BEHIND_DEFAULT = {
    "faceres": "--weights faceres-deep --teacher fer2013 --epochs 10 --learning-rate 0.001 --set warmup_epochs=0.5 "
    "--set teacher_share=0.5 --set votes_weight=0.65 --set average=0.998 --set augmentation.contrast=0.25 "
    f"--set augmentation.brightness=0.1 {_SHARED}",
    "faceres-2": "--init runs/faceres --teacher runs/faceres/answers.npz --epochs 14 --learning-rate 0.0006 --set warmup_epochs=0.5 "
    f"--set augmentation.contrast=0.25 --set augmentation.brightness=0.1 {_SOFT}",
    "faceres-3": "--init runs/faceres-2 --teacher runs/faceres-2/answers.npz --epochs 19 --learning-rate 0.0008 --set warmup_epochs=1 "
    "--set augmentation.contrast=0.6 --set augmentation.brightness=0.15 --set augmentation.noise=0.25 --set augmentation.blur=0.2 "
    f"{_SOFT}",
}
# Soft labels, in the folder of the run whose answers are part of them, and how they are made.
ANSWERS = "answers.npz"
SOFT_LABELS = [str(HERE.parent / "tools" / "label_teacher.py"), DATA, VOTES, "faceres-deep"]
SOFT_LABELS_FROM = "fer2013"


def known_commands() -> dict[str, list[str]]:
    """The words of each command, by the name of its run: those of rows, ensembles having none, and those behind `default`."""
    rows = json.loads(ROWS.read_text(encoding="utf-8"))
    behind = {
        name: ["ferkit", "train", DATA, *options.split(), "--out", RUNS + name]
        for name, options in BEHIND_DEFAULT.items()
    }
    return behind | {row["name"]: shlex.split(row["train_command"]) for row in rows if row.get("train_command")}


def needs(words: list[str]) -> list[str]:
    """The runs that a command takes its teachers and its first weights from."""
    given = itertools.pairwise(words)
    # A head on votes lies in its run.
    return [
        value.removeprefix(RUNS).partition("/")[0]
        for option, value in given
        if option in ("--teacher", "--init") and value.startswith(RUNS)
    ]


def in_order(wanted: list[str], commands: dict[str, list[str]]) -> list[str]:
    """The runs wanted and all that they need, each after what it needs."""
    graph: dict[str, list[str]] = {}
    left = list(wanted)
    while left:
        name = left.pop()
        if name not in commands:
            raise SystemExit(f"No row of the leaderboard is called {name}. Choices: {', '.join(sorted(commands))}.")
        if name not in graph:
            graph[name] = needs(commands[name])
            left += graph[name]
    return list(TopologicalSorter(graph).static_order())


def filled_in(words: list[str], *, data: str, votes: str | None, runs: Path, epochs: int | None) -> list[str]:
    """A command as it is run here. Raises SystemExit where it wants votes and none are given."""
    if VOTES in words and votes is None:
        raise SystemExit("That model learns from FER+ votes as well. Give their file (fer2013new.csv) with --votes.")
    places = {DATA: data, VOTES: votes or ""}
    words = [places.get(word, word) for word in words]
    words = [str(runs / word.removeprefix(RUNS)) if word.startswith(RUNS) else word for word in words]
    # The last one counts, whether or not the command has its own.
    return words if epochs is None else [*words, "--epochs", str(epochs), "--set", "warmup_epochs=0"]


def soft_labels(words: list[str], *, data: str, votes: str | None) -> list[list[str]]:
    """The words after `python` that make each file of soft labels which a command wants and does not find."""
    wanted = [Path(word) for word in words if word.endswith("/" + ANSWERS)]
    places = {DATA: data, VOTES: votes or ""}
    start = [places.get(word, word) for word in SOFT_LABELS]
    return [[*start, str(path), SOFT_LABELS_FROM, str(path.parent)] for path in wanted if not path.is_file()]


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("rows", nargs="+", metavar="ROW", help="names of runs in the leaderboard, as long or strong100")
    parser.add_argument("data", help="FER-2013, in any form that ferkit reads")
    parser.add_argument("--votes", help="FER+ votes")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs lie; default: %(default)s")
    parser.add_argument("--epochs", type=int, help="of every run, for a rehearsal")
    parser.add_argument("--plan", action="store_true", help="print the commands, train nothing")
    options = parser.parse_args()

    commands = known_commands()
    values = {"data": options.data, "votes": options.votes, "runs": options.runs, "epochs": options.epochs}
    chain = {name: filled_in(commands[name], **values) for name in in_order(options.rows, commands)}
    for name, words in chain.items():
        folder = options.runs / name
        if any((folder / last).is_file() for last in (model_folder.CARD_FILE, OUT_OF_FOLD)):
            print(f"{folder} is finished.", flush=True)
            continue
        if any((folder / first).is_file() for first in (CONFIG_FILE, FOLDS_FILE)):
            words = [*words, "--resume"]
        for step in [*soft_labels(words, data=options.data, votes=options.votes), ["-m", *words]]:
            print(shlex.join(step).removeprefix("-m "), flush=True)
            if not options.plan:
                done = subprocess.run([sys.executable, *step], check=False)
                if done.returncode:
                    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
