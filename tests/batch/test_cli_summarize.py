"""`ferkit summarize` as a user meets it: what it prints, where, and how it ends."""

import json

import pytest
from PIL import Image

from face_tables import broken, empty, face, write_batch
from ferkit.batch.job import FORMAT

pytest.importorskip("duckdb")


@pytest.fixture
def ferkit(run_ferkit, monkeypatch, tmp_path):
    """Run a command line in a folder with a batch in `out`; gives exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    write_batch(
        tmp_path / "out",
        [face(f"p/sea/{n}.jpg", "happy", 0.9, "2024-05-01T10:00:00") for n in range(3)],
        [
            face("p/[red]hills/1.jpg", "sad", 0.5),
            empty("p/2.jpg"),
            broken("p/3.jpg"),
            broken("p/4.jpg", "No \x1b[1m{}"),
        ],
    )

    return lambda *words: run_ferkit("summarize", *words)


def test_for_people(ferkit):
    code, out, err = ferkit("out", "--by", "folder")
    assert code == 0
    assert not err
    assert out.splitlines() == [
        "out: 7 pictures, 4 faces, 1 picture without a face, 2 errors",
        "",
        "taken from 2024-05-01 to 2024-05-01; 4 pictures without a date",
        "",
        "perceived  faces  share  mean confidence",
        "─" * 60,
        "happy          3    75%             0.90  ██████████████████",
        "sad            1    25%             0.50  ██████",
        "",
        "folders below p",
        "",
        "folder      pictures  faces  errors  perceived",
        "─" * 47,
        "sea                3      3       0  happy 100%",
        "[red]hills         1      1       0  sad 100%",
        ".                  3      0       2",
        "",
        "errors: 2",
        "message                        pictures",
        "─" * 39,
        "Cannot read ...: it is empty.         1",
        r"No \x1b[1m...                         1",
    ]


def test_json_is_one_document_and_nothing_else(ferkit):
    code, out, err = ferkit("out", "--by", "month", "--min-confidence", "0.6", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["pictures"] == 7
    assert found["labels"]["uncertain"]["share"] == 0.25
    assert found["taken"] == {"first": "2024-05-01T10:00:00", "last": "2024-05-01T10:00:00", "pictures_without": 4}
    assert [group["group"] for group in found["groups"]] == ["2024-05", ""]
    assert found["messages"][0] == {"message": "Cannot read ...: it is empty.", "n": 1}


def test_a_job_that_is_not_finished(ferkit, tmp_path):
    (tmp_path / "out" / "_job").mkdir()
    (tmp_path / "out" / "_job" / "job.json").write_text(json.dumps({"format": FORMAT, "parts": 3}))
    assert ferkit("out")[1].splitlines()[2] == "not finished: 2 of 3 parts are done"
    assert json.loads(ferkit("out", "--json")[1])["parts"] == {"done": 2, "planned": 3}


def test_files(ferkit, tmp_path):
    code, out, err = ferkit("out", "--by", "day", "--csv", "days.csv", "--plot", "days.png", "--json")
    assert (code, err) == (0, "Wrote days.csv\nWrote days.png\n")
    json.loads(out)
    assert (tmp_path / "days.csv").read_text().splitlines() == [
        "day,pictures,pictures_without_face,errors,faces,mean_confidence,angry,disgust,fear,happy,sad,surprise,neutral",
        ",4,1,2,1,0.5,0,0,0,0,1,0,0",
        "2024-05-01,3,0,0,3,0.9,0,0,0,3,0,0,0",
    ]
    assert Image.open("days.png").width == 1600
    assert ferkit("out", "--csv", "labels.csv")[0] == 0
    assert (tmp_path / "labels.csv").read_text().splitlines()[0] == "label,faces,share,mean_confidence"


def test_a_study(run_ferkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sources = [(f"{film}{n}.jpg", film, n) for film in ("funny", "sad") for n in range(3)]
    rows = [
        face(source, "happy" if film == "funny" or n == face_ else "sad")
        for source, film, n in sources
        for face_ in range(2)
    ]
    write_batch(tmp_path / "out", [*rows, face("other.jpg")])
    (tmp_path / "who.csv").write_text("source,film,person\n" + "".join(f"{s},{film},P{n}\n" for s, film, n in sources))
    words = ("summarize", "out", "--conditions", "who.csv", "--by", "film", "--compare", "film")
    code, out, err = run_ferkit(*words, "--people", "people.csv", "--plot", "p.svg", "--chart", "shares")
    assert (code, err.splitlines()) == (
        0,
        [
            "Left out: 1 face of sources that who.csv does not name.",
            "Wrote people.csv",
            "Wrote p.svg",
        ],
    )
    assert "film: funny and sad\npaired: 3 people in both; so few people give no p below 0.25\n" in out
    assert (tmp_path / "people.csv").read_text().splitlines()[1].startswith("P0,funny,1,1,2,1.0,")
    found = json.loads(run_ferkit(*words, "--json")[1])["comparison"]["pairs"][0]
    happy = next(one for one in found["differences"] if one["measure"] == "share_happy")
    assert (found["paired"], happy["means"], happy["p"]) == (True, [1.0, pytest.approx(1 / 3)], 0.25)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        pytest.param(["out", "--by", "week"], 2, "Unknown grouping 'week'", id="grouping"),
        pytest.param(["out", "--depth", "2"], 2, "--depth needs --by folder", id="depth"),
        pytest.param(["out", "--plot", "x.txt"], 2, "Plots cannot be written as x.txt", id="plot"),
        pytest.param(["out", "--compare", "film"], 2, "--compare needs --conditions", id="no-conditions"),
        pytest.param(["out", "--chart", "shares"], 2, "need --plot", id="chart-without-plot"),
        pytest.param(["out", "--unit", "source"], 2, "--unit needs --people", id="unit"),
        pytest.param(["out", "--plot", "x.png", "--figure-size", "7"], 2, "as in 7x4. Received: 7.", id="size"),
        pytest.param(["out", "--people", "x.txt"], 2, "ends in .csv or .parquet", id="people"),
        pytest.param(["out", "--csv", "-"], 2, "--csv writes a file", id="standard-output"),
        pytest.param(["out", "--csv", "x.parquet"], 2, "Expected a name that ends in .csv", id="csv-as-parquet"),
        pytest.param(["out", "--csv", "out"], 1, "Cannot write out", id="csv-is-a-folder"),
        pytest.param(["gone"], 1, "There is no gone", id="gone"),
        pytest.param(["."], 1, "holds no part-*.parquet", id="no-batch"),
    ],
)
def test_what_goes_wrong_is_one_line(ferkit, words, code, says):
    ended, out, err = ferkit(*words)
    assert (ended, out) == (code, "")
    assert says in err
    assert err.count("\n") == 1
