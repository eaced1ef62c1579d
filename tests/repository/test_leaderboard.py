"""The leaderboard: the command in a card, seeds as one row, ensembles, rows that stay; training a row again."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import ferkit
from dataset_files import row, write_csv
from faces import face_set
from ferkit.labels import EMOTIONS
from ferkit.models.classifier import EmotionClassifier
from ferkit.models.tta import TTA
from ferkit.training.augmentation import Augmentation
from ferkit.training.config import RECIPES

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def benchmarks_are_found(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in ("_shared", "leaderboard", "leaderboard_page", "retrain"):
        sys.modules.pop(name, None)


def card(recipe="better", name=None, *, seed=42, forget=(), votes=False, faces=None, **changes):
    config = json.loads(json.dumps(replace(RECIPES[recipe].config, seed=seed, **changes).to_dict()))
    for key in forget:
        del config[key]
    data = {"source": "f.csv", "fingerprint": "1", "faces": faces or {"Training": 70, "PublicTest": 60}, "votes": votes}
    training = {"data": data, "recipe": config, "seconds": 60.0, "epochs_done": 3}
    return {
        "classes": list(EMOTIONS),
        "parameters": 1000,
        "multiply_adds": 2e6,
        "training": training | ({"recipe_name": name} if name else {}),
    }


@pytest.mark.parametrize(
    ("made", "folder", "expected"),
    [
        pytest.param(card(), "better", "--recipe better --out runs/x", id="as the recipe"),
        pytest.param(card(name="better"), "mine", "--recipe better --out runs/x", id="named in the card"),
        pytest.param(card(), "mine", "--recipe better --out runs/x", id="nearest recipe"),
        pytest.param(card(name="custom"), "mine", "--recipe better --out runs/x", id="a config of one's own"),
        pytest.param(
            card(seed=7, epochs=9), "better", "--recipe better --epochs 9 --seed 7 --out runs/x", id="options"
        ),
        pytest.param(
            card(augmentation=replace(RECIPES["better"].config.augmentation, erase=0.5), mixup=0.4),
            "better",
            "--recipe better --set augmentation.erase=0.5 --set mixup=0.4 --out runs/x",
            id="values without an option, nested ones too",
        ),
        pytest.param(
            card(forget=("votes_weight", "teachers")), "better", "--recipe better --out runs/x", id="old card"
        ),
        pytest.param(card(votes=True), "better", "--recipe better --votes VOTES --out runs/x", id="votes"),
        pytest.param(
            card(faces={"Training": 60, "PublicTest": 28}),
            "better",
            "--recipe better --drop-duplicates --out runs/x",
            id="fewer faces",
        ),
        pytest.param(
            card(faces={"train": 60, "val": 28}), "better", "--recipe better --split random --out runs/x", id="random"
        ),
    ],
)
def test_the_command_that_trained_a_model(made, folder, expected):
    from leaderboard import Training

    assert Training.of(made, folder).command("runs/x", faces=70) == f"ferkit train DATA {expected}"


def test_values_that_a_later_version_has_or_lost():
    from leaderboard import config_of

    stored = asdict(RECIPES["strong"].config) | {"gone": 3}
    stored["augmentation"] |= {"blur": 1.0}
    del stored["augmentation"]["erase"], stored["mixup"]
    config = config_of(stored)
    assert (config.mixup, config.augmentation.erase) == (0, Augmentation().erase)
    assert config.augmentation.rotation == RECIPES["strong"].config.augmentation.rotation


class Runs:
    """Model folders that answer by the bar in `faces.face_set`, surely or not, and wrongly on every so manieth face."""

    def __init__(self, folder):
        self.folder, self.known = folder, {}

    def add(self, name, made, *, wrong_every, confidence=0.6, int8=False):
        def bar(faces):
            place = faces.astype(float).mean(axis=(1, 3))[:, :42].reshape(len(faces), 7, 6).mean(axis=2).argmax(axis=1)
            place[::wrong_every] = (place[::wrong_every] + 1) % 7
            return np.where(np.eye(7)[place] > 0, confidence, (1 - confidence) / 6).astype(np.float32)

        path = self.folder / name
        path.mkdir()
        (path / "card.json").write_text("{}")
        (path / "model.onnx").write_bytes(bytes(3_000_000))
        self.known[str(path)] = EmotionClassifier(bar, name=name, temperature=0.5, card=made)
        if int8:
            (path / "model.int8.onnx").write_bytes(bytes(1_000_000))
            self.known[str(path / "model.int8.onnx")] = self.known[str(path)]
        return str(path)


@pytest.fixture
def board(tmp_path, monkeypatch):
    """Run the command in this process: the page, by table and row, and the records."""
    import leaderboard

    monkeypatch.setattr(leaderboard, "ROWS", tmp_path / "rows.json")
    monkeypatch.setattr(leaderboard, "PAGE", tmp_path / "page.md")
    splits = [face_set(70, 1, "Training"), face_set(60, 2, "PublicTest")]
    faces = [(face, label, one.name) for one in splits for face, label in zip(one.images, one.labels, strict=True)]
    data = write_csv(tmp_path / "fer.csv", [row(*face) for face in faces])
    votes = tmp_path / "votes.csv"
    names = ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"]
    lines = [
        f"{split},a," + ",".join("9" if i == (label + (n % 10 == 0)) % 7 else "0" for i in range(7)) + ",1,0,0"
        for n, (_, label, split) in enumerate(faces)
    ]
    votes.write_text("\n".join(["Usage,Image name," + ",".join(names) + ",contempt,unknown,NF", *lines]) + "\n")
    runs = Runs(tmp_path)
    monkeypatch.setattr(EmotionClassifier, "load", lambda model: runs.known[str(model)])

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["leaderboard", str(data), "--no-timing", *words])
        leaderboard.main()
        tables, heading = {}, ""
        for line in (tmp_path / "page.md").read_text().splitlines():
            if line.startswith("#"):
                heading = line.strip("# ")
            if line.startswith("| `"):
                name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
                tables.setdefault(heading, {})[name] = cells
        return tables, {one["name"]: one for one in json.loads((tmp_path / "rows.json").read_text())}

    run.runs, run.votes = runs, str(votes)
    return run


def test_ferplus_is_a_second_track(board):
    """Voters see contempt in three of 60 faces, which a model of seven classes gets wrong."""
    path = Path(board.votes)
    *lines, first, second, third = path.read_text().splitlines()
    path.write_text(
        "\n".join([*lines, *(f"{one.split(',')[0]},a" + ",0" * 7 + ",9,1,0" for one in (first, second, third))])
    )
    model = board.runs.add("better", card(), wrong_every=3)
    plain, _ = board(model, "--votes", board.votes)
    tables, records = board(model, "--votes", board.votes, "--ferplus")
    one = records["better"]
    assert (one["track"], one["n"], one["known_n"]) == ("ferplus", 60, 57)
    assert one["accuracy"] == pytest.approx(one["known_accuracy"] * 57 / 60)
    assert tables["FER+, PublicTest"]["`better`"][0].startswith(f"**{100 * one['accuracy']:.2f}%**")
    assert tables["Accuracy"] == plain["Accuracy"], "the first track stays"
    with pytest.raises(SystemExit):
        board(model, "--ferplus")


def test_seeds_are_one_row_and_ensembles_another(board):
    one = board.runs.add("better-s1", card(seed=1), wrong_every=3, int8=True)
    two = board.runs.add("better-s2", card(seed=2), wrong_every=5, int8=True)
    other = board.runs.add("other", card(epochs=9, forget=("unfreeze",)), wrong_every=2)
    tables, records = board(one, two, other, "--votes", board.votes, "--ensemble", f"both={one},{two}")

    accuracy = tables["Accuracy"]
    assert list(accuracy) == ["`both` (2 models)", "`better`", "`other`"]
    # Of 60 faces 20 and 12 are wrong.
    assert accuracy["`better`"][0].startswith("**73.33%** (61.")
    assert accuracy["`better`"][1] == "66.67 to 80.00%, sd 9.43, 2 seeds, best `better-s2`"
    assert accuracy["`other`"][:2] == ["**50.00%** (37.7 to 62.3)", "one run"]
    assert records["better-s1"]["voters"]["n"] == 60
    assert records["better-s1"]["voters"]["accuracy"] != records["better-s1"]["accuracy"]

    calibration = tables["Calibration and test-time augmentation"]
    # Stated before the temperature: 0.6; of the second run 80% are right, of the first 67%.
    assert records["better-s2"]["ece_uncalibrated"] == pytest.approx(0.2, abs=1e-6)
    assert records["both"]["ece"] < records["both"]["ece_uncalibrated"]
    assert len(calibration["`both` (2 models)"]) == 2 + len(TTA)

    size = tables["Size and speed"]
    assert size["`better`"][:3] == ["1,000", "2.0 M", "3.0 MB"]
    assert size["`both` (2 models)"][:3] == ["2,000", "4.0 M", "6.0 MB"]
    assert (size["`better`"][4:6], size["`other`"][4:6]) == (["73.33%", "1.0 MB"], ["-", "-"])

    made = tables["Reproduce"]
    assert "--seed 1 --out runs/better-s1`<br>`ferkit train DATA --recipe better --seed 2" in made["`better`"][0]
    assert made["`better`"][1] == "`python benchmarks/leaderboard.py DATA --votes VOTES runs/better-s1 runs/better-s2`"
    assert made["`both` (2 models)"][1].endswith("--ensemble both=runs/better-s1,runs/better-s2`")


def test_the_ensemble_row_is_what_evaluate_says(board):
    paths = [board.runs.add(f"run-{n}", card(seed=n), wrong_every=n + 2, confidence=0.3 * n) for n in (1, 2)]
    _, records = board(*paths, "--ensemble", f"both={','.join(paths)}")
    faces = ferkit.load_dataset(Path(paths[0]).parent / "fer.csv").val
    for tta in (None, *TTA):
        report = ferkit.evaluate(ferkit.Ensemble(paths), faces, tta=tta)
        record = records["both"] if tta is None else records["both"]["tta"][tta]
        assert record["accuracy"] == pytest.approx(report.accuracy)


def test_rows_that_are_not_named_again_stay_with_their_times(board, tmp_path):
    first = board.runs.add("first", card(), wrong_every=4)
    second = board.runs.add("second", card("strong"), wrong_every=3)
    _, records = board(first)
    records["first"]["float32"]["ms_per_face"] = 1.25
    (tmp_path / "rows.json").write_text(json.dumps(list(records.values())))
    tables, records = board(first, second)
    assert tables["Size and speed"]["`first`"][3] == "1.25", "--no-timing keeps the time of the same file"
    assert set(board()[1]) == {"first", "second"}, "nothing named: the page is written anew"
    Path(first, "model.onnx").write_bytes(bytes(10))
    assert board(first)[0]["Size and speed"]["`first`"][3] == "-", "another network's time says nothing"


def test_the_packaged_model_is_marked_by_the_story_of_its_training():
    from leaderboard_page import page

    known = json.loads((BENCHMARKS / "leaderboard.json").read_text(encoding="utf-8"))
    written = page(known)
    assert written == (BENCHMARKS / "LEADERBOARD.md").read_text(encoding="utf-8"), "run leaderboard.py without a model"
    assert "packaged/README.md" in written
    known = [one for one in known if "track" not in one]
    (marked,) = {line.split("|")[1] for line in written.splitlines() if "packaged as `fer2013`)" in line}

    others = [one | {"minutes": one.get("minutes", 0) + 0.01} for one in known]
    assert "packaged as `fer2013`)" not in page(others), "no other run is taken for it"
    named = [one | {"name": "fer2013"} for one in known if f"`{one['name']}`" in marked]
    assert "| `fer2013` |" in page(named)
    head = [one | {"name": f"{one['name']}/votes"} for one in known if f"`{one['name']}`" in marked]
    assert "packaged as `fer2013`)" not in page(head), "a head on votes is another model"
    several = [one | {"name": f"run-{n}", "minutes": one["minutes"] + n} for n, one in enumerate(named * 2)]
    assert "`run` (its run `run-0` is packaged as `fer2013`)" in page(several)


def test_a_row_is_trained_again_after_what_it_learns_from():
    import retrain

    commands = retrain.known_commands()
    order = retrain.in_order(["long43", "long"], commands)
    assert set(order) == {"strong", "strong100", "distilled", "long", "long43"}
    for name in order:
        assert all(order.index(need) < order.index(name) for need in retrain.needs(commands[name])), name
    assert retrain.in_order(["faceres-3"], commands) == ["faceres", "faceres-2", "faceres-3"]
    assert retrain.needs(commands["distilled"]) == ["strong100", "strong", "strong100"], "teachers and first weights"
    with pytest.raises(SystemExit, match=r"called nope\. Choices: .*strong100"):
        retrain.in_order(["nope"], commands)


def test_a_command_of_the_leaderboard_is_filled_in():
    import retrain

    words = ["ferkit", "train", "DATA", "--votes", "VOTES", "--teacher", "runs/a", "--out", "runs/b"]
    given = {"data": "f.csv", "votes": "v.csv", "runs": Path("mine"), "epochs": 1}
    filled = "ferkit train f.csv --votes v.csv --teacher mine/a --out mine/b --epochs 1 --set warmup_epochs=0"
    assert retrain.filled_in(words, **given) == filled.split()
    with pytest.raises(SystemExit, match="--votes"):
        retrain.filled_in(words, **given | {"votes": None})


def test_soft_labels_are_made_of_the_run_that_they_lie_in_once(tmp_path):
    import retrain

    words = ["ferkit", "train", "f.csv", "--init", f"{tmp_path}/a", "--teacher", f"{tmp_path}/a/answers.npz"]
    assert retrain.needs(["--teacher", "runs/a/answers.npz"]) == ["a"]
    [step] = retrain.soft_labels(words, data="f.csv", votes="v.csv")
    assert step[0].endswith("label_teacher.py")
    assert Path(step[0]).is_file()
    assert step[1:] == ["f.csv", "v.csv", "faceres-deep", f"{tmp_path}/a/answers.npz", "fer2013", f"{tmp_path}/a"]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "answers.npz").touch()
    assert retrain.soft_labels(words, data="f.csv", votes="v.csv") == []


def test_training_a_row_again_goes_on_where_it_stopped(monkeypatch, tmp_path, capsys):
    import retrain

    ran = []

    def run(words, **_):
        ran.append(words[words.index("--out") + 1 :])
        return SimpleNamespace(returncode=len(ran) - 1)

    monkeypatch.setattr(retrain.subprocess, "run", run)
    for name, file in (("strong100", "card.json"), ("strong", "config.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    monkeypatch.setattr(sys, "argv", f"retrain.py distilled f.csv --votes v.csv --runs {tmp_path}".split())
    with pytest.raises(SystemExit) as ended:
        retrain.main()
    assert ended.value.code == 1, "what fails ends it, with its exit code"
    assert ran == [[str(tmp_path / "strong"), "--resume"], [str(tmp_path / "distilled")]]
    assert f"{tmp_path / 'strong100'} is finished." in capsys.readouterr().out
