"""Splits, duplicates, votes and the cache."""

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from dataset_files import EMOTION_FOLDERS, pictures, png, random_faces, row, rows_of, write_csv, write_tree
from ferkit.data import cache, loading
from ferkit.data.loading import load_dataset
from ferkit.data.splits import hold_out, may_share_faces
from ferkit.errors import DatasetError, UsageError
from ferkit.labels import EMOTIONS
from ferkit.training.run_folder import about

A, B, C, D = random_faces(4, 6)
# label, face, usage: A leaks under another label, B repeats in training, C repeats in PublicTest.
REPEATING = [
    row(A, 0),
    row(B, 1),
    row(B, 1),
    row(D, 2),
    row(A, 2, "PublicTest"),
    row(C, 3, "PublicTest"),
    row(C, 3, "PublicTest"),
    row(B, 1, "PrivateTest"),
    row(C, 3, "PrivateTest"),
]


@pytest.fixture
def repeating(tmp_path):
    return write_csv(tmp_path / "faces.csv", REPEATING)


def test_duplicates_and_conflicts_are_found(repeating):
    dataset = load_dataset(repeating)
    assert dataset.findings is not None
    assert dataset.findings.within == {"Training": 1, "PublicTest": 1, "PrivateTest": 0}
    assert dataset.findings.across == {
        ("Training", "PublicTest"): 1,
        ("Training", "PrivateTest"): 1,
        ("PublicTest", "PrivateTest"): 1,
    }
    assert dataset.findings.redundant == 5
    assert dataset.findings.conflicts == [[("Training", "angry"), ("PublicTest", "fear")]]
    marks = {name: one.duplicate.tolist() for name, one in dataset.splits.items()}
    assert marks == {"Training": [0, 0, 1, 0], "PublicTest": [1, 0, 1], "PrivateTest": [1, 1]}


def test_dropping_duplicates_leaves_no_leak_and_no_repeat_in_training(repeating):
    dataset = load_dataset(repeating, drop_duplicates=True)
    assert np.array_equal(dataset.train.images, D[None])
    assert len(dataset.val) == 3
    assert dataset.val.duplicate is not None
    assert dataset.val.duplicate.tolist() == [False, False, True]
    assert "Dropped 3 duplicates from Training: 3 that are also in a held-out split, 0 that repeat" in " ".join(
        dataset.notes
    )


def test_random_split_is_stratified_repeatable_and_keeps_copies_together(tmp_path):
    rows = rows_of(70, 6)
    path = write_csv(tmp_path / "faces.csv", rows + rows)
    dataset = load_dataset(path, split="random")
    assert {name: len(one) for name, one in dataset.splits.items()} == {"train": 112, "val": 28}
    assert set(dataset.val.counts.values()) == {4}
    assert "Copies of a face stay together (70 repeat an earlier face)" in " ".join(dataset.notes)
    assert dataset.findings.across == {}
    assert load_dataset(path, split="random").fingerprint == dataset.fingerprint
    assert load_dataset(path, split="random", seed=1).fingerprint != dataset.fingerprint


