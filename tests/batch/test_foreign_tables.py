"""Tables of other programs: each as a small export, summarised as our own are."""

import gzip
import json

import pytest

from ferkit.batch import summarize
from ferkit.batch.summary_scan import find_table
from ferkit.errors import DatasetError

pytest.importorskip("duckdb")

HAPPY = {"angry": 1.0, "disgust": 0.0, "fear": 2.0, "happy": 90.0, "sad": 3.0, "surprise": 1.0, "neutral": 3.0}
SAD = HAPPY | {"happy": 3.0, "sad": 90.0}


def lines(*rows):
    return "".join(f"{row}\n" for row in rows)


def deepface(*scores):
    return [
        {"emotion": one, "dominant_emotion": max(one, key=one.get), "region": {"x": 10, "y": 20, "w": 30, "h": 40, "left_eye": None}, "face_confidence": 0.9}
        for one in scores
    ]  # fmt: skip


def fer(*scores):
    return [{"box": [10, 20, 30, 40], "emotions": {name: one / 100 for name, one in face.items()}} for face in scores]


def of(scores, divisor=100):
    return ",".join(str(one / divisor) for one in scores.values())


PY_FEAT = "frame,FaceRectX,FaceRectY,FaceRectWidth,FaceRectHeight,FaceScore,AU01,Pitch,anger,disgust,fear,happiness,sadness,surprise,neutral,input"
AFFDEX = "Row,Timestamp,SampleNumber,Anger,Contempt,Disgust,Fear,Joy,Sadness,Surprise,Engagement,Neutral,Smile"
IMOTIONS = lines(
    "#INFO", "#METADATA", "#Respondent Name,R3", "#Study name,A study, of ads", "#DATA", AFFDEX,
    "1,0,1,1,0,0,2,90,3,1,60,3,80", "2,40,2,,,,,,,,,,", "3,80,3,1,0,0,2,3,90,1,60,3,0",
)  # fmt: skip
WIDE = ",".join([*(f"{name}0" for name in ("box", *HAPPY)), *(f"{name}1" for name in ("box", *HAPPY))])

# Name of the file, its content, the pictures in it, and the box of its faces.
EXPORTS = [
    pytest.param(
        "pyfeat.csv",
        lines(PY_FEAT, *(f"{frame}.0,10,20,30,40,0.9,0.5,1.5,0.01,0,0.02,{happy},{sad},0.01,0.03,clip.mp4" for frame, happy, sad in ((0, 0.9, 0.03), (10, 0.03, 0.9)))),
        2, True, id="py-feat",
    ),
    pytest.param("R3.txt", IMOTIONS.replace(",", "\t"), 2, False, id="iMotions"),
    pytest.param("R3.csv", IMOTIONS, 2, False, id="iMotions, commas"),
    pytest.param("picture.json", json.dumps(deepface(HAPPY, SAD)), 1, True, id="deepface, a picture"),
    pytest.param("pictures.json", json.dumps({"results": {"a.jpg": deepface(HAPPY), "b.jpg": deepface(SAD)}}), 2, True, id="deepface, names"),
    pytest.param("frames.json", json.dumps([deepface(HAPPY), deepface(SAD)]), 2, True, id="deepface, frames"),
    pytest.param("frames.jsonl", lines(json.dumps(deepface(HAPPY)), json.dumps(deepface(SAD))), 2, True, id="deepface, lines"),
    pytest.param(
        "deepface.csv",
        lines(",emotion,dominant_emotion,region,face_confidence", *(f'{n},"{str(one).replace("90.0", "np.float32(90.0)")}",x,"{{\'x\': 10, \'y\': 20, \'w\': 30, \'h\': 40}}",0.9' for n, one in enumerate((HAPPY, SAD)))),
        2, True, id="deepface, a data frame",
    ),
    pytest.param("fer.json", json.dumps([fer(HAPPY), fer(SAD)]), 2, True, id="fer"),
    pytest.param("fer.csv", lines(WIDE, f'"[10, 20, 30, 40]",{of(HAPPY)},"[10, 20, 30, 40]",{of(SAD)}', "," * 15), 2, True, id="fer, side by side"),
    pytest.param("first.csv", lines(f",box,{','.join(HAPPY)}", *(f'{n},"[10 20 30 40]",{of(one)}' for n, one in enumerate((HAPPY, SAD)))), 2, True, id="fer, the first face"),
    pytest.param(
        "openface.csv.gz",
        lines("frame, face_id, timestamp, confidence, success, pose_Rx, AU01_r, anger, happiness, sadness, neutral", "1, 0, 0.00, 0.98, 1, 0.1, 0.5, 0.01, 0.9, 0.06, 0.03", "2, 0, 0.04, 0.98, 1, 0.1, 0.5, 0.01, 0.06, 0.9, 0.03"),
        2, False, id="OpenFace, with emotions",
    ),
]  # fmt: skip


