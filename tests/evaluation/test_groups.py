"""Groups: a table is joined to the right faces or refused, and a gap is called one about as often as chance allows."""

import csv
import itertools
import json
import warnings
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_files import png, write_tree
from ferkit.data.loading import load_dataset
from ferkit.data.records import FaceSet
from ferkit.errors import DatasetError, UsageError
from ferkit.evaluation.group_sections import verdict
from ferkit.evaluation.group_statistics import FEW_PEOPLE, LEVEL, Faces, People, effective_sample_size, numbered
from ferkit.evaluation.group_table import join_groups
from ferkit.evaluation.groups import FEW, group_report
from ferkit.evaluation.metrics import wilson_interval
from ferkit.evaluation.report import measure
from ferkit.evaluation.report_sections import write_report
from ferkit.render import Document, style
from ferkit.render.page import to_html

CLASSES = ("happy", "sad", "neutral")


def faces(n, first_row=0, name="PublicTest"):
    labels = np.arange(n) % len(CLASSES)
    rows = np.arange(first_row, first_row + n)
    return FaceSet(np.zeros((n, 4, 4, 1), np.uint8), labels, CLASSES, name, rows=rows)


def measured(set_of_faces, right):
    """A report in which the faces marked as right are right, with confidence 0.7."""
    answers = np.where(right, set_of_faces.labels, (set_of_faces.labels + 1) % len(CLASSES))
    probabilities = np.full((len(answers), len(CLASSES)), 0.15, np.float32)
    probabilities[np.arange(len(answers)), answers] = 0.7
    return measure(probabilities, set_of_faces, model="m", seconds=1)


def write(path, header, *rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture
def source(tmp_path):
    """Anything that is no folder of pictures: its faces are known by their rows."""
    path = tmp_path / "fer.csv"
    path.write_text("emotion,pixels,Usage\n0,0,PublicTest\n")
    return path


def test_rows_are_joined_by_their_number_whatever_their_order(tmp_path, source):
    table = write(tmp_path / "t.csv", ["age", "Row"], ["old", "12"], ["young", "10.0"], ["young", "99"], ["", "11"])
    joined = join_groups(table, faces(4, first_row=10), source)
    assert joined.columns == {"age": ("young", None, "old", None)}
    assert joined.note == "t.csv names 3 of the 4 faces of PublicTest; 1 face without a row; 1 row of no face here."


def test_rows_that_contradict_each_other_put_a_face_in_no_group(tmp_path, source):
    rows = [["0", "a"], ["1", "a"], ["1", "b"], ["0", "a"], ["1", "a"]]
    joined = join_groups(write(tmp_path / "t.csv", ["row", "g"], *rows), faces(2), source)
    assert joined.columns["g"] == ("a", None)
    assert "2 rows against an earlier one of the same face, which is in no group" in joined.note


def test_pictures_are_known_by_their_path_or_their_name_alone(tmp_path):
    names = ("happy/1.png", "happy/2.png", "sad/1.png", "sad/3.png")
    write_tree(
        tmp_path / "faces",
        {f"val/{name}": png(np.full((48, 48, 1), place, np.uint8)) for place, name in enumerate(names)},
    )
    data = load_dataset(tmp_path / "faces").split("val")
    rows = [["2.png", "two"], ["1.png", "never"], ["./val/happy/1.png", "one"]]
    rows.append([str(tmp_path / "faces" / "val" / "sad" / "1.png"), "other one"])
    joined = join_groups(write(tmp_path / "t.csv", ["file", "g"], *rows), data, tmp_path / "faces")
    assert joined.columns["g"] == ("one", "two", "other one", None)
    assert "1 file name of several pictures, which need their path" in joined.note


def test_parquet_and_chosen_columns(tmp_path, source):
    table = {"row": [0, 1], "gender": ["f", None], "tone": [3, 4], "label": ["happy", "sad"]}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    assert join_groups(tmp_path / "t.parquet", faces(2), source).columns == {"gender": ("f", None), "tone": ("3", "4")}
    assert set(join_groups(tmp_path / "t.parquet", faces(2), source, ["Tone"]).columns) == {"tone"}


@pytest.mark.parametrize(
    ("header", "row", "columns", "said"),
    [
        pytest.param(["row", "label", "g"], ["0", "sad", "a"], (), "row 2: the label 'sad', but this face", id="label"),
        pytest.param(["row", "usage", "g"], ["0", "Training", "a"], (), "the split 'Training', but", id="split"),
        pytest.param(["row", "g"], ["7", "a"], (), "none (its first is '7') is of a face", id="other faces"),
        pytest.param(["face_id", "g"], ["0", "a"], (), "no column that names the face", id="no key"),
        pytest.param(["row", "label"], ["0", "happy"], (), "no column of groups", id="no groups"),
        pytest.param(["row", "g"], ["0", ""], (), "the column g is empty", id="empty column"),
        pytest.param(["row", "g"], ["0", "a"], ("h",), "has no column 'h'. It has: row, g", id="unknown column"),
        pytest.param(["row", "g"], ["0", "a", "b"], (), "row 2: 3 fields, expected 2", id="fields"),
        pytest.param(["row", "row"], ["0", "a"], (), "the column 'row' twice", id="twice"),
    ],
)
def test_what_cannot_be_joined_is_one_line(tmp_path, source, header, row, columns, said):
    with pytest.raises((DatasetError, UsageError)) as refused:
        join_groups(write(tmp_path / "t.csv", header, row), faces(3), source, columns)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["class", "emotion", "label", "split"])
