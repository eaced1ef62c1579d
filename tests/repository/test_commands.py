"""What holds for every command: `--json` prints one document that the docs describe; wrong words get one line."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

import ferkit
from ferkit.cli import app
from ferkit.models import sample_picture
from ferkit.models.exporting import Export

DOCS = Path(__file__).parents[2] / "docs"
# Each command with words that do its work; `serve` and `live` go on until they are stopped (tests/serve).
COMMANDS = {
    "predict": ["FACE"],
    "video": ["FRAMES", "--every", "2"],
    "batch": ["FRAMES", "out", "--workers", "1"],
    "train": ["TABLE"],
    "tune": ["TABLE"],
    "evaluate": ["default-int8", "TABLE", "--split", "val"],
    "compare": ["default-int8", "fer2013-int8", "TABLE", "--split", "val"],
    "explain": ["default-int8", "FACE", "--method", "occlusion", "--detector", "none"],
    "data": ["TABLE"],
    "summarize": ["faces.csv"],
    "export": ["fer2013", "out.onnx", "--format", "onnx"],
    "models": [],
    "detectors": [],
    "recipes": [],
}


def documented() -> set[str]:
    """Keys that some page names, as code or within an example."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md"))
    return {
        name
        for found in re.findall(r"`([^`\n]+)`|\"(\w+)\":", text)
        for part in found
        for name in re.findall(r"\w+", part)
    }


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """One run after the warm-up is enough to list speeds with."""
    monkeypatch.setattr("ferkit._support.registry._SECONDS", 0.0001)


@pytest.fixture
def ran(run_ferkit, table, tmp_path, monkeypatch):
    """Run a command of `COMMANDS` in a folder with what it needs; training and exporting themselves are left out."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frames").mkdir()
    for number in range(2):
        shutil.copy(sample_picture(), tmp_path / "frames" / f"{number}.jpg")
    (tmp_path / "faces.csv").write_text("source,label,confidence,happy,sad,error\na.jpg,happy,0.9,0.9,0.1,\n")
    card = ferkit.EmotionClassifier.load("fer2013-int8").card
    run = SimpleNamespace(folder=tmp_path, classifier=SimpleNamespace(card=card))
    monkeypatch.setattr(ferkit, "train", lambda *_, **__: run)
    search = SimpleNamespace(folder=tmp_path, to_dict=lambda _: {"trials": []})
    monkeypatch.setattr(ferkit, "tune", lambda *_, **__: search)
    parity = SimpleNamespace(faces=1, max_difference=0.0, mean_difference=0.0, agreement=1.0)
    exported = Export(sample_picture(), "onnx", parity, "")
    monkeypatch.setattr(ferkit.models, "export", lambda *_, **__: exported)
    places = {"FACE": sample_picture(), "FRAMES": tmp_path / "frames", "TABLE": table}
    return lambda command, *more: run_ferkit(command, *(places.get(one, one) for one in COMMANDS[command]), *more)


def test_every_command_has_a_row():
    assert {*COMMANDS, "serve", "live"} == set(typer.main.get_command(app).commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_one_documented_document_and_nothing_else(ran, command):
    code, out, _ = ran(command, "--json")
    document = json.loads(out)
    assert code == 0
    objects = [document] if isinstance(document, dict) else document
    assert {key for one in objects for key in one} - documented() == set()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        pytest.param(["predict", "gone.jpg"], 1, id="predict"),
        pytest.param(["video", "gone.mp4"], 1, id="video"),
        pytest.param(["batch", "gone", "out"], 1, id="batch"),
        pytest.param(["train", "gone.csv", "--set", "nonsense=1"], 2, id="train"),
        pytest.param(["tune", "gone.csv", "--search", "nonsense"], 2, id="tune"),
        pytest.param(["evaluate", "default", "gone.csv"], 1, id="evaluate"),
        pytest.param(["evaluate", "gone", "gone.csv"], 1, id="evaluate-model"),
        pytest.param(["compare", "default", "fer2013", "gone.csv"], 1, id="compare"),
        pytest.param(["explain", "default", "gone.jpg", "--method", "occlusion"], 1, id="explain"),
        pytest.param(["data", "gone.csv"], 1, id="data"),
        pytest.param(["summarize", "gone"], 1, id="summarize"),
        pytest.param(["export", "default", "x.onnx", "--format", "nonsense"], 2, id="export"),
        pytest.param(["serve", "--limit", "nonsense=1"], 2, id="serve"),
        pytest.param(["live", "0"], 2, id="live"),
    ],
)
def test_what_fails_prints_one_line_and_at_most_one_document(run_ferkit, tmp_path, monkeypatch, words, code):
    monkeypatch.chdir(tmp_path)
    left, out, err = run_ferkit(*words, "--json")
    assert (left, len([line for line in err.splitlines() if line.startswith("ferkit: ")])) == (code, 1), err
    assert not out or json.loads(out) is not None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["predict", "x.jpg", "--top", "0"], "ferkit predict --help'", id="out-of-range"),
        pytest.param(["predict", "x.jpg", "--top", "-17"], "-17", id="out-of-range-shown"),
        pytest.param(["serve", "--port", "99999"], "99999", id="no-port-shown"),
        pytest.param(["train", "x", "--epochs", "many"], "'--epochs'", id="no-number"),
        pytest.param(["train", "x", "--epochs", "many"], "many", id="no-number-shown"),
        pytest.param(["predict", "--nonsense"], "No such option: --nonsense", id="unknown-option"),
        pytest.param(["predict", "x.jpg", "--model"], "'--model' requires an argument", id="no-value"),
        pytest.param(["predict"], "Missing argument 'SOURCE'", id="no-argument"),
        pytest.param(
            ["compare", "x"], "Missing argument 'B'. Expected: Model to compare with A. See", id="second-model"
        ),
        pytest.param(["export"], "Missing argument 'MODEL'. Expected: Model folder, ", id="no-model"),
        pytest.param(["export", "x"], "Missing argument 'OUT'. Expected: File to write: ", id="no-file"),
        pytest.param(["export", "x", "y.h5"], "Missing option '--format'. Expected: onnx, ", id="no-format"),
        pytest.param(["predicct"], "No such command 'predicct'. Did you mean 'predict'? See", id="unknown-command"),
    ],
)
def test_wrong_words_get_one_line(run_ferkit, words, said):
    code, out, err = run_ferkit(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert err.startswith("ferkit: ")


def test_no_words_at_all_show_the_help(run_ferkit):
    code, out, err = run_ferkit()
    assert code == 2
    assert "predict" in out + err
    assert len((out + err).splitlines()) > 10


def test_the_help_shows_whole_summaries_at_80_columns(run_ferkit, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    code, out, _ = run_ferkit("--help")
    assert code == 0
    names = list(typer.main.get_command(app).commands)
    lines = [line.strip() for line in out.splitlines() if line.split() and line.split()[0] in names]
    assert len(lines) == len(names) >= 16
    assert [line for line in lines if len(line) > 78 or not line.endswith(".") or line.endswith("...")] == []
