"""`ferkit train` and `ferkit export` as a user runs them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from ferkit.cli import app
from ferkit.errors import FerkitError

pytest.importorskip("keras")
pytestmark = pytest.mark.keras


def ferkit(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.mark.slow
def test_train_then_export_then_evaluate(table, tmp_path):
    run = tmp_path / "run"
    done = ferkit(
        "train", table, "--epochs", 2, "--batch-size", 7, "--activation", "leaky_relu", "--out", run, "--json"
    )
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["folder"] == str(run)
    assert document["training"]["recipe"]["activation"] == "leaky_relu"
    assert document["metrics"]["n"] == 21
    assert "epoch   2/2" in done.stderr

    again = ferkit("train", table, "--out", run, "--resume")
    assert again.exit_code == 0, again.output
    assert "Resuming" in again.stderr

    for format_name in ("onnx", "h5", "keras"):
        written = ferkit("export", run, tmp_path / f"model.{format_name}", "--format", format_name)
        assert written.exit_code == 0, written.output
        assert (tmp_path / f"model.{format_name}").stat().st_size > 100_000

    accuracies = []
    for model in (run, tmp_path / "model.h5"):
        measured = ferkit("evaluate", model, table, "--split", "val", "--json")
        assert measured.exit_code == 0, measured.output
        accuracies.append(json.loads(measured.stdout)["accuracy"])
    assert accuracies == [document["metrics"]["accuracy"]] * 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param(["train", "TABLE", "--epochs", "0"], 2, "epochs must be at least 1", id="epochs"),
        pytest.param(["train", "TABLE", "--recipe", "beter"], 2, "Did you mean 'better'", id="recipe"),
        pytest.param(["train", "missing.csv"], 1, "There is no missing.csv", id="missing"),
        pytest.param(["train", "TABLE", "--out", "nothing", "--resume"], 1, "nothing to resume", id="resume"),
        pytest.param(["train", "TABLE", "--votes", "missing.csv"], 1, "missing.csv", id="votes"),
        pytest.param(["train", "TABLE", "--devices", "none"], 2, "a number from 1, or all", id="devices"),
        pytest.param(["train", "TABLE", "--devices", "64"], 2, "64 devices requested", id="too-many-devices"),
        pytest.param(["export", "default", "x", "--format", "onx"], 2, "Did you mean 'onnx'", id="format"),
        pytest.param(["export", "nowhere", "x.onnx", "--format", "onnx"], 1, "No model at nowhere", id="model"),
    ],
)
def test_mistakes_get_one_line(arguments, code, words, table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = ferkit(*[table if one == "TABLE" else one for one in arguments])
    assert isinstance(done.exception, FerkitError)
    assert done.exception.exit_code == code
    assert words in str(done.exception)
    assert "\n" not in str(done.exception)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_votes_are_soft_targets(rng, tmp_path):
    """Faces whose votes all say another class are learnt as that class."""
    from dataclasses import replace

    from faces import small_dataset
    from ferkit.training.loop import train
    from ferkit.training.targets import training_targets

    data = small_dataset(size=16)
    votes = np.roll(np.eye(7, dtype=np.float32)[data.train.labels], 1, axis=1)
    faces = replace(data.train, votes=votes)
    run = train(
        replace(data, splits={**data.splits, "Training": faces}),
        "better",
        out=tmp_path / "r",
        epochs=1,
        warmup_epochs=0,
        quiet=True,
    )
    targets = training_targets(faces, run.config)
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    assert (targets.argmax(axis=1) == (faces.labels + 1) % 7).all()


@pytest.mark.parametrize(("accuracy", "warned"), [(0.25, True), (0.75, True), (0.76, False)])
def test_a_run_no_better_than_one_class_is_warned_of(accuracy, warned, table, tmp_path, monkeypatch, run_ferkit):
    scores = {"accuracy": accuracy, "accuracy_ci95": (0.1, 0.9), "macro_f1": 0.1, "split": "val"}
    scores["per_class"] = {"happy": {"n": 3}, "sad": {"n": 1}}
    run = SimpleNamespace(folder=tmp_path / "my run", classifier=SimpleNamespace(card={"metrics": scores}))
    monkeypatch.setattr("ferkit.train", lambda *_, **__: run)
    code, _, err = run_ferkit("train", table)
    assert code == 0
    assert ("Always predicting happy would score 75.0%" in err) == warned
    assert f"Next: ferkit evaluate '{tmp_path}/my run' {table}" in err