@pytest.mark.parametrize(
    ("labels", "share", "held_out"),
    [
        pytest.param([0] * 10 + [1] * 5, 0.2, [2, 1], id="in proportion"),
        pytest.param([0] * 10 + [1] * 2, 0.1, [1, 1], id="at least one"),
        pytest.param([0] * 10 + [1], 0.2, [2, 0], id="one face stays in training"),
        pytest.param([0] * 2 + [1] * 2, 0.9, [1, 1], id="never all"),
    ],
)
@pytest.mark.parametrize("copies", [1, 3])
def test_held_out_faces(labels, share, held_out, copies):
    labels = np.array(labels * copies)
    prints = np.arange(len(labels)) % (len(labels) // copies)
    out = hold_out(prints.astype(np.uint64), labels, share, 42)
    assert np.bincount(labels[out], minlength=2).tolist() == [copies * one for one in held_out]
    assert set(prints[out]).isdisjoint(prints[~out])


TWICE = [
    pytest.param({"": 12}, {}, id="no splits"),
    pytest.param({"": 12}, {"split": "random"}, id="random"),
    pytest.param({"train": 12}, {}, id="training alone"),
    pytest.param({"train": 12, "test": 4}, {}, id="no validation"),
    pytest.param({"train": 12, "val": 4, "test": 4}, {"split": "random"}, id="published, drawn anew"),
]


@pytest.mark.parametrize(("splits", "options"), TWICE)
@pytest.mark.parametrize("form", ["folders", "csv"])
def test_copies_stay_together_in_every_split(splits, options, form, tmp_path):
    """Every face stands there twice, once under another label; no split that is drawn here tears the two apart."""
    usages = {"": "", "train": "Training", "val": "PublicTest", "test": "PrivateTest"}
    faces = iter(random_faces(7 * sum(splits.values()), 8))
    every = [(next(faces), label, split) for split, n in splits.items() for label in range(7) for _ in range(n)]
    every = [
        (face, (label + (copy and n % 5 == 0)) % 7, split)
        for copy in (0, 1)
        for n, (face, label, split) in enumerate(every)
    ]
    if form == "folders":
        names = [
            f"{split + '/' if split else ''}{EMOTION_FOLDERS[label]}/{n}.png"
            for n, (_, label, split) in enumerate(every)
        ]
        path = write_tree(tmp_path / "f", {name: png(face) for name, (face, _, _) in zip(names, every, strict=True)})
    elif splits == {"": 12}:
        rows = [row(face, label).rpartition(",")[0] for face, label, _ in every]
        path = write_csv(tmp_path / "f.csv", rows, header="emotion,pixels")
    else:
        path = write_csv(tmp_path / "f.csv", [row(face, label, usages[split]) for face, label, split in every])
    dataset = load_dataset(path, **options)
    assert dataset.findings.across == {}
    assert sum(map(len, dataset.splits.values())) == len(every)
    assert len(dataset.val) > 0
    assert set(dataset.train.labels) == set(range(7))


@pytest.mark.parametrize(
    ("trained", "used", "may"),
    [
        pytest.param({"split": "random"}, {"split": "random"}, False, id="same split"),
        pytest.param({"split": "random"}, {"split": "random", "size": (24, 24)}, False, id="in another size"),
        pytest.param({"split": "random"}, {"split": "random", "drop_duplicates": True}, False, id="without duplicates"),
        pytest.param({"split": "random"}, {"split": "random", "seed": 1}, True, id="another seed"),
        pytest.param({"split": "random"}, {}, True, id="published"),
        pytest.param({}, {"size": (24, 24)}, False, id="both published"),
    ],
)
def test_a_split_says_whether_it_may_have_been_learnt(trained, used, may, tmp_path):
    path = write_csv(tmp_path / "f.csv", 2 * rows_of(42))
    first, second = load_dataset(path, **trained), load_dataset(path, **used)
    written = json.loads(json.dumps(about(first)))
    assert written["split_by"]["split"] == trained.get("split", "official")
    assert may_share_faces(written, second) == may


@pytest.mark.parametrize(
    ("usages", "splits", "note"),
    [
        pytest.param("TTPPRR", {"Training": 2, "PublicTest": 2, "PrivateTest": 2}, "", id="complete"),
        pytest.param("TTTTPP", {"Training": 4, "PublicTest": 2}, "There is no PrivateTest", id="no PrivateTest"),
        pytest.param("TTTTTT", {"Training": 4, "val": 2}, "no test split either", id="training only"),
        pytest.param("PPPPPP", {"PublicTest": 6}, "no training split", id="no training"),
    ],
)
def test_official_splits_say_what_is_missing(tmp_path, usages, splits, note):
    names = {"T": "Training", "P": "PublicTest", "R": "PrivateTest"}
    faces = random_faces(6, 6)
    rows = [row(face, i % 2, names[u]) for i, (face, u) in enumerate(zip(faces, usages, strict=True))]
    dataset = load_dataset(write_csv(tmp_path / "faces.csv", rows))
    assert {name: len(one) for name, one in dataset.splits.items()} == splits
    assert note in " ".join(dataset.notes)
    if "T" not in usages:
        with pytest.raises(DatasetError, match=r"has no split 'train'\. It has: PublicTest \(or val\), all\."):
            _ = dataset.train
    with pytest.raises(UsageError, match=r"Unknown split 'holiday'\. Choices: Training \(or train\)"):
        dataset.split("holiday")


VOTES = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"


def votes_file(folder, rows):
    path = folder / "votes.csv"
    path.write_text("\n".join([VOTES, *rows]) + "\n")
    return path


def test_votes_become_soft_targets(tmp_path):
    faces = random_faces(4, 6)
    data = write_csv(tmp_path / "f.csv", [row(faces[0], 3), row(faces[1], 9), row(faces[2], 4), row(faces[3], 6)])
    rows = [
        "Training,a,2,6,0,0,2,0,0,0,0,0",
        "Training,b,0,9,0,0,0,0,0,0,0,0",
        "Training,c,0,0,0,0,0,0,0,5,3,2",  # contempt, unknown and NF only: the label stays
        "Training,d,5,0,0,0,0,0,0,4,1,0",
        "PrivateTest,e,9,0,0,0,0,0,0,0,0,0",  # a row of a split that the data does not have
    ]
    dataset = load_dataset(data, votes=votes_file(tmp_path, rows), skip_broken=True)
    votes = dataset.split("all").votes
    assert votes is not None
    assert votes.dtype == np.float32
    order = np.argsort(dataset.split("all").labels)  # happy, sad, neutral
    expected = [[0.2, 0, 0, 0.6, 0, 0, 0.2], [0, 0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0, 1]]
    np.testing.assert_allclose(votes[order], expected, rtol=1e-6)
    assert "1 faces have no vote" in " ".join(dataset.notes)


@pytest.mark.parametrize(
    ("votes", "label"),
    [
        pytest.param("0,6,0,0,4,0,0,0,0,0", "happy", id="more than half"),
        pytest.param("0,5,0,0,5,0,0,0,0,0", None, id="half is no majority"),
        pytest.param("0,4,1,1,1,1,0,1,1,0", "happy", id="single votes do not count"),
        pytest.param("2,0,0,0,0,0,0,8,0,0", "contempt", id="contempt"),
        pytest.param("0,4,0,0,0,0,0,0,6,0", None, id="unknown"),
        pytest.param("0,4,0,0,0,0,0,0,0,6", None, id="not a face"),
        pytest.param("1,1,1,1,1,1,1,1,1,1", None, id="single votes alone"),
    ],
)
def test_ferplus_labels_are_the_majority_of_eight(tmp_path, votes, label):
    faces = random_faces(2, 6)
    data = write_csv(tmp_path / "f.csv", [row(faces[0], 4, "Training"), row(faces[1], 4, "PublicTest")])
    rows = [f"Training,a,{votes}", "PublicTest,b,10,0,0,0,0,0,0,0,0,0"]
    file = votes_file(tmp_path, rows)
    if label is None:
        dataset = load_dataset(data, votes=file, truth="ferplus")
        assert len(dataset.train) == 0
        assert "1 of 2 faces without a majority" in " ".join(dataset.notes)
        return
    dataset = load_dataset(data, votes=file, truth="ferplus")
    (only,) = dataset.train.labels
    assert dataset.classes == (*EMOTIONS, "contempt")
    assert (dataset.classes[only], dataset.train.truth) == (label, "ferplus")
    assert dataset.train.votes[0].argmax() == only
    np.testing.assert_allclose(dataset.train.votes.sum(axis=1), 1, rtol=1e-6)
    assert dataset.fingerprint != load_dataset(data, votes=file).fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"truth": "ferplus"}, "add --votes FILE", id="no votes"),
        pytest.param({"truth": "votes"}, "must be labels or ferplus", id="unknown"),
    ],
)
def test_a_truth_that_cannot_be_is_refused(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        load_dataset(tmp_path / "none.csv", **options)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param(["Training,a" + ",1" * 10] * 2, "2 rows of votes", id="too few"),
        pytest.param(["Training,a" + ",1" * 10] * 4, "4 rows of votes", id="too many of the same split"),
        pytest.param(["PublicTest,a" + ",1" * 10] * 3, "row 2: Usage is PublicTest", id="another order"),
        pytest.param(["Training,a" + ",x" * 10] * 3, "row 2: .* is not a row of votes", id="letters"),
        pytest.param(["Training,a" + ",-1" * 10] * 3, "must be numbers from 0 up", id="negative"),
    ],
)
def test_votes_that_do_not_belong_are_refused(tmp_path, rows, message):
    data = write_csv(tmp_path / "f.csv", rows_of(3, heldout_from=3))
    with pytest.raises(DatasetError, match=message):
        load_dataset(data, votes=votes_file(tmp_path, rows))


