"""README.md of a model folder: whole Markdown from whole and from sparse cards, with nothing invented."""

import json
import re
import runpy
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt

from ferkit.errors import ModelError
from ferkit.evaluation import model_card
from ferkit.models import model_folder

CARD = model_folder.read_card(model_folder.find("default"))
LEAST = {"classes": ["a", "b"], "face_input": {"height": 4, "width": 5, "channels": 3}, "temperature": 1.0}
EVIL = "a|b_c*<script>`[x](y)\n# z"


def scores(n, recall, precision=0.5):
    return {"n": n, "recall": recall, "precision": precision, "f1": 0.5}


def body_of(text):
    """What a reader sees: tables and headings as a Markdown parser finds them, without the metadata in front."""
    start, _, rest = text.partition("---\n")
    assert start == ""
    metadata, _, body = rest.partition("---\n")
    for line in metadata.splitlines():
        assert re.fullmatch(r"(\w+:( [\w.+-]+)?|- [\w-]+)", line), line
    return MarkdownIt("commonmark", {"html": True}).enable("table").parse(body)


def cells(tokens, heading):
    """Rows of the first table whose first head cell is `heading`."""
    texts, row = [], []
    for token, inline in pairwise(tokens):
        if token.type in ("th_open", "td_open"):
            row.append(inline.content)
        elif token.type == "tr_close":
            texts.append(row)
            row = []
    start = next(i for i, row in enumerate(texts) if row[0] == heading)
    width = len(texts[start])
    rows = []
    for row in texts[start + 1 :]:
        if len(row) != width or row[0] in ("figure", "class", "recipe value", "file"):
            break
        rows.append(row)
    return rows


def test_the_packaged_model_is_described():
    text = model_card.text_of(CARD)
    tokens = body_of(text)
    assert text.startswith("---\nlicense: apache-2.0\n")
    headings = [inline.content for token, inline in pairwise(tokens) if token.type == "heading_open"]
    assert headings == [
        f"Facial expression recognition with {CARD['architecture']}",
        *("Intended and prohibited use", "Metrics", "Per-class metrics", "Calibration", "Sensitivity"),
        *("Robustness to image corruption", "Known failures", "Data", "Training", "Usage", "Files, versions, license"),
    ]
    measured = CARD["metrics"]
    low, high = measured["accuracy_ci95"]
    figures = dict(cells(tokens, "metric"))
    said = f"{100 * measured['accuracy']:.1f}% (95% interval {100 * low:.1f}% to {100 * high:.1f}%)"
    assert figures["accuracy"] == said
    assert figures["macro-F1"] == f"{measured['macro_f1']:.3f}"
    rows = cells(tokens, "class")
    assert [row[0] for row in rows] == CARD["classes"]
    assert all(row[3] == f"{100 * measured['per_class'][row[0]]['recall']:.1f}%" for row in rows)
    for value in (CARD["intended_use"], measured["note"], CARD["sha256"]["model.int8.onnx"], f"{CARD['parameters']:,}"):
        assert value in text
    assert ["model", f"`{CARD['architecture']}`"] in cells(tokens, "recipe value")


def test_worst_classes_come_from_the_figures():
    per_class = {
        "good": scores(500, 0.9, 0.9),
        "bad": scores(500, 0.1, 0.6),
        "rare": scores(10, 0.3, 0.2),
        "fair": scores(500, 0.5, 0.7),
        "none": {"n": 0, "recall": None, "precision": None, "f1": None},
    }
    text = model_card.text_of({**LEAST, "classes": list(per_class), "metrics": {"per_class": per_class}})
    assert "Lowest recall: bad 10%, rare 30%, fair 50%." in text
    assert "Lowest precision: rare 20%, bad 60%, fair 70%." in text
    assert "Small sample: rare (10 faces)" in text
    assert "for lack of faces: none." in text
    assert [row[0] for row in cells(body_of(text), "class")] == ["good", "bad", "rare", "fair"]


def test_calibration_says_before_and_after():
    card = {**LEAST, "temperature": 1.25, "metrics": {"ece": 0.021, "ece_uncalibrated": 0.064}}
    text = model_card.text_of(card)
    assert "temperature of 1.250" in text
    assert "(ECE, 15 bins): 2.1%; without the temperature 6.4%." in text


