"""The referee: recipes trained on the same folds and compared on all training faces."""

import json

import numpy as np
import pytest

from faces import small_dataset
from ferkit.data.loading import load_dataset
from ferkit.errors import TrainingError, UsageError
from ferkit.models.classifier import EmotionClassifier
from ferkit.models.out_of_fold import OutOfFold
from ferkit.training.folds import train_folds

pytestmark = [pytest.mark.keras, pytest.mark.usefixtures("no_serving_copy", "tiny_network")]
DATA = small_dataset(size=8)
QUICK = {"model": "tiny", "epochs": 1, "batch_size": 16}


def test_folds_answer_out_of_fold_and_go_on(tmp_path):
    found = train_folds(DATA, "tutorial", 2, out=tmp_path / "f", **QUICK)
    model = OutOfFold.load(tmp_path / "f")
    fold_of, answers = model.fold_of(DATA.train.images), model.predict_proba(DATA.train.images)
    for fold in range(2):
        own = EmotionClassifier.load(tmp_path / "f" / f"fold-{fold + 1}").predict_proba(DATA.train.images)
        np.testing.assert_allclose(answers[fold_of == fold], own[fold_of == fold], atol=1e-6)
    assert (found.report.n, found.report.split) == (64, "Training")
    with pytest.raises(TrainingError, match=r"holds folds already\. Go on with --resume"):
        train_folds(DATA, "tutorial", 2, out=tmp_path / "f", **QUICK)
    with pytest.raises(TrainingError, match="begun with another recipe"):
        train_folds(DATA, "tutorial", 2, out=tmp_path / "f", resume=True, **{**QUICK, "epochs": 2})
    again = train_folds(DATA, "tutorial", 2, out=tmp_path / "f", resume=True, **QUICK)
    np.testing.assert_array_equal(again.report.probabilities, found.report.probabilities)
    with pytest.raises(TrainingError, match="nothing to resume"):
        train_folds(DATA, "tutorial", 2, out=tmp_path / "none", resume=True, **QUICK)


@pytest.mark.slow
def test_one_command_compares_two_recipes(run_ferkit, table, tmp_path):
    words = ["tutorial model=tiny epochs=1 batch_size=8", "better model=tiny epochs=4 batch_size=8"]
    words = ["compare", *words, table, "--folds", 2, "--out", tmp_path / "c", "--json"]
    code, printed, said = run_ferkit(*words)
    assert code == 0, said
    document = json.loads(printed)
    assert (document["split"], document["n"]) == ("Training", 35)
    faces = load_dataset(table).train
    answers = [OutOfFold.load(tmp_path / "c" / name).predict_proba(faces.images).argmax(axis=1) for name in "ab"]
    right = [(one == faces.labels).mean() for one in answers]
    assert document["difference"] == pytest.approx(right[1] - right[0])
    assert (answers[0] != answers[1]).any()
    assert json.loads(run_ferkit(*words)[1])["answers"] == document["answers"], "from what is there"
    words = ["compare", tmp_path / "c" / "a", tmp_path / "c" / "b", table, "--split", "Training", "--json"]
    assert json.loads(run_ferkit(*words)[1])["answers"] == document["answers"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["compare", "strong mixup", "strong", "--folds", "2"], "A setting is NAME=VALUE", id="setting"),
        pytest.param(["compare", "strnog", "strong", "--folds", "2"], "Did you mean 'strong'", id="recipe"),
        pytest.param(["compare", "strong", "better", "--folds", "1"], "folds must be at least 2", id="one fold"),
        pytest.param(["compare", "default", "fer2013", "--out", "x"], "--out is for the runs of --folds", id="models"),
        pytest.param(
            ["compare", "strong", "better", "--folds", "2", "--split", "val"], "Leave --split", id="another split"
        ),
        pytest.param(["train", "--folds", "2", "--seeds", "1,2"], "Use one of them", id="seeds"),
        pytest.param(["train", "--folds", "2", "--report"], "Leave them out, or --folds", id="report"),
    ],
)
def test_what_cannot_be_is_refused_at_once(run_ferkit, words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = 3 if words[0] == "compare" else 1
    code, _, printed = run_ferkit(*words[:place], "none.csv", *words[place:])
    assert code == 2
    assert said in printed
    assert not list(tmp_path.iterdir())


def test_folds_are_checked_before_anything(tmp_path):
    with pytest.raises(UsageError, match="at least 2"):
        train_folds(DATA, "tutorial", 1, out=tmp_path / "f", **QUICK)
    assert not list(tmp_path.iterdir())
