import json
import subprocess
import sys

import numpy as np
import pytest
import typer

from ferkit._support import registry
from ferkit.cli import lists
from ferkit.detection.detectors import DETECTORS
from ferkit.models import model_folder
from ferkit.models.architectures import ARCHITECTURES
from ferkit.models.classifier import EmotionClassifier
from ferkit.sources.images import FaceInput
from ferkit.training.config import RECIPES

REGISTRIES = {"models": ARCHITECTURES, "detectors": DETECTORS, "recipes": RECIPES}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """One run after the warm-up is enough to test with."""
    monkeypatch.setattr(registry, "_SECONDS", 0.0001)


def listed(command, capsys, *arguments):
    """The rows of a command as JSON, by name, and what people see."""
    getattr(lists, command)(*arguments, as_json=True)
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    getattr(lists, command)(*arguments)
    return rows, capsys.readouterr().out


@pytest.mark.parametrize("command", REGISTRIES)
def test_lists_come_from_the_registries(command, capsys):
    rows, table = listed(command, capsys)
    assert [name for name, row in rows.items() if row.get("kind") != "trained"] == list(REGISTRIES[command])
    assert all(row["about"] for row in rows.values())
    assert all(name in table for name in REGISTRIES[command])
    assert all(len(line) <= 80 for line in table.splitlines())
    assert [line for line in table.splitlines() if line != line.rstrip()] == []


def test_detectors_say_whether_they_are_ready_and_how_fast(capsys):
    rows, table = listed("detectors", capsys)
    assert rows["haar"]["ready"]
    assert rows["haar"]["problem"] is None
    assert rows["haar"]["size_mb"] > 0.1
    assert rows["haar"]["ms_per_picture"] > 0
    assert rows["none"]["size_mb"] is None
    assert rows["auto"]["takes"] == "yunet"
    assert rows["yunet"]["size_mb"] == 0.23
    assert "The default: yunet." in table


def test_a_detector_that_cannot_be_used_says_why(capsys, monkeypatch):
    monkeypatch.setenv("FERKIT_YUNET", "/gone.onnx")
    rows, table = listed("detectors", capsys)
    assert (rows["yunet"]["ready"], rows["yunet"]["ms_per_picture"], rows["haar"]["ready"]) == (False, None, True)
    assert "FERKIT_YUNET is /gone.onnx, which is not a file" in rows["yunet"]["problem"]
    assert "FERKIT_YUNET is /gone.onnx, which is not a file" in " ".join(table.split())


class Slow(EmotionClassifier):
    def __init__(self, card):
        super().__init__(
            lambda faces: np.full((len(faces), 2), 0.5, np.float32), name="x", classes=("a", "b"), card=card
        )


@pytest.fixture
def folder(tmp_path):
    """A model folder whose network nobody can open."""
    details = {
        "metrics": {"accuracy": 0.655, "accuracy_ci95": [0.64, 0.67], "split": "PublicTest"},
        "training": {"data": {"source": "faces.csv"}},
        "parameters": 1234,
        "multiply_adds": 5_600_000,
        "licence": "CC0-1.0",
    }
    (tmp_path / "model.onnx").write_bytes(bytes(2_000_000))
    model_folder.write_card(tmp_path, classes=("a", "b"), face_input=FaceInput(), temperature=1.0, details=details)
    return tmp_path


def test_a_model_is_listed_by_its_card(capsys, monkeypatch, folder):
    monkeypatch.setattr(EmotionClassifier, "load", lambda name: Slow(model_folder.read_card(model_folder.find(name))))
    rows, table = listed("models", capsys, [str(folder)])
    row = rows[str(folder)]
    assert (row["size_mb"], row["parameters"], row["licence"], row["data"]) == (2.0, 1234, "CC0-1.0", "faces.csv")
    assert (row["accuracy"], row["split"], row["classes"]) == (0.655, "PublicTest", ["a", "b"])
    assert row["ms_per_face"] >= 0
    assert row["faces_per_second"] > 0
    words = " ".join(line[26:].strip() for line in table.splitlines())
    for said in (
        "Accuracy 65.5% on PublicTest, 95% CI 64.0% to 67.0%",
        "takes 48x48x1, 2.0 MB, 1,234 parameters, 5.6 M multiply-adds",
        "faces/s in batches of 64",
        "trained on faces.csv, licence: CC0-1.0",
    ):
        assert said in words


def test_a_model_that_cannot_be_opened_is_listed_with_its_problem(capsys, folder):
    with pytest.raises(typer.Exit) as ended:
        lists.models([str(folder), "nowhere"], as_json=True)
    assert ended.value.exit_code == 1
    said = capsys.readouterr()
    rows = {row["name"]: row for row in json.loads(said.out)}
    problems = " ".join(said.err.split())
    assert "is not a network" in problems
    assert "No model at nowhere" in problems
    with pytest.raises(typer.Exit):
        lists.models([str(folder), "nowhere"])
    table = capsys.readouterr().out
    assert not rows[str(folder)]["ready"]
    assert "is not a network" in rows[str(folder)]["problem"]
    assert "No model at nowhere" in rows["nowhere"]["problem"]
    assert rows["default"]["ready"]
    assert "A trained model that cannot be used." in table


def test_architectures_say_their_size_and_what_they_need(capsys, monkeypatch):
    rows, _ = listed("models", capsys)
    assert rows["tutorial"]["size"].startswith("684,935 parameters, 22.5 M multiply-adds")
    monkeypatch.setattr("ferkit.models.catalog.find_spec", lambda name: None)
    rows, table = listed("models", capsys)
    assert not rows["tutorial"]["ready"]
    assert "pip install 'ferkit[train]'" in table


def test_names_are_no_markup(capsys, monkeypatch, folder):
    monkeypatch.setattr(EmotionClassifier, "load", lambda name: Slow({"licence": "[red]mine[/red]"}))
    monkeypatch.setattr(model_folder, "find", lambda name: folder)
    _, table = listed("models", capsys, ["[bold]"])
    assert "[bold]" in table
    assert "[red]mine[/red]" in table


def test_speed_is_a_median_after_a_warm_up(monkeypatch):
    times = iter([0.5, 0.1, 0.3, 0.2, 9.9])
    clock = [0.0]

    def work():
        clock[0] += next(times)

    monkeypatch.setattr(registry.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(registry, "_SECONDS", 0.55)
    assert registry.median_seconds(work, runs=10) == pytest.approx(0.2), (
        "0.5 is the warm-up; after 0.1, 0.3, 0.2 it is enough"
    )


def test_listing_imports_no_framework():
    code = (
        "import sys\nfrom ferkit.cli import lists\nlists.models(); lists.detectors(); lists.recipes()\n"
        "print(sorted({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", model_folder.PACKAGED)
def test_packaged_models_answer_alike_and_say_their_licence(name):
    """All of them have learnt the faces of FER-2013: on what a portrait plainly shows they agree."""
    from ferkit.models import sample_picture
    from ferkit.recognizer import EmotionRecognizer

    classifier = EmotionClassifier.load(name)
    assert classifier.card["licence"] == "Apache-2.0"
    assert classifier.card["metrics"]["truth"] == ("labels" if name.startswith("fer2013") else "votes")
    (face,) = EmotionRecognizer(classifier, detector="haar")(sample_picture())
    assert face.label == "happy"