def thinned():
    """The packaged card without each of its optional entries, outer and inner."""
    for name in sorted(set(CARD) - set(LEAST)):
        yield pytest.param({key: value for key, value in CARD.items() if key != name}, id=f"no {name}")
        inner = CARD[name] if isinstance(CARD[name], dict) else {}
        for key in inner:
            less = {other: value for other, value in inner.items() if other != key}
            yield pytest.param({**CARD, name: less}, id=f"no {name}.{key}")
    yield pytest.param(LEAST, id="least")
    metrics = {**CARD["metrics"], "without_duplicates": None}
    yield pytest.param({**CARD, "metrics": metrics}, id="duplicates unknown")
    yield pytest.param({**LEAST, "metrics": {"per_class": {"a": scores(5, 1.0)}}}, id="one class measured")
    yield pytest.param({**LEAST, "training": {"sittings": [{}, {}]}}, id="sittings unknown")


@pytest.mark.parametrize("card", list(thinned()))
def test_what_is_missing_is_left_out(card):
    text = model_card.text_of(card)
    assert body_of(text)
    assert not re.search(r"None|nan|\{|\(\)|  of |\n\n\n|## [^\n]+\n\n##", text.partition("```python")[0])


def test_the_least_card_still_says_what_it_must():
    text = model_card.text_of(LEAST)
    assert model_folder.INTENDED_USE in text
    assert "4x5" in text
    assert "RGB" in text
    assert "License: not stated." in text
    assert "license:" not in text
    assert "onnxruntime" not in text, "there is no such file"


def test_names_from_data_are_no_markup():
    per_class = {EVIL: scores(200, 0.5), "b": scores(200, 0.6)}
    card = {
        **LEAST,
        "classes": [EVIL, "b"],
        "licence": "MIT\nevil: true",
        "architecture": EVIL,
        "intended_use": EVIL,
        "metrics": {"split": EVIL, "note": EVIL, "accuracy": 0.5, "per_class": per_class},
        "training": {"data": {"source": EVIL, "fingerprint": EVIL, "faces": {EVIL: 3}}, "recipe": {"init": EVIL}},
    }
    text = model_card.text_of(card)
    tokens = body_of(text)
    kinds = [part.type for token in tokens for part in token.children or ()]
    assert not {"html_inline", "link_open", "em_open"} & set(kinds)
    assert "html_block" not in [token.type for token in tokens]
    assert len(cells(tokens, "class")) == 2
    assert "license:" not in text


def test_it_is_written_beside_the_card_and_is_stable(tmp_path):
    path = model_card.write(tmp_path, CARD)
    assert path == tmp_path / "README.md"
    first = path.read_bytes()
    model_card.write(tmp_path, json.loads(json.dumps(CARD)))
    assert path.read_bytes() == first
    assert [one.name for one in tmp_path.iterdir()] == ["README.md"]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="Cannot write"):
        model_card.write(tmp_path / "file", CARD)


@pytest.mark.parametrize("name", ["default", "fer2013"])
def test_its_code_runs(name, tmp_path, monkeypatch, capsys):
    from PIL import Image

    from ferkit.models import sample_picture

    whole = shutil.copytree(model_folder.find("default"), tmp_path / "model")
    folder = whole / model_folder.PACKAGED[name]
    monkeypatch.chdir(folder)
    picture = Image.open(sample_picture())
    picture.save("photo.jpg")
    picture.crop((165, 57, 285, 177)).save("face.png")
    blocks = [
        token.content for token in body_of(model_card.text_of(model_folder.read_card(folder))) if token.type == "fence"
    ]
    for code in blocks:
        exec(code.replace("path/to/this/folder", str(folder)), {})  # noqa: S102
    named, probabilities = capsys.readouterr().out.splitlines()
    assert named.startswith("happy ")
    probabilities = json.loads(probabilities.replace("'", '"'))
    assert max(probabilities, key=probabilities.get) == "happy"
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)


def test_a_card_says_whose_truth_it_was_measured_on():
    text = model_card.text_of(CARD, "default")
    assert "(FER+ majority label)" in text
    assert 'EmotionRecognizer("default")' in text
    assert "`ferkit evaluate default DATA --split PublicTest --votes VOTES --truth votes --robustness" in text
    labelled = {**CARD, "metrics": {**CARD["metrics"], "truth": "labels"}}
    assert "majority label" not in model_card.text_of(labelled)
    assert "--truth votes" not in model_card.text_of(labelled)


def test_a_card_with_a_prior_says_what_its_sensitivity_trades():
    rows = cells(body_of(model_card.text_of(CARD)), "sensitivity")
    assert [float(row[0]) for row in rows] == pytest.approx(np.arange(11) / 10)
    assert f"Sensitivity {CARD['sensitivity']:g}:" in model_card.text_of(CARD)
    assert "## Sensitivity" not in model_card.text_of(LEAST)