def test_votes_need_the_csv_and_its_columns(tmp_path):
    folder = write_tree(tmp_path / "folder", pictures({"angry": 2, "sad": 2}))
    with pytest.raises(DatasetError, match="joined by row to the FER-2013 CSV"):
        load_dataset(folder, votes=votes_file(tmp_path, []))
    data = write_csv(tmp_path / "f.csv", rows_of(3))
    with pytest.raises(DatasetError, match="has no column for"):
        load_dataset(data, votes=data)
    with pytest.raises(DatasetError, match="There is no"):
        load_dataset(data, votes=tmp_path / "none.csv")


@pytest.fixture
def readings(monkeypatch):
    """Counts how often a source is really read."""
    seen: list[Path] = []
    read = loading.read_source
    monkeypatch.setattr(loading, "read_source", lambda path, shaper: (seen.append(path), read(path, shaper))[1])
    return seen


def entry():
    return next((cache.cache_folder() / "datasets").iterdir())


def test_the_second_load_comes_from_the_cache_memory_mapped(tmp_path, readings):
    path = write_csv(tmp_path / "faces.csv", rows_of(9))
    first, again = load_dataset(path), load_dataset(path)
    moved = load_dataset(path.rename(tmp_path / "moved.csv"), size=(48, 48))
    assert len(readings) == 1
    assert first.fingerprint == again.fingerprint == moved.fingerprint
    assert isinstance(again.train.images.base.base, np.memmap) or isinstance(again.train.images.base, np.memmap)
    assert not again.train.images.flags.writeable