def test_a_column_that_is_asked_for_holds_groups_whatever_its_name(tmp_path, source, name):
    table = write(tmp_path / "t.csv", ["row", name], ["0", "upper"], ["1", "Training"])
    assert join_groups(table, faces(2), source, [name]).columns == {name: ("upper", "Training")}


def test_the_other_columns_are_still_held_against_the_data(tmp_path, source):
    table = write(tmp_path / "t.csv", ["row", "class", "label"], ["0", "upper", "sad"])
    with pytest.raises(DatasetError, match="the label 'sad', but this face"):
        join_groups(table, faces(2), source, ["class"])


def test_groups_of_some_of_the_faces(tmp_path, source):
    joined = join_groups(write(tmp_path / "t.csv", ["row", "g"], ["0", "a"], ["2", "b"]), faces(3), source)
    assert joined.select(np.array([False, True, True])).columns == {"g": (None, "b")}
    with pytest.raises(DatasetError, match="g names no group of the 1 face left"):
        joined.select(np.array([False, True, False]))


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0" + bytes(range(256)) * 40, b"a," * 9000, b'row,"g\n'])
def test_what_is_no_table_is_one_short_line(tmp_path, source, content):
    (tmp_path / "t.csv").write_bytes(content)
    (tmp_path / "t.parquet").write_bytes(content)
    for name in ("t.csv", "t.parquet"):
        with pytest.raises(DatasetError) as refused:
            join_groups(tmp_path / name, faces(3), source)
        assert len(str(refused.value)) < 900


def test_measurements_are_no_groups(tmp_path, source):
    table = write(tmp_path / "t.csv", ["row", "age"], *([str(row), str(20 + row)] for row in range(30)))
    with pytest.raises(DatasetError, match=r"30 different values.*bands"):
        join_groups(table, faces(30), source)


def report_on(tmp_path, source, names, right):
    table = write(tmp_path / "t.csv", ["row", "g"], *([str(row), name] for row, name in enumerate(names)))
    data = faces(len(names))
    return group_report(measured(data, right), join_groups(table, data, source))


def test_a_gap_is_found_and_small_groups_are_left_out(tmp_path, source):
    names = ["a"] * 300 + ["b"] * 300 + ["tiny"] * (FEW - 1)
    right = np.arange(len(names)) % 10 < np.where(np.array(names) == "a", 9, 6)
    right[600:] = False
    (found,) = report_on(tmp_path, source, names, right).comparisons
    assert (found.gap.better, found.gap.worse) == ("a", "b")
    assert found.gap.difference == pytest.approx(0.3)
    assert found.gap.p < 0.001
    assert found.gap.difference_ci95[0] > 0.2
    assert [group.small for group in found.groups] == [False, False, True]
    assert found.groups[2].same_mix_accuracy is None
    said = verdict(found)
    assert "a over b by 30.0 percentage points" in said
    assert "Too few for any conclusion (below 30 faces): tiny." in said


