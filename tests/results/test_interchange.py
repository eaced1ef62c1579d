"""Results as pandas and supervision have them."""

import sys

import numpy as np
import pytest

from ferkit.errors import MissingDependencyError, UsageError
from ferkit.labels import EMOTIONS
from ferkit.results import UNCERTAIN, FaceEmotion, PictureResult, Results, table_columns
from recognition import emotion, face_at

TWO = PictureResult("a.jpg", 100, 80, (emotion("happy"), emotion("sad", 0.4)))
NOBODY = PictureResult("b.jpg", 100, 80, classes=EMOTIONS)
FAILED = PictureResult.failed("c.jpg", "cut off")


@pytest.mark.parametrize(
    ("results", "rows"),
    [
        pytest.param([TWO, NOBODY, FAILED], 4, id="faces, nobody, an error"),
        pytest.param([NOBODY], 1, id="nobody"),
        pytest.param([TWO], 2, id="faces only"),
    ],
)
def test_pandas_has_the_columns_of_the_tables(results, rows):
    frame = Results(results).to_pandas()
    assert list(frame.columns) == list(table_columns(EMOTIONS))
    assert len(frame) == rows
    assert {name: str(frame[name].dtype) for name in ("source", "x1", "label", "confidence", "happy", "error")} == {
        **dict.fromkeys(("source", "label", "error"), "string"),
        "x1": "Int32",
        **dict.fromkeys(("confidence", "happy"), "float64"),
    }


def test_pandas_rows():
    frame = Results([TWO, NOBODY, FAILED]).to_pandas()
    assert frame.label.tolist()[:2] == ["happy", "sad"]
    assert frame.label.isna().tolist() == [False, False, True, True]
    assert frame.x1.isna().tolist() == [False, False, True, True]
    assert frame.error.isna().tolist() == [True, True, True, False]
    assert frame.query("label == 'happy'")[["x1", "y1", "x2", "y2", "happy"]].iloc[0].tolist() == [10, 10, 50, 60, 0.7]
    assert TWO.to_pandas().equals(frame[:2])


def test_pandas_without_any_row_has_columns_and_types():
    frame = Results().to_pandas()
    assert list(frame.columns) == list(table_columns(()))
    assert [str(kind) for kind in frame.dtypes[["source", "x1", "confidence"]]] == ["string", "Int32", "float64"]


@pytest.mark.parametrize("results", [pytest.param([], id="no picture"), pytest.param([FAILED], id="none readable")])
def test_pandas_has_the_classes_of_the_model_where_no_result_has_any(results):
    frame = Results(results, classes=EMOTIONS).to_pandas()
    assert list(frame.columns) == list(table_columns(EMOTIONS))
    assert str(frame.happy.dtype) == "float64"


def test_pandas_takes_boxes_of_numpy():
    x1, y1, x2, y2 = np.array([10, 10, 50, 60], np.int64)
    found = FaceEmotion(face_at(x1, y1, x2, y2), "happy", 1.0, {"happy": np.float32(1)})
    assert PictureResult("a.jpg", 100, 80, (found,)).to_pandas().x2.tolist() == [50]


def test_pandas_of_two_models_has_the_classes_of_both():
    other = PictureResult("d.jpg", 100, 80, (emotion("bored", classes=("bored", "happy")),))
    frame = Results([TWO, other]).to_pandas()
    assert list(frame.columns[8:-2]) == [*EMOTIONS, "bored"]
    assert frame.bored.isna().tolist() == [True, True, False]
    with pytest.raises(UsageError, match="named like columns"):
        PictureResult("e.jpg", 100, 80, (emotion("label", classes=("label", "happy")),)).to_pandas()


def test_supervision_detections():
    pytest.importorskip("supervision")
    unsure = FaceEmotion.from_probabilities(face_at(0, 0, 9, 9, 0.8), EMOTIONS, np.full(7, 1 / 7), 0.5)
    found = PictureResult("a.jpg", 100, 80, (*TWO.faces, unsure)).to_supervision()
    assert (found.xyxy.dtype, found.xyxy.tolist()) == (np.float32, [[10, 10, 50, 60], [10, 10, 50, 60], [0, 0, 9, 9]])
    assert found.confidence == pytest.approx([0.9, 0.9, 0.8])
    assert found.class_id.tolist() == [3, 4, 7]
    assert found["class_name"].tolist() == ["happy", "sad", UNCERTAIN]
    assert found["emotion_confidence"] == pytest.approx([0.7, 0.4, 1 / 7])
    assert found["probabilities"].shape == (3, 7)
    assert found[found.class_id == 3]["probabilities"].argmax() == 3


@pytest.mark.parametrize("result", [NOBODY, FAILED])
def test_supervision_of_nobody(result):
    supervision = pytest.importorskip("supervision")
    found = result.to_supervision()
    assert found.xyxy.shape == (0, 4)
    assert len(found) == 0
    assert len(supervision.Detections.merge([found, TWO.to_supervision()])) == 2


def test_supervision_draws_them():
    supervision = pytest.importorskip("supervision")
    scene = np.zeros((80, 100, 3), np.uint8)
    drawn = supervision.BoxAnnotator().annotate(scene.copy(), TWO.to_supervision())
    drawn = supervision.LabelAnnotator().annotate(drawn, TWO.to_supervision())
    assert drawn.any()


@pytest.mark.parametrize(
    ("library", "convert", "hint"),
    [
        pytest.param("pandas", Results([TWO]).to_pandas, "pip install pandas", id="pandas"),
        pytest.param("supervision", TWO.to_supervision, r"pip install 'ferkit\[supervision\]'", id="supervision"),
    ],
)
def test_what_is_missing_is_named(library, convert, hint, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=hint):
        convert()


def test_joined_results_keep_the_classes_of_both():
    joined = Results([TWO], ("happy", "sad")) + Results([NOBODY], ("sad", "bored"))
    assert (list(joined), joined.classes) == ([TWO, NOBODY], ("happy", "sad", "bored"))
    others = [NOBODY]
    assert (Results([TWO], ("happy",)) + others).classes == ("happy",)
    joined += Results([FAILED], ("calm",))
    assert (list(joined), joined.classes) == ([TWO, NOBODY, FAILED], ("happy", "sad", "bored", "calm"))
