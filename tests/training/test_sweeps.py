"""Several seeds of one recipe: what is trained, resumed, compared, refused. Training is played, but once."""

import json
import re

import pytest
from typer.testing import CliRunner

from faces import small_dataset
from ferkit.cli import app
from ferkit.errors import FerkitError, TrainingError, UsageError
from ferkit.training import run_folder
from ferkit.training.config import RECIPES
from ferkit.training.experiments import Spread, train_seeds

pytest.importorskip("keras")

from ferkit.training import experiments as runs

DATA = small_dataset(size=8)


class Player:
    """Stands in for training: a run is its config, and at its end a card with figures that follow from the seed."""

    def __init__(self, cut=None, fail=None):
        self.cut, self.fail, self.log = cut, fail or {}, []

    def __call__(self, dataset, recipe, *, out, resume, quiet, on_epoch, **changes):
        seed = changes["seed"]
        self.log.append((seed, resume))
        if not resume:
            run_folder.claim(out, RECIPES[recipe].config.changed(**changes), dataset, recipe)
        if seed == self.cut:
            raise KeyboardInterrupt
        if seed in self.fail:
            raise self.fail[seed]
        figures = {"accuracy": seed / 100, "macro_f1": 0.5, "nll": 1.0, "ece": 0.1}
        face_input = {"height": 8, "width": 8, "channels": 1}
        card = {"classes": ["a", "b"], "temperature": 1, "face_input": face_input, "metrics": figures}
        (out / "card.json").write_text(json.dumps(card))


@pytest.fixture
def play(monkeypatch):
    def with_player(player):
        monkeypatch.setattr(runs, "train", player)
        monkeypatch.setattr(runs, "forget_networks", lambda: None)
        return player

    return with_player


def test_each_seed_has_a_run_and_the_table_their_spread(play, tmp_path):
    player, said = play(Player()), []
    sweep = train_seeds(DATA, "tutorial", [60, 64, 62], out=tmp_path / "s", say=said.append, epochs=3)
    assert player.log == [(60, False), (64, False), (62, False)]
    assert [run.seed for run in sweep.runs] == [60, 64, 62]
    assert sweep.spreads["accuracy"].mean == pytest.approx(0.62)
    assert sweep.spreads["accuracy"].sd == pytest.approx(0.02)
    assert sweep.spreads["accuracy"].ci95 == pytest.approx((0.57032, 0.66968), abs=1e-4)
    assert (sweep.split, sweep.n) == ("PublicTest", 28)
    assert json.loads((tmp_path / "s" / "seeds.json").read_text()) == sweep.to_dict()
    stored, recipe = run_folder.stored_config(tmp_path / "s" / "seed-64", DATA, {})
    assert (stored.seed, stored.epochs, recipe) == (64, 3, "tutorial")
    assert said == ["Seed 60:", "Seed 64:", "Seed 62:"]


def test_one_seed_has_no_spread():
    assert Spread.of([0.6]) == Spread(0.6, None, None)


def test_an_interval_ends_where_the_figure_does():
    assert Spread.of([0.4, 0.8]).ci95 == (0, 1)


def test_what_was_cut_off_goes_on_and_more_seeds_join(play, tmp_path):
    play(Player(cut=2))
    with pytest.raises(KeyboardInterrupt):
        train_seeds(DATA, "tutorial", [1, 2, 3], out=tmp_path / "s")
    player = play(Player())
    sweep = train_seeds(DATA, "tutorial", [1, 2, 3, 4], out=tmp_path / "s", resume=True)
    assert player.log == [(1, True), (2, True), (3, False), (4, False)]
    assert len(sweep.done) == 4


@pytest.mark.parametrize("resume", [False, True])
def test_seeds_that_join_later_share_the_table(resume, play, tmp_path):
    play(Player(fail={3: TrainingError("The loss became nan in epoch 1.")}))
    train_seeds(DATA, "tutorial", [2, 3], out=tmp_path / "s", epochs=3)
    player = play(Player())
    sweep = train_seeds(DATA, "tutorial", [4, 1], out=tmp_path / "s", resume=resume, epochs=3)
    assert player.log == [(4, False), (1, False)]
    assert [(run.seed, run.why) for run in sweep.runs] == [
        (1, None),
        (2, None),
        (3, "The loss became nan in epoch 1."),
        (4, None),
    ]
    assert json.loads((tmp_path / "s" / "seeds.json").read_text()) == sweep.to_dict()
    sweep = train_seeds(DATA, "tutorial", [3], out=tmp_path / "s", resume=True)
    assert len(sweep.done) == 4


def test_a_seed_that_was_cut_off_stands_in_the_table_of_others(play, tmp_path):
    play(Player(cut=1))
    with pytest.raises(KeyboardInterrupt):
        train_seeds(DATA, "tutorial", [1], out=tmp_path / "s")
    play(Player())
    sweep = train_seeds(DATA, "tutorial", [2], out=tmp_path / "s")
    assert [run.why for run in sweep.runs] == ["It is not finished. Go on with --resume.", None]