BLUR = {
    "unit": "pixels",
    "mean_accuracy": 0.55,
    "strengths": [1, 2],
    "accuracy": [0.7, 0.4],
    "mean_confidence": [0.7, 0.6],
}
NOISE = {"unit": "of 255", "mean_accuracy": 0.65, "strengths": [9], "accuracy": [0.65], "mean_confidence": [0.7]}
DEGRADED = {
    "n": 1000,
    "clean": {"accuracy": 0.75},
    "mean_accuracy": 0.6,
    "relative_accuracy": 0.8,
    "relative_accuracy_ci95": [0.78, 0.82],
    "degradations": {"blur": BLUR, "noise": NOISE},
}


def test_degraded_faces_are_a_section_and_a_known_failure():
    text = model_card.text_of({**LEAST, "robustness": {**DEGRADED, "split": "val", "limited": True}})
    assert cells(body_of(text), "corruption") == [
        ["blur (pixels)", "55%", "70% at 1, 40% at 2"],
        ["noise (of 255)", "65%", "65% at 9"],
    ]
    said = "Lowest accuracy under corruption: 40% at blur 2 (pixels), 65% at noise 9 (of 255); 75% on the clean faces."
    assert said in text
    assert "Overconfident there: mean confidence 60% at blur 2 (pixels)." in text, "and not at noise"
    assert "DATA --split val --robustness --limit 1000`" in text
    assert "Robustness" not in model_card.text_of(LEAST)


def test_every_file_that_has_a_checksum_is_listed():
    assert cells(body_of(model_card.text_of(CARD)), "file") == [
        [f"`{name}`", f"`{checksum}`"] for name, checksum in CARD["sha256"].items()
    ]


@pytest.mark.parametrize("name", ["default", "fer2013"])
def test_the_pages_in_the_package_are_those_of_its_cards(name):
    folder = model_folder.find(name)
    written = (folder / "README.md").read_text(encoding="utf-8")
    assert written == model_card.text_of(model_folder.read_card(folder), name), "run model_card.write on the folder"


@pytest.fixture
def tool(monkeypatch):
    place = Path(__file__).parents[2] / "tools"
    monkeypatch.syspath_prepend(str(place))
    return runpy.run_path(str(place / "card_figures.py"))


def test_figures_on_degraded_faces_go_into_the_card_of_their_own_model_only(tool, tmp_path):
    shutil.copyfile(model_folder.find("default") / "card.json", tmp_path / "card.json")
    levels = [
        {"strength": 1, "accuracy": 0.7, "mean_confidence": 0.7, "ece": 0.1},
        {"strength": 2, "accuracy": 0.4, "mean_confidence": 0.6, "ece": 0.2},
    ]
    measured = {"blur": {"unit": "pixels", "mean_accuracy": 0.55, "levels": levels}}
    curve = CARD["metrics"]["sensitivity"]
    document = {**CARD["metrics"], "robustness": {**DEGRADED, "degradations": measured}, "sensitivity": curve}
    for _ in range(2):  # again, in place of what stands there
        tool["add"](tmp_path, document, name="mine")
    card = model_folder.read_card(tmp_path)
    assert card["robustness"] == {"split": "PublicTest", **DEGRADED, "limited": True, "degradations": {"blur": BLUR}}
    assert {**card, "robustness": 0} == {**CARD, "robustness": 0}
    assert "## Robustness" in (tmp_path / "README.md").read_text()
    with pytest.raises(ModelError, match="figures of the same model"):
        tool["add"](tmp_path, {**document, "accuracy": 0.5}, name="mine")


def test_the_notice_is_the_same_everywhere():
    root = Path(__file__).parents[2]
    for path in (root / "docs" / "responsible-use.md", model_folder.find("default") / "README.md"):
        words = " ".join(re.sub(r"\\(.)", r"\1", path.read_text(encoding="utf-8").replace("\n> ", " ")).split())
        assert model_card.NOTICE in words, path.name
        assert "\n> An automated system" in path.read_text(encoding="utf-8"), f"{path.name} does not quote it"


def test_the_docs_name_the_failures_of_the_packaged_model():
    """If another model was shipped: take the lines from its card."""
    page = (Path(__file__).parents[2] / "docs" / "responsible-use.md").read_text(encoding="utf-8")
    section = page.split("## Known failures of the default model")[1].split("\n## ")[0]
    named = [" ".join(item.split()) for item in re.findall(r"^- (.+(?:\n  .+)*)", section, re.MULTILINE)]
    said = (model_folder.find("default") / "README.md").read_text(encoding="utf-8")
    (summary,) = re.findall(r"^Accuracy on PublicTest.*: .*", said, re.MULTILINE)
    assert summary in section
    assert len(named) >= 3
    assert [item for item in named if f"- {item}\n" not in said] == []
