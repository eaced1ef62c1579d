"""The search: what is tried, what is stopped, what survives a kill, what is refused. Training is played, but once."""

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from faces import small_dataset
from ferkit.cli import app
from ferkit.errors import FerkitError, MissingDependencyError, TrainingError, UsageError
from ferkit.training import run_folder
from ferkit.training.config import RECIPES, SPACE, USUAL_SEARCH, TrainConfig
from ferkit.training.search import Plan, checked, starting_point, suggest
from ferkit.training.values import ByOptimizer, OneOf, get

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "recipes.md"


class Ask:
    """A trial that answers with one end of each range."""

    def __init__(self, end):
        self.end, self.asked = end, {}

    def suggest_float(self, name, low, high, *, log):
        self.asked[name] = (low, high)
        return (low, high)[self.end]

    def suggest_categorical(self, name, choices):
        self.asked[name] = choices
        return choices[-self.end]


def test_a_search_from_a_model_searches_its_network():
    """So that trials, their resuming and the command in best.json are of the same one."""
    plan = Plan.of("better", init="default")
    assert plan.config.model == "faceres"
    assert "--model faceres" in plan.command({}, ["DATA"])
    assert Plan.of("better", init="default", model="vgg").config.model == "vgg"


# The space


@pytest.mark.parametrize("name", SPACE)
@pytest.mark.parametrize("end", [0, 1])
def test_every_value_can_be_searched(name, end):
    values = suggest(Ask(end), [name], TrainConfig())
    assert get(TrainConfig().changed(**values), name) == values[name]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_a_place_to_start(recipe):
    names = checked(tuple(SPACE))
    config = RECIPES[recipe].config
    for key, value in starting_point(names, config).items():
        name, _, optimizer = key.partition(" of ")
        one = SPACE[name]
        one = one.ranges[optimizer] if isinstance(one, ByOptimizer) else one
        assert value in one.choices if isinstance(one, OneOf) else one.low <= value <= one.high


@pytest.mark.parametrize(
    ("names", "optimizer", "key"),
    [
        pytest.param(("learning_rate",), "sgd", "learning_rate", id="given optimizer"),
        pytest.param(("optimizer", "learning_rate"), "lion", "learning_rate of lion", id="searched optimizer"),
    ],
)
def test_rates_fit_the_optimizer(names, optimizer, key):
    ask = Ask(1)  # takes the last optimizer, which is lion
    suggest(ask, names, TrainConfig(optimizer=optimizer))
    one = SPACE["learning_rate"].ranges[optimizer]
    assert ask.asked[key] == (one.low, one.high)


def test_the_optimizer_is_asked_for_before_its_rate():
    assert checked(["learning_rate", "mixup", "optimizer", "mixup"]) == ("optimizer", "learning_rate", "mixup")


def test_every_value_has_a_row_in_the_document():
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, one in SPACE.items():
        assert f"| `{name}` | {one} |" in text


# Plans


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        pytest.param(["beter"], {}, "Did you mean 'better'", id="recipe"),
        pytest.param(["better", ["lerning_rate"]], {}, "Did you mean 'learning_rate'", id="value"),
        pytest.param(["better", []], {}, "at least one value", id="no value"),
        pytest.param(["better"], {"epochs": 0}, "epochs must be at least 1", id="epochs"),
        pytest.param(["better"], {"epochs": 1}, "never leaves its warm-up", id="warm-up"),
        pytest.param(["better"], {"model": "toturial"}, "Did you mean 'tutorial'", id="model"),
    ],
)
def test_plans_that_make_no_sense(arguments, options, words):
    with pytest.raises(UsageError, match=words):
        Plan.of(*arguments, **options)


