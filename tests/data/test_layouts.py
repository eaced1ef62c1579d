"""Data sets as they are published: each layout as a small set of its own, read into the same contract."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest
from PIL import Image

import ferkit
from dataset_files import png, random_faces, row, write_csv, write_tree, write_zip
from ferkit.data.loading import load_dataset, places
from ferkit.errors import DatasetError, ImageError

SEVEN = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
EIGHT = (*SEVEN, "contempt")
RAF_DB = ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")
AFFECTNET = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt")
CK_PLUS = ("neutral", "angry", "contempt", "disgust", "fear", "happy", "sad", "surprise")
LETTERS = {"AN": "angry", "DI": "disgust", "HA": "happy", "NE": "neutral", "SA": "sad", "SU": "surprise"}
VOTED = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")

Files = dict[str, bytes]


@dataclass
class Case:
    """A set being made: its files, the class of each picture, and what the terminal must say."""

    files: Files = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)
    people: dict[str, str] = field(default_factory=dict)
    photos: bool = False

    def add(self, path: str, label: str, person: str = "") -> str:
        number = len(self.files)
        self.files[path] = portrait(number) if self.photos else png(random_faces(1, 12, number)[0])
        self.classes[path] = label
        self.people[path] = person
        return path


_PORTRAIT = cv2.resize(np.asarray(Image.open(ferkit.models.sample_picture()).convert("L")), (96, 96))


def portrait(number: int) -> bytes:
    """A person, in a light of its own."""
    return png((_PORTRAIT * (0.5 + number / 200)).clip(0, 255).astype(np.uint8)[..., None])


def text(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def raf_db(folder: str = "aligned", ending: str = "_aligned") -> Case:
    case, lines = Case(photos=not ending), []
    for split in ("train", "test"):
        for number in range(7 if case.photos else 21):
            name = f"{split}_{number:05}"
            case.add(f"basic/Image/{folder}/{name}{ending}.jpg", RAF_DB[number % 7])
            lines.append(f"{name}.jpg {number % 7 + 1}")
    case.files["basic/EmoLabel/list_patition_label.txt"] = text(*lines)
    return case


def raf_db_kaggle() -> Case:
    case = Case()
    for split in ("train", "test"):
        for number in range(21):
            case.add(f"DATASET/{split}/{number % 7 + 1}/{split}_{number:05}_aligned.jpg", RAF_DB[number % 7])
        case.files[f"{split}_labels.csv"] = text(
            "image,label", *(f"{split}_{n:05}_aligned.jpg,{n % 7 + 1}" for n in range(21))
        )
    return case


def affectnet() -> Case:
    case = Case()
    for split in ("train_set", "val_set"):
        for number in range(24):
            case.add(f"{split}/images/{number}.jpg", AFFECTNET[number % 8])
            data = io.BytesIO()
            np.save(data, np.array(str(number % 8)))
            case.files[f"{split}/annotations/{number}_exp.npy"] = data.getvalue()
            case.files[f"{split}/annotations/{number}_val.npy"] = data.getvalue()
    return case


def affectnet_lists() -> Case:
    case = Case(photos=True)
    for split in ("training", "validation"):
        lines = [
            "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
        ]
        for number in range(16):
            path = f"{number % 3}/{split}{number}.jpg"
            case.add(f"Manually_Annotated_Images/{path}", AFFECTNET[number % 8])
            lines.append(f"{path},1,2,90,90,1.5;2.5;3.5,{number % 8},0.1,-0.2")
        case.files[f"Manually_Annotated_file_lists/{split}.csv"] = text(*lines)
    return case


def fer_plus() -> Case:
    case = Case()
    for split in ("Train", "Valid", "Test"):
        lines = []
        for number in range(16):
            name = f"fer{number:07}.png"
            case.add(f"data/FER2013{split}/{name}", VOTED[number % 8])
            votes = [8 if place == number % 8 else place == 9 for place in range(10)]
            lines.append(f'{name},"(0, 0, 48, 48)",{",".join(str(int(vote)) for vote in votes)}')
        case.files[f"data/FER2013{split}/label.csv"] = text(*lines)
    return case


def ck_plus() -> Case:
    case = Case(photos=True)
    for person in range(4):
        for sequence in range(2):
            label = (person + sequence) % 7 + 1
            name = f"S{person:03}_{sequence + 1:03}"
            folder = f"S{person:03}/{sequence + 1:03}"
            for frame, shown in ((1, 0), (3, label), (4, label), (5, label)):
                case.add(f"cohn-kanade-images/{folder}/{name}_{frame:08}.png", CK_PLUS[shown], f"S{person:03}")
            case.files[f"Emotion/{folder}/{name}_00000005_emotion.txt"] = f"   {label}.0000000e+00\n".encode()
    return case


def ck_48() -> Case:
    case = Case()
    folders = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")
    for person in range(10):
        for number, folder in enumerate(folders[person % 3 :]):
            label = ferkit.labels.canonical(folder)
            case.add(f"CK+48/{folder}/S{person:03}_{number:03}_00000011.png", label, f"S{person:03}")
    return case


def jaffe() -> Case:
    case = Case(photos=True)
    for number, person in enumerate(("KA", "KL", "MK")):
        for place, (code, label) in enumerate((LETTERS | {"FE": "fear"}).items()):
            case.add(f"jaffe/{person}.{code}1.{number * 7 + place}.tiff", label, person)
    return case


def kdef() -> Case:
    case = Case(photos=True)
    for person in ("F01", "M01", "M02"):
        for session, angle in (("A", "S"), ("B", "HL")):
            for code, label in (LETTERS | {"AF": "fear"}).items():
                name = f"{session}{person}"
                case.add(f"KDEF/{name}/{name}{code}{angle}.JPG", label, person)
    return case


def listed(
    lines: Callable[[list[tuple[str, str]]], bytes], name: str = "labels.csv", folder: str = ""
) -> Callable[[], Case]:
    def make() -> Case:
        case = Case()
        rows = [(f"{number}.png", SEVEN[number % 7]) for number in range(21)]
        for path, label in rows:
            case.add(f"{folder}{path}", label)
        case.files[name] = lines(rows)
        return case

    return make


def hugging_face() -> Case:
    case = Case()
    for split in ("train", "test"):
        rows = [{"file_name": f"{number}.png", "label": SEVEN[number % 7], "age": 7} for number in range(14)]
        for one in rows:
            case.add(f"{split}/{one['file_name']}", str(one["label"]))
        case.files[f"{split}/metadata.jsonl"] = text(*map(json.dumps, rows))
    return case


def with_people() -> Case:
    case, lines = Case(), ["path;subject;emotion"]
    for number in range(28):
        lines.append(f"faces\\{number}.png;{number % 4};{number % 7}.0")
        case.add(f"faces/{number}.png", SEVEN[number % 7], str(number % 4))
    case.files["list.csv"] = "\n".join(lines).encode("utf-16")
    return case


LAYOUTS = [
    pytest.param(raf_db, "RAF-DB writes its classes as 1 surprise, 2 fear, 3 disgust, 4 happy, 5 sad, 6 angry, 7 neutral.", {"train", "val", "test"}, id="RAF-DB"),
    pytest.param(lambda: raf_db("original", ""), "the original pictures are taken", {"val", "train", "test"}, id="RAF-DB, originals"),
    pytest.param(raf_db_kaggle, "1 surprise, 2 fear", {"train", "val", "test"}, id="RAF-DB, Kaggle"),
    pytest.param(affectnet, "AffectNet writes its classes as 0 neutral, 1 happy, 2 sad", {"train", "val"}, id="AffectNet"),
    pytest.param(affectnet_lists, "0 neutral, 1 happy", {"train", "val"}, id="AffectNet, lists"),
    pytest.param(fer_plus, "FER+: labels are the majority of the votes", {"train", "val", "test"}, id="FER+"),
    pytest.param(ck_plus, "0 neutral, 1 angry, 2 contempt", {"train", "val"}, id="CK+"),
    pytest.param(ck_48, "anger as angry", {"train", "val"}, id="CK+48"),
    pytest.param(jaffe, "AN angry, DI disgust", {"train", "val"}, id="JAFFE"),
    pytest.param(kdef, "AF fear", {"train", "val"}, id="KDEF"),
    pytest.param(listed(lambda rows: text("filename,label", *map(",".join, rows))), "no splits of its own", {"train", "val"}, id="labels.csv"),
    pytest.param(
        listed(lambda rows: text("file_name,label", *(f"img/{name},{SEVEN.index(label)}" for name, label in rows)), "metadata.csv", "img/"),
        "List of pictures: labels are numbers without names, read as FER-2013's: 0 angry",
        {"train", "val"},
        id="metadata.csv of numbers",
    ),
    pytest.param(hugging_face, "no validation split", {"train", "val", "test"}, id="metadata.jsonl"),
    pytest.param(with_people, "names 4 people", {"train", "val"}, id="people, UTF-16"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "said", "splits"), LAYOUTS)
@pytest.mark.parametrize("pack", ["folder", "set.zip"])
def test_a_published_data_set_is_read_as_it_is(tmp_path, make, said, splits, pack):
    case = make()
    path = tmp_path / pack
    (write_tree if pack == "folder" else write_zip)(path, case.files)
    dataset = load_dataset(path)
    assert set(dataset.splits) == splits
    assert said in " ".join(dataset.notes)
    assert set(dataset.classes) == set(case.classes.values())
    assert dataset.classes == tuple(name for name in EIGHT if name in dataset.classes)
    everything = dataset.split("all")
    names = places(path, everything.rows)
    assert sorted(names) == sorted(case.classes)
    assert [dataset.classes[label] for label in everything.labels] == [case.classes[name] for name in names]
    # Nobody who is named stands in two splits.
    people = [{case.people[name] for name in places(path, one.rows)} for one in dataset.splits.values()]
    if any(case.people.values()):
        assert not set.intersection(*people)
        assert "all faces of one stay in one split" in " ".join(dataset.notes)


def _without(name: str, make: Callable[[], Case] = raf_db) -> Files:
    return {path: data for path, data in make().files.items() if not path.endswith(name)}


def _with(path: str, data: bytes, make: Callable[[], Case] = raf_db) -> Files:
    return make().files | {path: data}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        pytest.param(_without("train_00003_aligned.jpg"), "1 listed picture not there, train_00003_aligned.jpg first", id="a picture is missing"),
        pytest.param(_with("basic/x.png", png(random_faces(1, 12, 99)[0])), "1 picture without a label not used, basic/x.png first", id="one too many"),
        pytest.param(
            _with("train_set/annotations/9_exp.npy", affectnet().files["train_set/annotations/0_exp.npy"].replace(b"0\x00\x00\x00", b"9\x00\x00\x00"), affectnet),
            "1 picture of another class left out: 9 (1)",
            id="no expression",
        ),
        pytest.param(
            _with("data/FER2013Test/label.csv", fer_plus().files["data/FER2013Test/label.csv"].replace(b"8,0,0", b"4,0,4", 1), fer_plus),
            "1 picture of another class left out: no majority (1)",
            id="no majority",
        ),
        pytest.param(
            listed(lambda rows: text("filename,label,split", *(f"{name},{label},{'' if n else 'test'}" for n, (name, label) in enumerate(rows))))().files,
            "20 pictures of 21 name no split, so the splits of the others are not used",
            id="some splits",
        ),
        pytest.param(
            listed(lambda rows: text("filename,label,split,subject", *(f"{name},{label},{'test' if n % 3 else 'train'},{min(n, 12)}" for n, (name, label) in enumerate(rows))))().files,
            "List of pictures names 13 people, 1 of them in several of its splits: held-out accuracy is too high",
            id="a person in two splits",
        ),
        pytest.param({f"{SEVEN[n % 7]}/{n}.png": png(random_faces(1, 12, n)[0]) for n in range(14)} | {"a.csv": b"path,label\nelsewhere.png,sad\n", "b.jsonl": b"{", "c.csv": b'image,label\r"'}, "no splits of its own", id="lists of others"),
    ],
)  # fmt: skip
def test_what_is_left_out_is_said(tmp_path, files, said):
    notes = load_dataset(write_tree(tmp_path, files)).notes
    assert said in " ".join(notes)
    assert sum("left out" in note or "not used" in note for note in notes) <= 1, "once"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param(_with("train_set/annotations/9_exp.npy", b"no array", affectnet), "9_exp.npy: no annotation of AffectNet", id="no .npy"),
        pytest.param(
            _with("train_set/annotations/9_exp.npy", affectnet().files["train_set/annotations/0_exp.npy"].replace(b"{", b"{(", 1), affectnet),
            "9_exp.npy: no annotation of AffectNet",
            id="a header that never ends",
        ),
        pytest.param(
            _with("train_set/annotations/9_exp.npy", affectnet().files["train_set/annotations/0_exp.npy"].replace(b"(), ", b"(99999999999,), ", 1), affectnet),
            "expected one value",
            id="a .npy of a terabyte",
        ),
        pytest.param(
            listed(lambda rows: text("filename,label", *(f"{name},{SEVEN.index(label) + 1}" for name, label in rows)))().files,
            "labels from 1 to 7",
            id="numbers from 1",
        ),
        pytest.param(_with("basic/EmoLabel/list_patition_label.txt", text("train_00001.jpg 9", "test_00001.jpg 9")), "holds no picture of its classes", id="numbers of no class"),
    ],
)  # fmt: skip
def test_a_list_that_makes_no_sense_is_one_clear_line(tmp_path, files, message):
    with pytest.raises(DatasetError, match=message) as error:
        load_dataset(write_tree(tmp_path / "set", files))
    assert "\n" not in str(error.value)


def test_a_list_named_by_itself_leads_to_its_folder(tmp_path):
    write_tree(tmp_path, raf_db_kaggle().files)
    with pytest.raises(DatasetError, match=f"is a list of pictures, .*: name their folder, {tmp_path}"):
        load_dataset(tmp_path / "train_labels.csv")


def test_a_photo_without_a_face_is_left_out_and_said(tmp_path):
    case = jaffe()
    case.files["jaffe/KA.HA2.99.tiff"] = png(np.full((96, 96, 1), 128, np.uint8))
    dataset = load_dataset(write_tree(tmp_path, case.files))
    assert len(dataset.split("all")) == len(case.classes)
    assert "1 picture without a face that is found left out, jaffe/KA.HA2.99.tiff first." in dataset.notes


@pytest.mark.parametrize("form", ["number", "name"])
def test_contempt_may_be_the_eighth_class_of_fer_2013(tmp_path, form):
    rows = [row(face, n % 8 if form == "number" else EIGHT[n % 8]) for n, face in enumerate(random_faces(16))]
    dataset = load_dataset(write_csv(tmp_path / "faces.csv", rows))
    assert dataset.classes == EIGHT
    assert sorted(dataset.split("all").labels) == sorted([*range(8)] * 2)
    assert ("Label 7 is read as contempt." in dataset.notes) == (form == "number")


def test_people_stay_in_one_fold(tmp_path):
    faces = load_dataset(write_tree(tmp_path, with_people().files)).split("all")
    fold_of = ferkit.data.assign_folds(faces.inseparable, faces.strata, 2, seed=1)
    assert {len({*fold_of[faces.inseparable == one]}) for one in set(faces.inseparable)} == {1}
    assert sorted(np.bincount(fold_of)) == [14, 14]


@pytest.mark.parametrize("name", ["test.csv", "test.csv.gz"])
@pytest.mark.parametrize("header", ["pixels", "emotion, pixels ,Usage"])
def test_faces_of_a_csv_are_recognised_as_they_are(tmp_path, name, header):
    """As `test.csv` of FER-2013 has them; labels are not looked at, and a broken row costs itself."""
    faces = random_faces(3)
    rows = [row(face, 9) if "," in header else f'"{row(face).split(",")[1]}"' for face in faces]
    path = write_csv(tmp_path / name, [*rows[:2], rows[2].replace(" ", " x", 1)], header)
    recognizer = ferkit.EmotionRecognizer("fer2013-int8", threads=2)
    *found, broken = recognizer(path)
    assert [one.source for one in found] == [f"{path}::0", f"{path}::1"]
    assert "pixel 2 is 'x" in broken.error
    expected = recognizer.classifier.predict_proba(faces[:2])
    assert np.array_equal([list(one.faces[0].probabilities.values()) for one in found], expected)


def test_a_csv_of_other_things_is_no_picture(tmp_path):
    path = write_csv(tmp_path / "a.csv", ["1,2"], "a,b")
    with pytest.raises(ImageError, match="it is a table"):
        ferkit.EmotionRecognizer("fer2013-int8", threads=2)(path)