def test_a_gap_that_is_all_in_the_mix_of_classes_goes_away(tmp_path, source):
    """Happy is found always, the others every second time; one group is mostly happy."""
    data = faces(1200)
    happy = data.labels == 0
    names = np.where(
        happy, np.where(np.arange(1200) % 8, "glad", "other"), np.where(np.arange(1200) % 8, "other", "glad")
    )
    right = happy | (np.arange(1200) // 3 % 2 == 0)
    (found,) = report_on(tmp_path, source, names.tolist(), right).comparisons
    assert found.gap.significant
    assert found.gap.difference > 0.2
    assert not found.same_mix_gap.significant
    assert found.same_mix_gap.difference < 0.05


def test_groups_and_people_may_be_called_na_and_faces_without_a_group_are_counted(tmp_path, source):
    rows = [[str(n), ("EU", "NA", "")[n % 3], ("NA", "None", "nan")[n % 3]] for n in range(120)]
    data = faces(120)
    table = join_groups(write(tmp_path / "t.csv", ["row", "region", "who"], *rows), data, source, person_column="who")
    assert set(table.columns["region"]) == {"EU", "NA", None}
    assert set(table.people) == {"NA", "None", None}
    (found,) = group_report(measured(data, np.ones(120, bool)), replace(table, people=None)).comparisons
    assert [(one.name, one.n) for one in found.groups] == [("EU", 40), ("NA", 40)]
    assert "40 faces in no group." in verdict(found)


def test_what_cannot_be_concluded_is_said(tmp_path, source):
    (found,) = report_on(tmp_path, source, ["a"] * 40 + ["b"] * 10, np.ones(50, bool)).comparisons
    assert found.gap is None
    assert "nothing can be concluded" in verdict(found)
    (found,) = report_on(tmp_path, source, ["a", "b"] * 40, np.arange(80) // 2 % 2 == 0).comparisons
    assert "does not prove that the groups are equal" in verdict(found)


def false_alarms(sizes, mixes, seed, tries):
    """How often groups that do not differ seem to: share of tries with any pair below LEVEL."""
    rng = np.random.default_rng(seed)
    counts = np.array([rng.multinomial(n, mix) + 1 for n, mix in zip(sizes, mixes, strict=True)])
    weights = counts.sum(axis=0) / counts.sum()
    recalls = np.array([0.9, 0.6, 0.5])
    alarms = 0
    for _ in range(tries):
        right = rng.binomial(counts, recalls)
        p, _critical = Faces(right, counts).gap_test(weights, rng)
        alarms += min(p) < LEVEL
    return alarms / tries


@pytest.mark.parametrize(
    ("sizes", "mixes"),
    [
        pytest.param((200, 200), [(0.4, 0.3, 0.3)] * 2, id="two alike"),
        pytest.param((1000, 60, 35, 300), [(0.4, 0.3, 0.3)] * 4, id="four of all sizes"),
        pytest.param((300, 300, 100), [(0.7, 0.2, 0.1), (0.1, 0.2, 0.7), (0.3, 0.3, 0.4)], id="other mixes"),
    ],
)
def test_equal_groups_seem_to_differ_in_one_case_of_twenty(sizes, mixes, monkeypatch):
    """With 400 tries chance stays within 2.5 and 8 % in all but a few of a thousand seeds."""
    monkeypatch.setattr("ferkit.evaluation.group_statistics._DRAWS", 400)
    assert 0.025 < false_alarms(sizes, mixes, seed=1, tries=400) < 0.08


def test_several_faces_of_each_person_make_false_alarms(monkeypatch):
    """Documented, not wanted: 40 people in each group, ten faces each, answers that correlate by 0.1 within a person."""
    monkeypatch.setattr("ferkit.evaluation.group_statistics._DRAWS", 400)
    rng = np.random.default_rng(3)
    counts = np.full((2, 1), 400)
    alarms = 0
    for _ in range(2000):
        recalls = rng.beta(0.7 * 9, 0.3 * 9, (2, 40))
        (p,), _critical = Faces(rng.binomial(10, recalls).sum(axis=1, keepdims=True), counts).gap_test(np.ones(1), rng)
        alarms += p < LEVEL
    assert 0.115 < alarms / 2000 < 0.165


def crowd(faces_of, rng, accuracy=0.7, alike=0.3):
    """Equal groups of people with so many faces each, whose answers correlate by `alike` within a person."""
    group = np.repeat(np.arange(len(faces_of)), [len(faces) for faces in faces_of])
    faces = np.concatenate(faces_of)
    total = (1 - alike) / alike
    recalls = rng.beta(accuracy * total, (1 - accuracy) * total, len(group))
    return People(group, rng.binomial(faces, recalls)[:, None] * 1.0, faces[:, None] * 1.0)


def first_group(people):
    inside = people.group == 0
    return People(people.group[inside], people.right[inside], people.counts[inside])


@pytest.fixture
def few_draws(monkeypatch):
    monkeypatch.setattr("ferkit.evaluation.group_statistics._PEOPLE_DRAWS", 200)
    monkeypatch.setattr("ferkit.evaluation.group_statistics._FEWEST_DRAWS", 200)


def tens(count):
    return lambda rng: np.full(count, 10)


def ones(count):
    return lambda rng: np.ones(count, int)


def some(count):
    """Five on average, one mostly."""
    return lambda rng: rng.geometric(0.2, count)


def very_unequal(count):
    return lambda rng: np.minimum(1 + (3 * rng.pareto(1.2, count)).astype(int), 2000)


@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize(
    ("groups", "accuracy", "most"),
    [
        pytest.param((tens(40), tens(40)), 0.7, 0.085, id="as above"),
        pytest.param((tens(12), tens(12)), 0.7, 0.085, id="few people"),
        pytest.param((tens(40), ones(80)), 0.7, 0.085, id="ten faces against one"),
        pytest.param((some(15), some(40), some(30)), 0.7, 0.085, id="three groups"),
        pytest.param((very_unequal(100), some(100)), 0.7, 0.085, id="a few people have most faces"),
        pytest.param((tens(40), tens(40)), 0.98, 0.05, id="hardly a mistake"),
    ],
)
def test_of_people_told_apart_equal_groups_seem_to_differ_in_one_case_of_twenty(groups, accuracy, most):
    """At the most; and the interval of a group's accuracy holds the true one in 93 of 100 at least, within what 300 tries tell."""
    rng = np.random.default_rng(1)
    alarms, held = [], []
    while len(alarms) < 300:
        faces_of = [draw(rng) for draw in groups]
        people = crowd(faces_of, rng, accuracy)
        if min(effective_sample_size(np.repeat(np.arange(len(faces)), faces)) for faces in faces_of) < FEW_PEOPLE:
            continue
        p, _critical = people.gap_test(np.ones(1), rng)
        low, high = first_group(people).accuracy_interval()
        alarms.append(min(p) < LEVEL)
        held.append(low <= accuracy <= high)
    assert np.mean(alarms) < most
    assert np.mean(held) > 0.88


@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize("sizes", [pytest.param((30, 30), id="alike"), pytest.param((20, 60), id="of other sizes")])
def test_people_who_show_one_class_each_do_not_make_other_mixes_a_gap(sizes):
    """Classes that fewer than five people of a group show are left out: one person's answers know no error."""
    rng = np.random.default_rng(1)
    alarms = []
    for _ in range(150):
        group = np.repeat([0, 1], sizes)
        mixes = np.where(group[:, None] == 0, (0.6, 0.3, 0.1), (0.1, 0.3, 0.6))
        counts = 10.0 * np.array([rng.multinomial(1, mix) for mix in mixes])
        recalls = rng.beta(np.array([0.9, 0.6, 0.4]) * 7 / 3, np.array([0.1, 0.4, 0.6]) * 7 / 3, (len(group), 3))
        people = People(group, rng.binomial(counts.astype(int), recalls) * 1.0, counts)
        known = people.known_classes()
        if known.any():
            alike = people.of_classes(known)
            weights = alike.counts.sum(axis=0) / alike.counts.sum()
            alarms.append(min(alike.gap_test(weights, rng)[0]) < LEVEL)
    assert len(alarms) > 100
    assert np.mean(alarms) < 0.105


def test_one_person_with_most_faces_makes_a_group_too_small(tmp_path, source):
    assert effective_sample_size(np.repeat(np.arange(20), 7)) == pytest.approx(20)
    rows = [[str(n), "ab"[n % 2], f"{n % 2}, {n // 2 % 20 if n < 200 or n % 2 else 0}"] for n in range(900)]
    data = faces(900)
    table = join_groups(write(tmp_path / "t.csv", ["row", "g", "who"], *rows), data, source, person_column="who")
    (found,) = group_report(measured(data, np.arange(900) % 5 > 0), table).comparisons
    assert [(one.people, one.small) for one in found.groups] == [(20, True), (20, False)]
    assert found.gap is None
    few, enough = found.groups
    assert few.macro_f1_ci95 is few.ece_ci95 is few.mean_confidence_ci95 is None
    low, high = few.accuracy_ci95
    assert high - low > 0.5, "hardly more than one person is known"
    assert enough.macro_f1_ci95 is not None


def test_one_mistake_more_does_not_make_an_interval_much_narrower():
    counts = np.full((40, 1), 10.0)

    def width(mistakes):
        right = counts.copy()
        right[:mistakes] -= 1
        low, high = People(np.zeros(40, int), right, counts).accuracy_interval()
        return high - low

    assert width(0) == pytest.approx(0.088, abs=0.002), "as of 40 faces"
    assert width(0) < width(1) < width(4)
    both = People(np.repeat([0, 1], 40), np.tile(counts, (2, 1)), np.tile(counts, (2, 1)))
    gap = both.widest_gap("ab", np.ones(1), np.random.default_rng(0))
    assert gap.difference_ci95[1] > 0.03


def test_people_with_one_face_each_are_as_many_faces(tmp_path, source):
    names = np.random.default_rng(1).permutation(["a"] * 200 + ["b"] * 400).tolist()
    right = np.random.default_rng(0).random(600) < np.where(np.array(names) == "a", 0.8, 0.65)
    data = faces(600)
    rows = [[str(row), name, f"person {row}"] for row, name in enumerate(names)]
    path = write(tmp_path / "t.csv", ["row", "g", "who"], *rows)
    told = group_report(measured(data, right), join_groups(path, data, source, person_column="Who")).comparisons[0]
    (untold,) = group_report(measured(data, right), join_groups(path, data, source, ["g"])).comparisons
    assert [group.people for group in told.groups] == [200, 400]
    assert [group.people for group in untold.groups] == [None, None]
    for one, other in zip(told.groups, untold.groups, strict=True):
        assert one.accuracy_ci95 == pytest.approx(other.accuracy_ci95, abs=0.001)
        assert one.same_mix_accuracy_ci95 == pytest.approx(other.same_mix_accuracy_ci95, abs=0.002)
        assert one.macro_f1_ci95 == pytest.approx(other.macro_f1_ci95, abs=0.02)
    for one, other in ((told.gap, untold.gap), (told.same_mix_gap, untold.same_mix_gap)):
        assert one.difference == pytest.approx(other.difference)
        assert one.p == pytest.approx(other.p, abs=0.003)
        assert one.difference_ci95 == pytest.approx(other.difference_ci95, abs=0.01)


def test_ten_faces_of_a_person_that_are_all_alike_are_worth_one(tmp_path, source):
    """The same 60 answers, each ten times: every interval is as wide as that of the 60."""
    right = np.random.default_rng(0).random(60) < 0.6
    ten = write(
        tmp_path / "t.csv", ["row", "g", "who"], *([str(n), "ab"[n // 10 % 2], str(n // 10)] for n in range(600))
    )
    data = faces(600)
    data = replace(data, labels=np.repeat(np.arange(60) % 3, 10))
    (found,) = group_report(
        measured(data, np.repeat(right, 10)), join_groups(ten, data, source, person_column="who")
    ).comparisons
    for group, half in zip(found.groups, (right[::2], right[1::2]), strict=True):
        assert (group.n, group.people) == (300, 30)
        low, high = wilson_interval(int(half.sum()), 30)
        assert group.accuracy_ci95 == pytest.approx((low, high), abs=0.01)
        assert group.macro_f1_ci95[1] - group.macro_f1_ci95[0] > 0.25


def test_who_nobody_names_is_nobody_else_and_few_people_are_too_few(tmp_path, source):
    assert numbered(["x", None, "y", None, "x"]).tolist() == [0, 2, 1, 3, 0]
    rows = [[str(n), "many" if n < 40 else "few", "" if n < 40 else str(n % 9)] for n in range(140)]
    data = faces(140)
    table = join_groups(write(tmp_path / "t.csv", ["row", "g", "who"], *rows), data, source, person_column="who")
    assert table.select(np.arange(140) > 99).people == tuple(str(n % 9) for n in range(100, 140))
    (found,) = group_report(measured(data, np.arange(140) % 2 > 0), table).comparisons
    assert [(one.name, one.people, one.small) for one in found.groups] == [("few", 9, True), ("many", 40, False)]
    assert verdict(found).endswith("Too few for any conclusion (below 30 faces or 10 people): few.")
    with pytest.raises(UsageError, match="no column 'nobody'"):
        join_groups(tmp_path / "t.csv", data, source, person_column="nobody")


def test_the_interval_of_the_widest_gap_leaves_out_nothing_as_rarely_as_the_test_alarms(monkeypatch):
    """Chosen among 45 pairs, an interval of one pair alone leaves out 0 in most tries."""
    monkeypatch.setattr("ferkit.evaluation.group_statistics._DRAWS", 400)
    rng = np.random.default_rng(2)
    counts, names = np.full((10, 1), 100), [str(number) for number in range(10)]
    found = [Faces(rng.binomial(100, 0.7, (10, 1)), counts).widest_gap(names, np.ones(1), rng) for _ in range(300)]
    leaves_out = sum(gap.difference_ci95[0] > 0 for gap in found)
    alarms = sum(gap.p < LEVEL for gap in found)
    assert abs(leaves_out - alarms) <= 3
    assert leaves_out < 0.08 * len(found)


def test_a_group_that_differs_lends_its_small_errors_to_no_other_pair():
    """Two groups of 100 that differ by chance, beside 10,000 faces of which nearly all are right."""
    counts, right = np.array([[100], [100], [10_000]]), np.array([[55], [45], [9_900]])
    p, _critical = Faces(right, counts).gap_test(np.ones(1), np.random.default_rng(0))
    gap = Faces(right, counts).widest_gap("abc", np.ones(1), np.random.default_rng(0))
    assert p[0] < LEVEL, "what pooled errors make of it"
    assert (gap.better, gap.worse, gap.significant) == ("c", "b", True)
    low, high = gap.difference_ci95
    assert high - low > 0.2, "45 of 100 alone are 35 to 55 %"


@pytest.mark.parametrize("right", [pytest.param(40, id="all right"), pytest.param(0, id="none right")])
def test_groups_without_a_mistake_are_not_known_exactly(right):
    gap = Faces(np.full((2, 1), right), np.full((2, 1), 40)).widest_gap("ab", np.ones(1), np.random.default_rng(0))
    assert (gap.difference, gap.significant) == (0, False)
    low, high = gap.difference_ci95
    assert low < -0.02
    assert gap.detectable > high


def test_the_order_of_p_values_is_that_of_the_pairs():
    counts = np.array([[200], [200], [200]])
    right = np.array([[150], [148], [90]])
    p, critical = Faces(right, counts).gap_test(np.ones(1), np.random.default_rng(0))
    by_pair = dict(zip(itertools.combinations("abc", 2), p, strict=True))
    assert by_pair["a", "b"] > 0.5
    assert by_pair["a", "c"] < 0.001 > by_pair["b", "c"]
    assert 2.1 < critical < 2.6, "Tukey's 95 % quantile for three groups is 2.34"


@pytest.mark.slow
def test_the_page_and_the_json_carry_the_groups(tmp_path, source):
    evil = "<b>a"
    found = report_on(tmp_path, source, [evil, "b"] * 40, np.arange(80) % 3 > 0)
    report = replace(measured(faces(80), np.arange(80) % 3 > 0), parts=(found,))
    page = write_report(report, tmp_path / "page")
    text = page.read_text()
    assert "Performance by group" in text
    assert evil not in text
    assert "never infers them from a face" in text
    column = json.loads((tmp_path / "page" / "report.json").read_text())["groups"]["columns"]["g"]
    assert column["groups"]["b"]["n"] == 40
    assert column["gap"]["p"] > LEVEL
    assert (tmp_path / "page" / "figures" / "groups-1-g.png").is_file()


@pytest.mark.slow
def test_columns_and_groups_in_any_script(tmp_path, source, monkeypatch):
    """Files do not take each other's place, and names that no font has are told apart by their row."""
    labels = []

    def save(figure, path):
        labels.append([label.get_text() for label in figure.axes[0].get_yticklabels()])
        style.save(figure, path)

    monkeypatch.setattr("ferkit.evaluation.comparison_figures.save", save)
    monkeypatch.setattr(style, "_further_fonts", lambda: ())
    header = ["row", "\u6027\u522b", "\u5e74\u9f84", "age band", "age-band"]
    rows = [[str(row), *["\u7537\u5973"[row % 2]] * 4] for row in range(80)]
    rows[0][3] = "alone"
    data = faces(80)
    table = join_groups(write(tmp_path / "t.csv", header, *rows), data, source)
    found = group_report(measured(data, np.arange(80) % 3 > 0), table)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = to_html(Document("t", "", (found.section(),)), tmp_path)
    assert len(list(tmp_path.glob("groups-*.png"))) == 2 * 4
    assert labels[0] == ["row 1\n40 faces", "row 2\n40 faces"]
    assert "alone\n1 face: too few" in labels[4]
    assert "<h3>By \u6027\u522b</h3>" in text
