"""`ferkit data` as a user meets it: what it prints, where, and how it ends."""

import json

import pytest
from PIL import Image

from dataset_files import pictures, random_faces, row, rows_of, write_csv, write_tree


@pytest.fixture
def ferkit(run_ferkit, monkeypatch, tmp_path):
    """Run a command line in an empty folder; gives exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    return run_ferkit


def test_the_report_says_what_is_in_it(ferkit, tmp_path):
    faces = rows_of(21)
    write_csv(tmp_path / "faces.csv", [*faces, row(random_faces(21)[0], 6, "PublicTest")])
    code, out, err = ferkit("data", "faces.csv")
    assert code == 0
    for text in ("22 faces, 7 classes, 48x48 gray", "Training", "PublicTest", "1 of PublicTest also in Training"):
        assert text in out
    assert "1 group of identical faces with more than one label" in out
    assert "angry / neutral (1)" in out
    assert "There is no PrivateTest" in out
    assert err.strip() == "Contact sheet: contact_sheet.png"
    with Image.open("contact_sheet.png") as sheet:
        assert sheet.width > 1000
        assert sheet.height > 500


def test_json_is_one_document_and_nothing_else(ferkit, tmp_path):
    write_csv(tmp_path / "faces.csv", [*rows_of(21), row(random_faces(1)[0], 9)])
    code, out, err = ferkit("data", "faces.csv", "--json", "--sheet", "sheets/a.jpg", "--skip-broken")
    report = json.loads(out)
    assert code == 0
    assert report["n"] == 21
    assert report["splits"]["Training"]["counts"]["angry"] == 2
    assert report["broken"] == [{"where": "row 23", "reason": report["broken"][0]["reason"]}]
    assert report["contact_sheet"] == "sheets/a.jpg"
    assert (tmp_path / "sheets" / "a.jpg").stat().st_size > 1000
    assert "Contact sheet" in err


def test_broken_rows_give_the_whole_report_and_exit_code_1(ferkit, tmp_path):
    write_csv(tmp_path / "faces.csv", ["0,1 2 3,Training", *rows_of(21), row(random_faces(1)[0], 9)])
    code, out, err = ferkit("data", "faces.csv")
    assert code == 1
    assert "21 faces" in out
    assert "row 2: 3 pixels, expected 2,304" in out
    assert "row 24: label '9'" in out
    assert err.splitlines()[-1].startswith(
        "ferkit: faces.csv, row 2: 3 pixels, expected 2,304 (48 x 48) (1 more invalid)"
    )
    code, out, _ = ferkit("data", "faces.csv", "--skip-broken")
    assert code == 0
    assert out.count("Invalid rows") == out.count("2 invalid rows were left out.") == 1


@pytest.mark.parametrize(
    ("name", "kind"), [pytest.param("faces.csv", "row", id="table"), pytest.param("faces", "image", id="folder")]
)
def test_one_that_is_left_out_is_called_by_what_it_is(ferkit, tmp_path, name, kind):
    write_csv(tmp_path / "faces.csv", ["0,1 2 3,Training", *rows_of(21)])
    write_tree(tmp_path / "faces", {**pictures({"cats": 9, "dogs": 9}), "cats/10.png": b"no picture"})
    code, out, _ = ferkit("data", name, "--skip-broken")
    assert code == 0
    assert f"Invalid {kind}s" in out
    assert f"1 invalid {kind} was left out." in out


def test_every_column_adds_up_to_all_of_its_split(ferkit, tmp_path):
    write_csv(
        tmp_path / "faces.csv",
        [*rows_of(21, heldout_from=21), *(row(face, 3, "PublicTest") for face in random_faces(25)[21:])],
    )
    _, out, _ = ferkit("data", "faces.csv")
    table = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert table["all"] == ["21", "100.0%", "4", "100.0%", "25", "100.0%"]
    assert table["happy"] == ["3", "14.3%", "4", "100.0%", "7", "28.0%"]


def test_help_names_no_earlier_name(ferkit):
    _, out, _ = ferkit("data", "--help")
    assert "--label-issues" in out
    assert "--suspects" not in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        pytest.param(["missing.csv"], 1, "There is no missing.csv", id="missing"),
        pytest.param(["empty.csv"], 1, "empty.csv is empty", id="empty"),
        pytest.param(["empty"], 1, "empty holds no picture", id="empty folder"),
        pytest.param(["good.csv", "--split", "rndom"], 2, "Unknown split 'rndom'", id="split"),
        pytest.param(["good.csv", "--sheet", "sheet.xyz"], 2, "cannot be written as 'sheet.xyz'", id="sheet suffix"),
        pytest.param(["good.csv", "--sheet", "empty.csv/a.png"], 1, "Cannot write empty.csv/a.png", id="sheet place"),
        pytest.param(["good.csv", "--votes", "none.csv"], 1, "There is no none.csv", id="votes"),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(ferkit, tmp_path, words, code, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.csv").touch()
    write_csv(tmp_path / "good.csv", rows_of(9))
    left, _, err = ferkit("data", *words)
    assert left == code
    assert err.count("\n") == 1
    assert message in err


def test_own_classes_with_odd_names(ferkit, tmp_path):
    folders = {"[bold]": 3, "émotion très longue à écrire": 3}
    write_tree(tmp_path / "own", pictures(folders))
    code, out, _ = ferkit("data", "own")
    assert code == 0
    assert "[bold]" in out