def test_the_command_trains_with_the_values_at_full_length():
    plan = Plan.of("better", ("learning_rate", "mixup", "augmentation.flip"), epochs=3, precision="bfloat16")
    values = {"learning_rate": 0.002, "mixup": 0.3, "augmentation.flip": False}
    command = shlex.split(plan.command(values, ["my data.csv", "--split", "random"]))
    assert command == [
        *("ferkit", "train", "my data.csv", "--split", "random", "--recipe", "better", "--learning-rate", "0.002"),
        *("--set", "augmentation.flip=false", "--set", "mixup=0.3", "--precision", "bfloat16"),
    ]
    assert plan.full(values).epochs == RECIPES["better"].config.epochs


# Searches

optuna = pytest.importorskip("optuna")
pytest.importorskip("keras")

from ferkit import training as tuning  # noqa: E402
from ferkit.evaluation.report import read_history  # noqa: E402
from ferkit.training import experiments as runs  # noqa: E402

DATA = small_dataset(size=8)
EPOCHS = 4


def accuracy(config, epoch):
    """The nearer the rate is to 0.01, the end of its range, the better; the recipe has 0.001."""
    return max(0.1, 0.6 - abs(0.01 - config.learning_rate) * 50) * epoch / config.epochs


class Player:
    """Stands in for training: epochs take no time, and are kept as training keeps them."""

    def __init__(self, cut=None, fail=None):
        self.cut, self.fail, self.log = cut, fail or {}, []

    def __call__(self, dataset, config, *, out, resume, quiet, on_epoch):
        number = int(out.name.removeprefix("trial-"))
        if number in self.fail:
            raise self.fail[number]
        if not resume:
            run_folder.claim(out, config, dataset)
        rows = read_history(out / "history.csv") if resume else []
        (out / "checkpoints").mkdir(exist_ok=True)
        while len(rows) < config.epochs:
            epoch = len(rows) + 1
            if self.cut == (number, epoch):
                raise KeyboardInterrupt
            self.log.append((number, epoch))
            rows.append({"epoch": epoch, "val_accuracy": accuracy(config, epoch)})
            run_folder.write_history(out / "history.csv", rows)
            on_epoch(rows[-1])
        raise AssertionError("the search ends a run at its last epoch")


@pytest.fixture
def play(monkeypatch):
    def with_player(player):
        monkeypatch.setattr(runs, "train", player)
        monkeypatch.setattr(runs, "forget_networks", lambda: None)  # none is built, and looking for them takes time
        return player

    return with_player


@pytest.fixture(scope="module")
def plan():
    return Plan.of("better", ("learning_rate", "batch_size"), epochs=EPOCHS)


def test_it_finds_what_is_better_and_stops_what_is_hopeless(plan, play, tmp_path):
    player, said = play(Player()), []
    result = tuning.tune(DATA, plan, out=tmp_path / "t", trials=10, data_args=["d.csv"], say=said.append)
    first, best = result.trials[0], result.ranked[0]
    assert first.values == {"learning_rate": 0.001, "batch_size": 64}, "the recipe itself"
    assert best.accuracy > first.accuracy
    stopped = [trial for trial in result.trials if trial.state == "stopped"]
    assert stopped
    assert all(1 < trial.epochs < EPOCHS for trial in stopped), "the first epoch stops nobody"
    assert len(player.log) == sum(trial.epochs for trial in result.trials)
    assert [one.split(":")[0] for one in said] == [f"Trial {number}" for number in range(1, 11)]

    left = json.loads((tmp_path / "t" / "best.json").read_text())
    assert left == json.loads(json.dumps(result.to_dict(["d.csv"])))
    assert left["best"]["number"] == best.number
    assert left["command"] == plan.command(best.values, ["d.csv"])
    assert TrainConfig.from_dict(left["config"]) == plan.full(best.values)
    assert "optimistic" in left["caveat"]
    kept = [path.parent.name for path in (tmp_path / "t").glob("trial-*/checkpoints")]
    assert kept == [f"trial-{best.number:03}"]