def test_another_content_is_another_entry(tmp_path, readings):
    path = write_csv(tmp_path / "faces.csv", rows_of(9))
    before = load_dataset(path).fingerprint
    write_csv(path, rows_of(9, seed=1))
    assert load_dataset(path).fingerprint != before
    assert len(readings) == 2


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda: (entry() / "meta.json").unlink(), id="no meta"),
        pytest.param(lambda: (entry() / "meta.json").write_text("{"), id="half a meta"),
        pytest.param(lambda: (entry() / "meta.json").write_text(json.dumps({"faces": 9})), id="other meta"),
        pytest.param(lambda: (entry() / "images.npy").write_bytes(b""), id="empty images"),
        pytest.param(
            lambda: (entry() / "images.npy").write_bytes((entry() / "images.npy").read_bytes()[:-1]), id="cut images"
        ),
        pytest.param(
            lambda: (entry() / "images.npy").write_bytes((entry() / "images.npy").read_bytes()[:-1] + b"\0"),
            id="one pixel changed",
        ),
        pytest.param(lambda: (entry() / "table.npz").write_bytes(b"PK"), id="broken table"),
    ],
)
def test_a_broken_cache_is_made_again(tmp_path, damage, readings):
    path = write_csv(tmp_path / "faces.csv", rows_of(9))
    before = load_dataset(path).fingerprint
    damage()
    assert load_dataset(path).fingerprint == before
    assert load_dataset(path).fingerprint == before
    assert len(readings) == 2


def test_an_unwritable_cache_costs_speed_and_a_note_only(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("FERKIT_CACHE", str(tmp_path / "file"))
    dataset = load_dataset(write_csv(tmp_path / "faces.csv", rows_of(9)))
    assert np.array_equal(dataset.split("all").images, random_faces(9))
    assert "FERKIT_CACHE" in " ".join(dataset.notes)


def _fingerprint(path: Path) -> str:
    return load_dataset(path).fingerprint


def test_two_processes_may_load_the_same_set_at_once(tmp_path):
    path = write_csv(tmp_path / "faces.csv", rows_of(60))
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        prints = pool.map(_fingerprint, [path] * 6, chunksize=1)
    assert set(prints) == {load_dataset(path).fingerprint}
    assert sorted(one.name for one in entry().iterdir()) == ["images.npy", "meta.json", "table.npz"]


def test_a_changed_folder_is_read_again(tmp_path, readings):
    folder = write_tree(tmp_path / "data", pictures({"cats": 3, "dogs": 3}))
    load_dataset(folder)
    write_tree(folder, pictures({"birds": 3}))
    assert load_dataset(folder).classes == ("birds", "cats", "dogs")
    assert len(readings) == 2


@pytest.mark.shared
def test_the_published_votes_join(shared):
    data = shared / "data"
    dataset = load_dataset(data / "fer2013.csv.gz", votes=data / "ferplus_votes.csv", drop_duplicates=True)
    assert dataset.train.votes is not None
    np.testing.assert_allclose(dataset.train.votes.sum(axis=1), 1, rtol=1e-5)
    assert "162 faces have no vote" in " ".join(dataset.notes)
    assert "Dropped 1,506 duplicates from Training: 351 that are also" in " ".join(dataset.notes)
    ferplus = load_dataset(data / "fer2013.csv.gz", votes=data / "ferplus_votes.csv", truth="ferplus")
    assert {name: len(faces) for name, faces in ferplus.splits.items()} == {"Training": 25_060, "PublicTest": 3_199}
