"""Folders, archives and Parquet: recognised by content, laid out in any usual way, refused when hostile."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dataset_files import (
    EMOTION_FOLDERS,
    fer_tree,
    pictures,
    png,
    random_faces,
    rows_of,
    write_csv,
    write_tar,
    write_tree,
    write_zip,
)
from ferkit._support.registry import describe
from ferkit.data.loading import load_dataset
from ferkit.data.readers import READERS
from ferkit.errors import DatasetError, UsageError
from ferkit.labels import EMOTIONS

JUNK = {"__MACOSX/train/angry/._0.png": b"junk", "train/angry/.DS_Store": b"junk", "train/sad/Thumbs.db": b"junk"}


def counts(dataset):
    return {name: len(one) for name, one in dataset.splits.items()}


LAYOUTS = [
    pytest.param(fer_tree(10), {"train": 63, "val": 7, "test": 70}, id="train test"),
    pytest.param({**fer_tree(3), **JUNK}, {"train": 14, "val": 7, "test": 21}, id="junk"),
    pytest.param({f"top/{k}": v for k, v in fer_tree(3).items()}, {"train": 14, "val": 7, "test": 21}, id="one top"),
    pytest.param(fer_tree(3, ("train", "validation")), {"train": 21, "val": 21}, id="train validation"),
    pytest.param(fer_tree(2, ("Train", "val", "TEST")), {"train": 14, "val": 14, "test": 14}, id="three splits"),
    pytest.param(pictures({"cats": 10, "dogs": 5}), {"train": 12, "val": 3}, id="own classes"),
    pytest.param(pictures({"a/b/cats/x": 10, "a/b/dogs": 5}), {"train": 12, "val": 3}, id="folders within a class"),
    pytest.param(
        {**fer_tree(3), "sample.png": png(random_faces(1)[0])}, {"train": 14, "val": 7, "test": 21}, id="loose"
    ),
    pytest.param(
        {**fer_tree(3), **{f"images/{k}": v for k, v in fer_tree(3).items()}},
        {"train": 14, "val": 7, "test": 21},
        id="a copy of itself inside",
    ),
    pytest.param(
        {
            **pictures({"train/sad": 3, "train/fear": 3}, prefix="Training_"),
            **pictures({"test/sad": 2, "test/fear": 2}, prefix="PublicTest_"),
            **pictures({"test/sad": 1, "test/fear": 1}, prefix="PrivateTest_"),
        },
        {"Training": 6, "PublicTest": 4, "PrivateTest": 2},
        id="FER-2013 names",
    ),
]


def _moved(*pairs, classes=("angry", "happy", "sad", "fear", "neutral"), n=3):
    """Two folders of each class, as the patterns say: `{}` stands for the class."""
    return pictures({pattern.format(name): n for pattern in pairs for name in classes}, side=8)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(_moved("{}/train", "{}/test"), {"train": 10, "val": 5, "test": 15}, id="class first"),
        pytest.param(
            _moved("a/{}/Training/x", "a/{}/Val/y", "a/{}/test_set"),
            {"train": 15, "val": 15, "test": 15},
            id="class first, folders below",
        ),
        pytest.param(
            _moved("{}/train", "{}/test", classes=("cats", "dogs")),
            {"train": 4, "val": 2, "test": 6},
            id="class first, own",
        ),
        pytest.param(_moved("train/train/{}", "test/test/{}"), {"train": 10, "val": 5, "test": 15}, id="doubled"),
        pytest.param(
            _moved("train/train_images/{}", "val/images_val/{}"), {"train": 15, "val": 15}, id="doubled, other names"
        ),
        pytest.param(_moved("train/img/{}", "test/img/{}"), {"train": 10, "val": 5, "test": 15}, id="a level between"),
        pytest.param(_moved("FER2013Train/{}", "FER2013Valid/{}"), {"train": 15, "val": 15}, id="FER+ names"),
        pytest.param(_moved("train_set/{}", "test_set/{}"), {"train": 10, "val": 5, "test": 15}, id="sets"),
        pytest.param(_moved("acme_train/{}", "acme_val/{}"), {"train": 15, "val": 15}, id="another word beside"),
        pytest.param(_moved("Trainingsdaten/{}", "Validierungsdaten/{}"), {"train": 15, "val": 15}, id="German"),
        pytest.param(_moved("entraînement/{}", "validation/{}"), {"train": 15, "val": 15}, id="French"),
        pytest.param(_moved("entrai\u0302nement/{}", "validation/{}"), {"train": 15, "val": 15}, id="accents apart"),
        pytest.param(_moved("eğitim/{}", "doğrulama/{}"), {"train": 15, "val": 15}, id="Turkish"),
        pytest.param(_moved("训练集/{}", "验证集/{}"), {"train": 15, "val": 15}, id="Chinese"),
        pytest.param(_moved("обучение/{}", "валидация/{}"), {"train": 15, "val": 15}, id="Russian"),
        pytest.param(_moved("training_data/train/{}", "training_data/val/{}"), {"train": 15, "val": 15}, id="outer"),
        pytest.param(_moved("p1/train/{}", "p2/val/{}"), {"train": 15, "val": 15}, id="each split elsewhere"),
    ],
)
def test_splits_are_known_wherever_they_stand(tmp_path, files, expected):
    dataset = load_dataset(write_tree(tmp_path, files))
    assert counts(dataset) == expected
    assert set(dataset.classes) <= {*EMOTION_FOLDERS, "cats", "dogs"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param(
            {"FER2013Train/a.png": b"", "FER2013Valid/b.png": b""}, r"no folder per class\. Expected <class>", id="FER+"
        ),
        pytest.param({"train_set/a.png": b"", "test_set/b.png": b""}, "no folder per class", id="sets"),
        pytest.param({"train_happy/a.png": b"", "test_happy/b.png": b""}, "no folder per class", id="split and class"),
        pytest.param(
            {"happy/a.png": b"", "sad/b.png": b"", "test/c.png": b""}, r"splits \(test\) that hold", id="beside"
        ),
        pytest.param(
            _moved("koulutus/{}", "testaus/{}"), r"emotions \(angry, .*\) below koulutus, testaus", id="Finnish"
        ),
        pytest.param(_moved("fold1/train/{}", "fold1/test/{}", "fold2/train/{}"), r"\(fold1, fold2\)", id="folds"),
        pytest.param(_moved("train/{}", "test/train/{}"), "test/train/angry, which names two splits", id="two splits"),
        pytest.param(_moved("train/{}/a", "train/{}/test", "val/{}"), "names two splits", id="a split within a class"),
    ],
)
def test_a_split_is_never_a_class(tmp_path, files, message):
    with pytest.raises(DatasetError, match=message) as error:
        load_dataset(write_tree(tmp_path, files))
    assert "\n" not in str(error.value)
    assert "Expected <class>/<picture>, or train/<class>/<picture>" in str(error.value)


@pytest.mark.parametrize(
    ("folders", "classes", "note"),
    [
        pytest.param(("calm", "happy"), ("happy", "neutral"), "calm as neutral", id="alias"),
        pytest.param(("0_angry", "3-happy"), ("angry", "happy"), "0_angry as angry, 3-happy as happy", id="numbered"),
        pytest.param(("happy1", "sad 2"), ("happy", "sad"), "happy1 as happy", id="number behind"),
        pytest.param(("0_angry", "1_bored"), ("0_angry", "1_bored"), "with numbers are kept", id="numbered, own"),
        pytest.param(("0", "1", "6"), ("0", "1", "6"), "0 angry, 1 disgust", id="FER-2013's numbers"),
        pytest.param(("1", "7"), ("1", "7"), "data sets number emotions in different orders", id="RAF-DB's numbers"),
        pytest.param(("Cats", "dogs"), ("cats", "dogs"), "Cats as cats", id="lower case"),
    ],
)
def test_a_note_says_how_names_of_classes_are_taken(tmp_path, folders, classes, note):
    dataset = load_dataset(write_tree(tmp_path, pictures(dict.fromkeys(folders, 2), 8)))
    assert dataset.classes == classes
    assert note in " ".join(dataset.notes)


def test_plain_names_of_emotions_need_no_note(tmp_path):
    dataset = load_dataset(write_tree(tmp_path, pictures({"Happy": 2, "sad": 2, "contempt": 2}, 8)))
    assert not any("Class names" in note for note in dataset.notes)


@pytest.mark.parametrize(("files", "expected"), LAYOUTS)
@pytest.mark.parametrize("pack", ["folder", "data.zip", "data.tar", "data.tar.gz"])
def test_every_layout_in_every_wrapping(tmp_path, files, expected, pack):
    path = tmp_path / pack
    {"folder": write_tree, "data.zip": write_zip}.get(pack, write_tar)(path, files)
    assert counts(load_dataset(path)) == expected


def test_pictures_keep_pixels_labels_and_class_order(tmp_path):
    faces = random_faces(4)
    names = ("train/Happiness/a.png", "train/anger/b.png", "val/Happiness/a.png", "val/anger/b.png")
    dataset = load_dataset(write_tree(tmp_path, {n: png(f) for n, f in zip(names, faces, strict=True)}))
    assert dataset.classes == ("angry", "happy")
    assert np.array_equal(dataset.val.images[dataset.val.labels == 1], faces[2:3])
    assert np.array_equal(dataset.train.images[dataset.train.labels == 0], faces[1:2])


@pytest.mark.parametrize(
    ("sides", "size", "channels", "shape", "note"),
    [
        pytest.param((48, 48), None, None, (48, 48, 1), "", id="as they are"),
        pytest.param((64, 64), None, None, (64, 64, 1), "", id="their own shared size"),
        pytest.param((64, 40), None, None, (48, 48, 1), "resized to 48x48", id="mixed sizes"),
        pytest.param((300, 300), None, None, (48, 48, 1), "resized to 48x48", id="photographs"),
        pytest.param((64, 64), (20, 30), 3, (20, 30, 3), "resized to 30x20", id="asked for"),
    ],
)
def test_size_is_chosen_and_said(tmp_path, sides, size, channels, shape, note):
    files = {**pictures({"cats": 2}, sides[0]), **pictures({"dogs": 2}, sides[1])}
    dataset = load_dataset(write_tree(tmp_path, files), size=size, channels=channels)
    assert dataset.train.images.shape[1:] == shape
    assert (note in " ".join(dataset.notes)) if note else not any("resized" in one for one in dataset.notes)


def test_colour_pictures_turn_gray_and_it_is_said(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    write_tree(tmp_path, {**pictures({"cats": 2, "dogs": 2}), "dogs/red.png": png(colour)})
    assert any("turned gray" in note for note in load_dataset(tmp_path).notes)
    assert not any("turned gray" in note for note in load_dataset(tmp_path, channels=3).notes)


THREE = {f"{split}/{name}": 2 for split in ("train", "test") for name in ("angry", "happy", "sad")}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param(pictures({**THREE, "train/misc": 2}), "class folder 'misc' in train only", id="stray"),
        pytest.param(pictures({**THREE, "train/hapy": 2, "test/hapy": 2}), "Did you mean 'happy'", id="typo"),
        pytest.param(pictures({**THREE, "test/fear": 2}), "'fear' in test but not in train", id="class only in test"),
        pytest.param(pictures({"cats": 3}), "only one class, 'cats'", id="one class"),
        pytest.param({"a.png": png(random_faces(1)[0])}, "no folder per class", id="no class folders"),
        pytest.param({"readme.txt": b"x"}, "holds no picture", id="no picture"),
        pytest.param({"x.csv": b"a,b\n1,2\n"}, "of no known form", id="another CSV"),
    ],
)
def test_a_layout_that_makes_no_sense_is_one_clear_line(tmp_path, files, message):
    with pytest.raises(DatasetError, match=message) as error:
        load_dataset(write_tree(tmp_path / "data", files))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"not a picture", "not a picture", id="text"),
        pytest.param(b"", "it is empty", id="empty"),
        pytest.param(png(random_faces(1)[0])[:900], "cut off|truncated", id="truncated"),
    ],
)
def test_an_unreadable_picture_is_named(tmp_path, content, reason):
    write_tree(tmp_path, {**pictures({"cats": 3, "dogs": 3}), "cats/9.png": content})
    with pytest.raises(DatasetError, match=f"cats/9.png: .*({reason})"):
        load_dataset(tmp_path)
    dataset = load_dataset(tmp_path, skip_broken=True)
    assert sum(counts(dataset).values()) == 6
    assert [one.where for one in dataset.broken] == ["cats/9.png"]


def test_a_picture_bomb_is_refused_before_it_takes_memory(tmp_path):
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "png")
    write_tree(tmp_path, {**pictures({"cats": 3, "dogs": 3}), "cats/9.png": file.getvalue()})
    assert [one.where for one in load_dataset(tmp_path, skip_broken=True).broken] == ["cats/9.png"]


@pytest.mark.parametrize("name", ["../x.png", "a/../../x.png", "/etc/x.png", "C:/x.png", "..\\x.png"])
@pytest.mark.parametrize("pack", ["evil.zip", "evil.tar", "evil.tar.gz"])
def test_an_archive_that_points_outside_is_refused(tmp_path, name, pack):
    write = write_zip if pack.endswith("zip") else write_tar
    path = write(tmp_path / pack, {**pictures({"cats": 2, "dogs": 2}), name: b"x"})
    with pytest.raises(DatasetError, match="is rejected: its member"):
        load_dataset(path)


def test_links_in_an_archive_are_ignored(tmp_path):
    path = write_tar(tmp_path / "a.tar", pictures({"cats": 2, "dogs": 2}), links=["cats/passwd.png"])
    assert sum(counts(load_dataset(path)).values()) == 4


def test_what_is_taken_together_and_what_is_left_out_is_said(tmp_path):
    files = {f"{split}/{one}": data for split in ("train", "augmented_train", "test")
             for one, data in pictures({"happy": 2, "sad": 2}, prefix=split).items()}  # fmt: skip
    dataset = load_dataset(write_tree(tmp_path, {**files, "train/sad/a.mp4": b"x", "train/sad/notes.txt": b"x"}))
    said = " ".join(dataset.notes)
    assert "augmented_train, train are read together as train." in said
    assert "Left out: 1 video (for: ferkit video)." in said


def test_a_huge_member_is_left_out_by_its_size(tmp_path):
    path = write_zip(tmp_path / "a.zip", {**pictures({"cats": 2, "dogs": 2}), "cats/9.png": bytes(65 << 20)})
    broken = load_dataset(path, skip_broken=True).broken
    assert [one.where for one in broken] == ["cats/9.png"]
    assert "expected at most" in broken[0].reason


@pytest.mark.parametrize("pack", ["data.zip", "data.tar.gz"])
def test_a_damaged_archive_is_one_clear_line(tmp_path, pack):
    path = (write_zip if pack.endswith("zip") else write_tar)(tmp_path / pack, fer_tree(3))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DatasetError, match=f"{pack} is cut off") as error:
        load_dataset(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("pack", ["data.zip", "data.tar", "data.tar.gz", "folder"])
@pytest.mark.parametrize("name", ["fer2013/fer2013.csv", "fer2013.csv.gz"])
def test_a_csv_inside_is_found(tmp_path, pack, name):
    content = write_csv(tmp_path / name.split("/")[-1], rows_of(9)).read_bytes()
    files = {name: content, "fer2013/README": b"about", "__MACOSX/fer2013.csv": b"junk"}
    path = {"data.zip": write_zip, "folder": write_tree}.get(pack, write_tar)(tmp_path / pack, files)
    assert np.array_equal(load_dataset(path).split("all").images, random_faces(9))


def parquet(path, images, labels, extra=None, names=None):
    table = pa.table({"image": images, "label": labels, **(extra or {})})
    if names:
        info = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


@pytest.mark.parametrize(
    ("labels", "names", "classes", "first"),
    [
        pytest.param([0, 3] * 5, None, EMOTION_FOLDERS, "angry", id="numbers as FER-2013's"),
        pytest.param([0, 1] * 5, ["sad", "Happiness"], ("happy", "sad"), "sad", id="numbers with names"),
        pytest.param(["dog", "cat"] * 5, None, ("cat", "dog"), "dog", id="names"),
    ],
)
@pytest.mark.parametrize("struct", [True, False])
def test_parquet(tmp_path, labels, names, classes, first, struct):
    faces = random_faces(10)
    cells = [{"bytes": png(face), "path": None} if struct else png(face) for face in faces]
    usage = {"usage": ["Training"] * 6 + ["PublicTest"] * 4}
    dataset = load_dataset(parquet(tmp_path / "faces.parquet", cells, labels, usage, names))
    assert counts(dataset) == {"Training": 6, "PublicTest": 4}
    assert dataset.classes == classes
    assert np.array_equal(dataset.split("all").images, faces)
    assert dataset.classes[dataset.train.labels[0]] == first


def test_numbers_in_parquet_that_count_from_1_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="labels from 1 to 7"):
        load_dataset(parquet(tmp_path / "faces.parquet", list(map(png, random_faces(7, 8))), list(range(1, 8))))


def test_changed_names_in_parquet_are_noted(tmp_path):
    dataset = load_dataset(
        parquet(tmp_path / "faces.parquet", list(map(png, random_faces(4, 8))), ["0_calm", "1_happy"] * 2)
    )
    assert dataset.classes == ("happy", "neutral")
    assert any("0_calm as neutral" in note for note in dataset.notes)


def test_parquet_files_that_name_other_classes_know_all_of_them(tmp_path):
    cells = [png(np.full((48, 48, 1), value, np.uint8)) for value in range(6)]
    parquet(tmp_path / "set" / "test.parquet", cells[:2], [0, 1], names=["sad", "happy"])
    parquet(tmp_path / "set" / "train.parquet", cells[2:], [0, 1, 2, 1], names=["happy", "sad", "fear"])
    dataset = load_dataset(tmp_path / "set")
    assert dataset.classes == ("fear", "happy", "sad")
    assert [dataset.classes[label] for label in dataset.test.labels] == ["sad", "happy"]
    found = sorted(dataset.classes[label] for name in ("train", "val") for label in dataset.split(name).labels)
    assert found == ["fear", "happy", "sad", "sad"]


def test_whole_numbers_that_a_data_frame_made_floats_are_labels(tmp_path):
    cells = [png(np.full((48, 48, 1), value, np.uint8)) for value in range(8)]
    dataset = load_dataset(parquet(tmp_path / "faces.parquet", cells, [0.0, 3.0, 6.0, 3.0] * 2), split="random")
    assert dataset.classes == EMOTIONS
    assert sorted(np.concatenate([one.labels for one in dataset.splits.values()])) == [0, 0, 3, 3, 3, 3, 6, 6]


@pytest.mark.parametrize("zipped", [True, False])
def test_parquet_files_named_after_splits(tmp_path, zipped):
    cells = [png(face) for face in random_faces(6)]
    for name in ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"):
        parquet(tmp_path / "set" / name, cells, [0, 1] * 3)
    path = tmp_path / "set"
    if zipped:
        files = {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*.parquet")}
        path = write_zip(tmp_path / "set.zip", files)
    assert counts(load_dataset(path)) == {"train": 4, "val": 2, "test": 6}


@pytest.mark.parametrize(
    ("label", "cell", "reason"),
    [
        pytest.param(9, png(random_faces(1)[0]), "label 9, expected 0 to 6", id="label 9"),
        pytest.param(None, png(random_faces(1)[0]), "label None", id="no label"),
        pytest.param(1, b"junk", "not a picture", id="junk"),
        pytest.param(1, None, "no picture bytes", id="no picture"),
    ],
)
def test_a_broken_parquet_row_is_named(tmp_path, label, cell, reason):
    cells = [*(png(face) for face in random_faces(4)), cell]
    path = parquet(tmp_path / "faces.parquet", cells, [0, 1, 0, 1, label])
    with pytest.raises(DatasetError, match=f"row 5: {reason}"):
        load_dataset(path)


@pytest.mark.parametrize("choice", [{"split": "oficial"}, {"channels": 2}, {"size": (0, 48)}])
def test_wrong_choices_are_usage_errors(tmp_path, choice):
    with pytest.raises(UsageError):
        load_dataset(tmp_path, **choice)


def test_every_reader_describes_itself():
    assert all(describe(reader) for reader in READERS.values())


@pytest.mark.shared
def test_the_published_folders_have_the_csvs_counts(shared):
    dataset = load_dataset(shared / "data" / "fer2013_folders.zip")
    assert counts(dataset) == {"Training": 28_709, "PublicTest": 3_589}
    assert dataset.train.counts["disgust"] == 436