@pytest.fixture(scope="module")
def whole(plan, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "train", Player())
        patch.setattr(runs, "forget_networks", lambda: None)
        return tuning.tune(DATA, plan, out=tmp_path_factory.mktemp("whole") / "t", trials=7)


@pytest.mark.parametrize(
    "cut",
    [
        pytest.param((1, 1), id="at once"),
        pytest.param((3, 1), id="new"),
        pytest.param((2, 3), id="amid"),
        pytest.param((6, 2), id="late"),
    ],
)
def test_a_search_that_was_cut_off_ends_as_one_that_was_not(cut, whole, plan, play, tmp_path):
    play(Player(cut=cut))
    with pytest.raises(KeyboardInterrupt):
        tuning.tune(DATA, plan, out=tmp_path / "cut", trials=7)
    player = play(Player())
    resumed = tuning.tune(DATA, plan, out=tmp_path / "cut", trials=7, resume=True)
    assert resumed.trials == whole.trials
    assert player.log[0] == cut, "from the last whole epoch"


def test_resuming_goes_on_to_more_trials(plan, play, tmp_path):
    play(Player())
    first = tuning.tune(DATA, plan, out=tmp_path / "t", trials=3)
    player = play(Player())
    more = tuning.tune(DATA, plan, out=tmp_path / "t", trials=5, resume=True)
    assert more.trials[:3] == first.trials
    assert {number for number, _ in player.log} == {4, 5}
    again = tuning.tune(DATA, plan, out=tmp_path / "t", trials=5, resume=True)
    assert again.trials == more.trials


def test_kill_9_in_the_middle_of_a_trial(plan, play, tmp_path):
    code = (
        "import os, signal, sys; sys.path[:0] = sys.argv[3:]; import test_tuning as t\n"
        "from pathlib import Path; from ferkit.training import experiments as runs; from ferkit import training as tuning\n"
        "class Killed(t.Player):\n"
        "    def __call__(self, *args, on_epoch, out, **options):\n"
        "        def die(row):\n"
        "            on_epoch(row)\n"
        "            if out.name == 'trial-002' and row['epoch'] == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        super().__call__(*args, on_epoch=die, out=out, **options)\n"
        "runs.train = Killed()\n"
        "runs.forget_networks = lambda: None\n"
        f"plan = t.Plan.of('better', ('learning_rate', 'batch_size'), epochs={EPOCHS})\n"
        "tuning.tune(t.DATA, plan, out=Path(sys.argv[2]), trials=4)"
    )
    arguments = [
        sys.executable,
        "-c",
        code,
        "",
        str(tmp_path / "t"),
        str(Path(__file__).parent),
        str(Path(__file__).parents[1] / "helpers"),
    ]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    player = play(Player())
    resumed = tuning.tune(DATA, plan, out=tmp_path / "t", trials=4, resume=True)
    assert player.log[0] == (2, 3)
    assert [trial.number for trial in resumed.trials] == [1, 2, 3, 4]


def test_values_that_cannot_be_trained_fail_alone(plan, play, tmp_path):
    play(Player(fail={2: TrainingError("The loss became nan in epoch 1.")}))
    said = []
    result = tuning.tune(DATA, plan, out=tmp_path / "t", trials=3, say=said.append)
    assert [trial.state for trial in result.trials] == ["done", "failed", "done"]
    assert result.trials[1].why == "The loss became nan in epoch 1."
    assert any("Trial 2 failed: The loss became nan" in one for one in said)


class ResourceExhaustedError(Exception):
    """As TensorFlow's."""


@pytest.mark.parametrize(
    "problem",
    [
        pytest.param(ResourceExhaustedError("OOM when allocating tensor\nmore"), id="tensorflow"),
        pytest.param(RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), id="jax"),
        pytest.param(MemoryError(), id="machine"),
    ],
)
def test_a_trial_that_takes_too_much_memory_fails_alone(problem, plan, play, tmp_path):
    play(Player(fail={2: problem}))
    result = tuning.tune(DATA, plan, out=tmp_path / "t", trials=3)
    assert [trial.state for trial in result.trials] == ["done", "failed", "done"]
    assert result.trials[1].why.startswith(f"Out of memory with batch_size={result.trials[1].values['batch_size']}: ")
    assert "\n" not in result.trials[1].why