def table_of(path):
    """The rows in our columns, as texts."""
    duckdb = pytest.importorskip("duckdb")
    table = find_table(str(path))
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT * FROM {table.reader}", {"files": list(table.files)})  # noqa: S608
        columns = [one[0] for one in found.description]
        return [dict(zip(columns, row, strict=True)) for row in found.fetchall()]


@pytest.mark.parametrize(("name", "content", "pictures", "boxes"), EXPORTS)
def test_an_export_is_summarised_as_our_own(tmp_path, caplog, name, content, pictures, boxes):
    path = tmp_path / name
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    with caplog.at_level("INFO"):
        summary = summarize(path)
    assert {label: one.faces for label, one in summary.total.labels.items()} == {"happy": 1, "sad": 1}
    assert summary.total.labels["sad"].mean_confidence == pytest.approx(0.9, abs=0.001)
    assert summary.total.pictures == pictures
    assert summary.total.errors == 0
    assert "columns are named as ours" in caplog.text
    first = table_of(path)[0]
    assert [first[one] for one in ("x1", "y1", "x2", "y2")] == (["10", "20", "40", "60"] if boxes else [None] * 4)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        pytest.param("pyfeat.csv", {"source": "clip.mp4", "frame": "10", "au01": "0.5", "pitch": "1.5", "detection_score": "0.9"}, id="py-feat"),
        pytest.param("R3.csv", {"source": "R3", "time_s": "0.08", "engagement": "60", "smile": "0", "contempt": "0.000000"}, id="iMotions"),
        pytest.param("pictures.json", {"source": "b.jpg", "dominant_emotion": "sad", "detection_score": "0.9"}, id="deepface"),
        pytest.param("openface.csv.gz", {"source": "openface", "time_s": "0.04", "track": "0", "pose_rx": "0.1", "detection_score": "0.98"}, id="OpenFace"),
    ],
)  # fmt: skip
def test_other_columns_are_kept(tmp_path, name, kept):
    content = next(one.values[1] for one in EXPORTS if one.values[0] == name)
    (tmp_path / name).write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    last = table_of(tmp_path / name)[-1]
    assert {column: last[column] for column in kept} == kept


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("of.csv", lines("frame, timestamp, confidence, success, pose_Rx, AU01_r, AU02_r, AU04_r, AU01_c", "1,0,0.9,1,0,1,2,3,1"), "OpenFace without emotions: it has AU01_R, AU02_R, AU04_R and 1 more", id="OpenFace"),
        pytest.param("facet.csv", lines("Joy,Anger,Surprise", "0.4,-0.8,0.9"), "is -0.8. Expected 0 to 100", id="evidence"),
        pytest.param("odd.csv", lines(PY_FEAT, "0,1,2,3,4,0.9,0,0,much,0,0,0,0,0,0,a"), "'much' is no number", id="text"),
        pytest.param("other.csv", lines("a,b", "1,2"), "it lacks the column source", id="another table"),
        pytest.param("broken.json", "[{", "is not a table of faces", id="cut off"),
    ],
)  # fmt: skip
def test_what_is_no_table_of_emotions_is_one_clear_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DatasetError, match=message) as error:
        summarize(tmp_path / name)
    assert "\n" not in str(error.value)


def test_the_table_in_between_is_deleted(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(deepface(HAPPY)))
    table = find_table(str(tmp_path / "a.json"))
    held = table.held.path
    assert held.is_file()
    del table
    assert not held.exists()