def test_one_sweep_in_a_folder_at_a_time(play, tmp_path):
    pytest.importorskip("fcntl")

    class Second(Player):
        def __call__(self, *arguments, **options):
            with pytest.raises(TrainingError, match="Another sweep of seeds works in"):
                train_seeds(DATA, "tutorial", [2], out=tmp_path / "s")
            super().__call__(*arguments, **options)

    play(Second())
    assert len(train_seeds(DATA, "tutorial", [1], out=tmp_path / "s").done) == 1


def test_a_seed_that_fails_costs_the_others_nothing(play, tmp_path):
    play(Player(fail={2: TrainingError("The loss became nan in epoch 1.")}))
    sweep = train_seeds(DATA, "tutorial", [1, 2, 3], out=tmp_path / "s")
    assert [run.why for run in sweep.runs] == [None, "The loss became nan in epoch 1.", None]
    assert sweep.spreads["accuracy"].mean == pytest.approx(0.02)


def test_where_no_seed_can_be_trained_the_reason_is_said(play, tmp_path):
    play(Player(fail=dict.fromkeys((1, 2), TrainingError("No layer fits."))))
    with pytest.raises(TrainingError, match="None of 2 seeds could be trained; the last: No layer fits"):
        train_seeds(DATA, "tutorial", [1, 2], out=tmp_path / "s")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param({}, "holds a run already", id="taken"),
        pytest.param({"resume": True, "epochs": 9}, "other values of epochs", id="other values"),
        pytest.param({"resume": True, "data": 65}, "other data", id="other data"),
        pytest.param({"seeds": [7], "epochs": 9}, r"other values of epochs\. Give new", id="joining with others"),
        pytest.param({"seeds": [7], "data": 65}, "seed-1 was trained on other data", id="joining on other data"),
    ],
)
def test_folders_that_do_not_fit(options, words, play, tmp_path):
    play(Player())
    train_seeds(DATA, "tutorial", [1, 2], out=tmp_path / "s")
    player, options = play(Player()), dict(options)
    data = small_dataset(train=options.pop("data"), size=8) if "data" in options else DATA
    with pytest.raises(TrainingError, match=words):
        train_seeds(data, "tutorial", options.pop("seeds", [1, 2]), out=tmp_path / "s", **options)
    assert player.log == []


@pytest.mark.parametrize("seeds", [[], [1, 1], [-1]], ids=str)
def test_seeds_that_make_no_sense(seeds, tmp_path):
    with pytest.raises(UsageError, match="different whole numbers from 0"):
        train_seeds("missing.csv", "tutorial", seeds, out=tmp_path / "s")


# The command


def ferkit(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.mark.slow
@pytest.mark.keras
def test_the_command_trains_seeds_that_an_ensemble_takes(table, tmp_path, no_serving_copy):
    out = tmp_path / "s"
    done = ferkit("train", table, "--epochs", 1, "--batch-size", 7, "--seeds", "3,4", "--out", out)
    assert done.exit_code == 0, done.output
    assert re.findall(r"^ *(\w+)", done.stdout, re.MULTILINE) == ["seed", "3", "4", "mean", "sd", "95"]
    assert f"Next: ferkit evaluate {out}/seed-3 {out}/seed-4 {table} --ensemble" in done.stderr

    together = ferkit("evaluate", out / "seed-3", out / "seed-4", table, "--ensemble", "--split", "val", "--json")
    assert together.exit_code == 0, together.output


def test_the_command_resumes_and_prints_json(play, table, tmp_path):
    play(Player(fail={9: TrainingError("The loss became nan in epoch 1.")}))
    out = tmp_path / "s"
    done = ferkit("train", table, "--seeds", "8, 9", "--out", out, "--json")
    document = json.loads(done.stdout)
    assert [run["figures"] is None for run in document["runs"]] == [False, True]
    assert document["accuracy"] == {"mean": 0.08, "sd": None, "ci95": None}
    assert isinstance(done.exception, TrainingError)
    assert "1 of 2 seeds failed; seed-9: The loss became nan" in str(done.exception)
    play(Player())
    assert ferkit("train", table, "--seeds", "8,9", "--out", out, "--resume").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param(["--seeds", "1,two"], 2, "different whole numbers", id="words"),
        pytest.param(["--seeds", "1,2", "--seed", "3"], 2, "for one run", id="both"),
        pytest.param(["--seeds", "1,2", "--report"], 2, "for one run", id="report"),
        pytest.param(["--seeds", "1,2", "--workers", "2"], 2, "--engine ray", id="workers"),
        pytest.param(["--seeds", "1,2", "--engine", "rya"], 2, "Did you mean 'ray'", id="engine"),
        pytest.param(["--engine", "ray"], 2, "with --seeds", id="one run"),
        pytest.param(["--seeds", "1,2", "--resume"], 1, "nothing to resume", id="resume"),
        pytest.param(["--seeds", "1,2"], 1, "There is no missing.csv", id="data last"),
    ],
)
def test_mistakes_are_said_before_data_is_read(arguments, code, words, tmp_path):
    done = ferkit("train", "missing.csv", "--out", tmp_path / "s", *arguments)
    assert isinstance(done.exception, FerkitError)
    assert done.exception.exit_code == code
    assert words in str(done.exception)
    assert list(tmp_path.iterdir()) == []