def test_any_other_trouble_ends_the_search(plan, play, tmp_path):
    play(Player(fail={2: RuntimeError("a bug")}))
    with pytest.raises(RuntimeError, match="a bug"):
        tuning.tune(DATA, plan, out=tmp_path / "t", trials=3)


def test_where_nothing_can_be_trained_the_reason_is_said(plan, play, tmp_path):
    play(Player(fail=dict.fromkeys((1, 2), TrainingError("No layer fits."))))
    with pytest.raises(TrainingError, match="None of 2 trials could be trained; the last: No layer fits"):
        tuning.tune(DATA, plan, out=tmp_path / "t", trials=2)
    assert not (tmp_path / "t" / "best.json").exists()


def test_a_full_disk_ends_the_search(plan, play, tmp_path):
    full = TrainingError("Cannot write it: No space left.")
    full.__cause__ = OSError(28, "No space left")
    play(Player(fail={2: full}))
    with pytest.raises(TrainingError, match="No space left"):
        tuning.tune(DATA, plan, out=tmp_path / "t", trials=3)
    play(Player())
    assert len(tuning.tune(DATA, plan, out=tmp_path / "t", trials=3, resume=True).trials) == 3


def test_one_search_in_a_folder_at_a_time(plan, play, tmp_path):
    pytest.importorskip("fcntl")

    class Second(Player):
        def __call__(self, *arguments, **options):
            with pytest.raises(TrainingError, match="Another search works in"):
                tuning.tune(DATA, plan, out=tmp_path / "t", trials=2, resume=True)
            super().__call__(*arguments, **options)

    play(Second())
    assert len(tuning.tune(DATA, plan, out=tmp_path / "t", trials=1).trials) == 1


@pytest.mark.parametrize(
    ("prepare", "options", "words"),
    [
        pytest.param(None, {"resume": True}, "nothing to resume", id="nothing there"),
        pytest.param("search", {}, "holds a search already", id="taken"),
        pytest.param("trial", {}, "holds a search already", id="runs of that name"),
        pytest.param("search", {"resume": True, "data": 65}, "other data", id="other data"),
        pytest.param("search", {"resume": True, "epochs": 3}, "holds another search", id="other plan"),
        pytest.param("broken plan", {"resume": True}, "cannot be read", id="broken plan"),
        pytest.param("broken study", {"resume": True}, "study.db cannot be used", id="broken study"),
        pytest.param("file", {}, "Cannot write", id="a file in the way"),
    ],
)
def test_folders_that_do_not_fit(prepare, options, words, plan, play, tmp_path):
    play(Player())
    folder = tmp_path / "t"
    if prepare in ("search", "broken plan", "broken study"):
        tuning.tune(DATA, plan, out=folder, trials=1)
    if prepare == "trial":
        (folder / "trial-001").mkdir(parents=True)
    if prepare == "broken plan":
        (folder / "search.json").write_text("{")
    if prepare == "broken study":
        (folder / "study.db").write_text("no database, but long enough to look like one" * 100)
    if prepare == "file":
        folder.touch()
    data = small_dataset(train=options["data"], size=8) if "data" in options else DATA
    other = Plan.of("better", plan.search, epochs=options["epochs"]) if "epochs" in options else plan
    with pytest.raises(TrainingError, match=words) as caught:
        tuning.tune(data, other, out=folder, trials=2, resume=options.get("resume", False))
    assert "\n" not in str(caught.value)


def test_optuna_says_nothing(plan, play, tmp_path, capfd):
    play(Player())
    tuning.tune(DATA, plan, out=tmp_path / "t", trials=2)
    assert capfd.readouterr() == ("", "")


# The command


def ferkit(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.mark.slow
@pytest.mark.keras
def test_the_command_searches_real_runs_and_goes_on(table, tmp_path):
    """Values are followed by training itself; the models that it would write are left out."""
    out = tmp_path / "t"
    search = ("tune", table, "--recipe", "tutorial", "--search", "learning_rate,augmentation.flip")
    done = ferkit(*search, "--epochs", 1, "--trials", 2, "--set", "batch_size=7", "--out", out)
    assert done.exit_code == 0, done.output
    assert "1 (recipe)" in done.stdout
    assert "2 trials: 2 done, 0 stopped early, 0 failed." in done.stdout
    assert f"ferkit train {table} --recipe tutorial --batch-size 7" in done.stderr
    assert "optimistic" in done.stderr
    stored = json.loads((out / "trial-002" / "config.json").read_text())
    assert stored["batch_size"] == 7
    assert not list(out.glob("trial-*/model.*"))

    more = ferkit("tune", table, "--resume", "--trials", 3, "--out", out, "--json")
    assert more.exit_code == 0, more.output
    document = json.loads(more.stdout)
    assert len(document["trials"]) == 3
    second = document["trials"][1]
    assert second["values"]["learning_rate"] == stored["learning_rate"]
    (row,) = read_history(out / "trial-002" / "history.csv")
    assert second["accuracy"] == row["val_accuracy"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param(["--trials", "0"], 2, "trials must be at least 1", id="trials"),
        pytest.param(["--recipe", "beter"], 2, "Did you mean 'better'", id="recipe"),
        pytest.param(["--search", "mixup,lerning_rate"], 2, "Did you mean 'learning_rate'", id="search"),
        pytest.param(["--search", ","], 2, "at least one value", id="no value"),
        pytest.param(["--set", "mixup=much"], 2, "mixup must be a number", id="set"),
        pytest.param(["--resume"], 1, "nothing to resume", id="resume"),
        pytest.param([], 1, "There is no missing.csv", id="data last"),
    ],
)
def test_mistakes_are_said_before_data_is_read(arguments, code, words, tmp_path):
    done = ferkit("tune", "missing.csv", "--out", tmp_path / "t", *arguments)
    assert isinstance(done.exception, FerkitError)
    assert done.exception.exit_code == code
    assert words in str(done.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--recipe", "strong"], "other values of recipe", id="recipe"),
        pytest.param(["--search", "mixup"], "other values of search", id="search"),
        pytest.param(["--epochs", "9", "--seed", "1"], "other values of epochs, seed", id="epochs and seed"),
    ],
)
def test_a_search_is_not_resumed_as_another(arguments, words, plan, play, tmp_path):
    play(Player())
    tuning.tune(DATA, plan, out=tmp_path / "t", trials=1)
    done = ferkit("tune", "missing.csv", "--out", tmp_path / "t", "--resume", *arguments)
    assert words in str(done.exception)


def test_a_search_with_values_of_its_own_is_resumed_by_the_same_command(play, tmp_path):
    play(Player())
    own = Plan.of("better", ("learning_rate",), epochs=EPOCHS, seed=7, mixup=0.2)
    tuning.tune(DATA, own, out=tmp_path / "t", trials=1)
    command = ["tune", "missing.csv", "--out", tmp_path / "t", "--resume", "--set", "seed=7", "--set", "mixup=0.2"]
    assert "missing.csv" in str(ferkit(*command).exception), "the plan is the same; only the data is missing"
    assert "other values of seed" in str(ferkit(*command, "--set", "seed=8").exception)


def test_a_missing_optuna_names_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    done = ferkit("tune", "missing.csv", "--out", tmp_path / "t")
    assert isinstance(done.exception, MissingDependencyError)
    assert "ferkit[tune]" in str(done.exception)


def test_the_usual_search_can_be_searched():
    assert checked(USUAL_SEARCH)
