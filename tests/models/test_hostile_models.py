"""Models that strangers made: no code runs, no other file is opened, and what makes no sense is refused in one line."""

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from ferkit.errors import ModelError
from ferkit.evaluation.model_card import text_of
from ferkit.models import model_folder
from ferkit.models.classifier import EmotionClassifier
from ferkit.models.inspection import check_unpacked_size, refuse_operators
from ferkit.models.keras_files import open_keras
from ferkit.models.model_files import refuse_code, refuse_data_outside
from onnx_files import network, outside, tiny_onnx

h5py = pytest.importorskip("h5py")

CARD = {"classes": ["a", "b"], "face_input": {"height": 4, "width": 4, "channels": 1}, "temperature": 1.0}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A model folder with a network of three nodes."""
    path = tmp_path / "model"
    path.mkdir()
    (path / "model.onnx").write_bytes(tiny_onnx())
    return path


def load(folder: Path, **changes: object) -> EmotionClassifier:
    """Load it with a card that differs from a good one, whose checksum is right."""
    sums = {"model.onnx": model_folder.sha256(folder / "model.onnx")}
    card = {"sha256": sums, **CARD, **changes}
    (folder / "card.json").write_text(json.dumps({key: value for key, value in card.items() if value is not ...}))
    return EmotionClassifier.load(folder)


def refusal(act, *arguments: object, **named: object) -> str:
    with pytest.raises(ModelError) as refused:
        act(*arguments, **named)
    message = str(refused.value)
    assert message.isprintable()
    assert len(message) < 2100
    return message


def test_the_good_one_loads(folder):
    probabilities = load(folder).predict_proba(np.full((3, 4, 4, 1), 99, np.uint8))
    np.testing.assert_allclose(probabilities, np.full((3, 2), 0.5))


FACES = {"height": 4, "width": 4, "channels": 1}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"classes": []}, "at least two", id="no-classes"),
        pytest.param({"classes": ["a"]}, "at least two", id="one-class"),
        pytest.param({"classes": "ab"}, "at least two", id="classes-as-text"),
        pytest.param({"classes": {"a": 1, "b": 2}}, "at least two", id="classes-as-table"),
        pytest.param({"classes": ["a", 5]}, "at least two", id="a-number-as-class"),
        pytest.param({"classes": ["a", ""]}, "can be shown", id="a-class-without-a-name"),
        pytest.param({"classes": ["a", "b\x1b[2J"]}, "can be shown", id="a-class-that-talks-to-terminals"),
        pytest.param({"classes": ["a", "\ud800"]}, "can be shown", id="a-class-of-half-a-letter"),
        pytest.param({"classes": ["a" * 10**6, "a" * 10**6]}, "different names", id="names-of-a-megabyte"),
        pytest.param({"classes": ...}, "not a ferkit model card", id="classes-missing"),
        pytest.param({"temperature": float("nan")}, "temperature must be", id="temperature-nan"),
        pytest.param({"temperature": float("inf")}, "temperature must be", id="temperature-infinite"),
        pytest.param({"temperature": 1e-300}, "temperature must be", id="temperature-tiny"),
        pytest.param({"temperature": -1}, "temperature must be", id="temperature-negative"),
        pytest.param({"temperature": 10**400}, "not a ferkit model card", id="temperature-beyond-floats"),
        pytest.param({"temperature": "hot"}, "not a ferkit model card", id="temperature-as-text"),
        pytest.param({"temperature": [1]}, "not a ferkit model card", id="temperature-as-list"),
        pytest.param({"pixel_scale": float("nan")}, "pixel_scale", id="scale-nan"),
        pytest.param({"pixel_scale": 0}, "pixel_scale", id="scale-zero"),
        pytest.param({"face_input": []}, "not a ferkit model card", id="face-input-as-list"),
        pytest.param({"face_input": {**FACES, "height": 10**9}}, "at most 4096", id="gigantic-faces"),
        pytest.param({"face_input": {**FACES, "height": 48.0}}, "whole, positive pixels", id="height-as-float"),
        pytest.param({"face_input": {**FACES, "height": True}}, "whole, positive pixels", id="height-as-bool"),
        pytest.param({"face_input": {**FACES, "channels": 1.0}}, "1 or 3 channels", id="channels-as-float"),
        pytest.param({"face_input": {**FACES, "channels": 4}}, "1 or 3 channels", id="four-channels"),
        pytest.param({"face_input": {**FACES, "margin": float("nan")}}, "margin", id="margin-nan"),
        pytest.param({"face_input": {**FACES, "margin": 1e9}}, "margin", id="gigantic-margin"),
        pytest.param({"face_input": {**FACES, "__class__": 1}}, "not a ferkit model card", id="a-name-of-pythons-own"),
        pytest.param({"sha256": [1]}, "sha256 must be", id="checksums-as-list"),
        pytest.param({"sha256": {"model.onnx": None}}, "SHA-256 differs", id="no-checksum"),
        pytest.param({"sha256": {"model.onnx": "0" * 64}}, "SHA-256 differs", id="another-checksum"),
        pytest.param({"sha256": {"model.onnx": ["0"]}}, "SHA-256 differs", id="a-checksum-as-list"),
        pytest.param({"sha256": {}}, "has no model.keras, which its card names", id="no-network"),
        pytest.param({"metrics": [1]}, "metrics must be", id="metrics-as-list"),
        pytest.param({"training": "long"}, "training must be", id="training-as-text"),
        pytest.param({"versions": 3}, "versions must be", id="versions-as-number"),
    ],
)
def test_cards_that_make_no_sense(changes, words, folder):
    assert words in refusal(load, folder, **changes)


def test_a_card_nested_without_end_is_refused(folder):
    load(folder)
    (folder / "card.json").write_text("[" * 100_000)
    assert "not a ferkit model card" in refusal(EmotionClassifier.load, folder)


@pytest.mark.parametrize(
    ("classes", "faces"),
    [
        pytest.param(["a", "b", "c"], FACES, id="too-many-classes"),
        pytest.param(["a", "b"], {**FACES, "height": 8, "width": 8}, id="other-faces"),
        pytest.param(["a", "b"], {**FACES, "channels": 3}, id="colour"),
    ],
)
def test_a_card_that_does_not_fit_its_network(classes, faces, folder):
    classifier = load(folder, classes=classes, face_input=faces)
    refusal(classifier.predict_proba, np.full((1, faces["height"], faces["width"], faces["channels"]), 9, np.uint8))
    bare = folder / "bare.onnx"
    bare.write_bytes(tiny_onnx(metadata={"ferkit": json.dumps({**CARD, "classes": classes, "face_input": faces})}))
    refusal(EmotionClassifier.load, bare)


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param({"parameters": "many"}, id="text-for-a-number"),
        pytest.param({"metrics": {"accuracy": None}}, id="nothing-for-a-share"),
        pytest.param({"metrics": {"accuracy": 0.5, "accuracy_ci95": [1]}}, id="half-an-interval"),
        pytest.param({"metrics": {"per_class": {"a": {"n": 1e999}}}}, id="endless-counts"),
        pytest.param({"metrics": {"per_class": {"a": 5}}}, id="a-number-for-a-class"),
        pytest.param({"training": {"epochs_done": 3, "sittings": 5}}, id="a-number-for-sittings"),
    ],
)
def test_a_card_that_cannot_be_described(entries, folder):
    """Nobody can run such a model in `ferkit serve`, which shows the card, and nobody gets a traceback for it."""
    card = load(folder, **entries).card
    assert "cannot be described" in refusal(text_of, card)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(lambda data: data[:-20], "SHA-256 differs", id="cut-off"),
        pytest.param(lambda data: tiny_onnx(3), "SHA-256 differs", id="another"),
        pytest.param(lambda data: data + b"\0", "SHA-256 differs", id="a-byte-more"),
        pytest.param(lambda data: b"", "SHA-256 differs", id="empty"),
    ],
)
def test_a_network_that_was_swapped(damage, words, folder):
    load(folder)
    path = folder / "model.onnx"
    path.write_bytes(damage(path.read_bytes()))
    assert words in refusal(EmotionClassifier.load, folder)


@pytest.mark.parametrize(
    "location",
    ["../secret.bin", "near.bin", "link.bin", "gone.bin", "/etc/hostname", "/dev/zero", "C:\\secret.bin", ""],
)
def test_weights_in_other_files_are_refused(location, folder):
    """Before ONNX Runtime sees them: its versions differ in what they let through, and no checksum covers them."""
    (folder.parent / "secret.bin").write_bytes(struct.pack("<2f", 3, 5))
    (folder / "near.bin").write_bytes(struct.pack("<2f", 3, 5))
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    (folder / "model.onnx").write_bytes(tiny_onnx(weights=outside(location, 8)))
    assert "keeps weights in other files" in refusal(load, folder)
    bare = folder / "bare.onnx"
    bare.write_bytes(tiny_onnx(weights=outside(location), metadata={"ferkit": json.dumps(CARD)}))
    assert "keeps weights in other files" in refusal(EmotionClassifier.load, bare)


def hidden_places() -> list:
    """Networks that name another file where it is easily overlooked."""
    tensor = outside("../secret.bin", 8)
    value = helper.make_attribute("value", tensor)
    constant = helper.make_node("Constant", [], ["weights"])
    constant.attribute.append(value)
    inner = helper.make_graph(
        [constant], "inner", [], [helper.make_tensor_value_info("weights", TensorProto.FLOAT, (1, 2))]
    )
    branch = helper.make_node("If", ["flag"], ["probabilities"], then_branch=inner, else_branch=inner)
    sparse = helper.make_sparse_tensor(tensor, helper.make_tensor("i", TensorProto.INT64, (1,), [0]), [1, 2])
    holder = helper.make_node("Constant", [], ["probabilities"])
    holder.attribute.append(helper.make_attribute("sparse_value", sparse))
    return [
        pytest.param(network([constant]), id="in-a-node"),
        pytest.param(network([branch]), id="in-a-branch"),
        pytest.param(network([holder]), id="in-a-sparse-tensor"),
        # Where a message comes twice, a reader of protobuf merges both.
        pytest.param(tiny_onnx() + network([constant]), id="in-a-second-graph"),
    ]


@pytest.mark.parametrize("data", hidden_places())
def test_weights_in_other_files_are_found_everywhere(data, folder):
    (folder / "model.onnx").write_bytes(data)
    assert "keeps weights in other files" in refusal(load, folder)


def overlong(number: int, value: bytes) -> bytes:
    """A field of bytes whose number takes five bytes; readers in C++ drop the bit that is too many."""
    key = number << 3 | 2 | 1 << 32
    return bytes([key >> 7 * i & 127 | 128 for i in range(4)] + [key >> 28]) + bytes([len(value)]) + value


def test_a_field_that_only_other_readers_find_is_refused(folder):
    graph = b"\x12\1g" + b"\x2a" + bytes([len(tensor := b"\x42\1w" + overlong(13, b"\n\1a"))]) + tensor
    (folder / "model.onnx").write_bytes(tiny_onnx() + b"\x3a" + bytes([len(graph)]) + graph)
    assert "not a network that ONNX Runtime can run" in refusal(refuse_data_outside, folder / "model.onnx")


def test_a_field_that_says_the_same_in_more_bytes_is_found(folder):
    """Padded with zeros, the number is the same to all readers."""
    data = outside("../secret.bin", 8).SerializeToString()
    tag = bytes([14 << 3])
    assert tag + b"\1" in data
    padded = data.replace(tag + b"\1", bytes([14 << 3 | 128, 128, 128, 0, 1])).replace(b"\x6a", b"\x12")
    graph = b"\x2a" + bytes([len(padded)]) + padded
    (folder / "model.onnx").write_bytes(tiny_onnx() + b"\x3a" + bytes([len(graph)]) + graph)
    assert "keeps weights in other files" in refusal(load, folder)


def test_a_network_of_very_many_fields_is_given_up(folder, monkeypatch):
    monkeypatch.setattr("ferkit.models.model_files._MOST_FIELDS", 50)
    (folder / "model.onnx").write_bytes(tiny_onnx() + b"\x08\1" * 100)
    assert "not a network that ONNX Runtime can run" in refusal(refuse_data_outside, folder / "model.onnx")


@pytest.mark.parametrize("name", ["m.onnx", "m.keras", "m.h5", "m.tflite"])
def test_a_file_that_is_too_large_is_not_read(name, tmp_path):
    with (tmp_path / name).open("wb") as sparse:
        sparse.truncate(4 << 30)
    assert "has 4,294,967,296 bytes. Expected at most 1,073,741,824." in refusal(
        EmotionClassifier.load, tmp_path / name
    )


@pytest.mark.parametrize("name", ["card.json", "model.onnx", "model.keras"])
def test_a_large_file_of_a_model_folder_is_not_read(name, folder):
    load(folder)
    (folder / "card.json").write_text(json.dumps({**CARD, "sha256": {name: "0" * 64}}))
    with (folder / name).open("wb") as sparse:
        sparse.truncate(3 << 30)
    assert f"{name} has 3,221,225,472 bytes. Expected at most " in refusal(EmotionClassifier.load, folder)


def h5_of(shape: tuple[int, ...], file: object, **options: object) -> None:
    with h5py.File(file, "w") as made:
        made.create_dataset("weights", shape, "f4", **options)
        made.attrs["model_config"] = json.dumps(model())


def test_weights_that_are_far_larger_than_their_file_are_refused(tmp_path):
    """Packed twice, as a zip and inside HDF5, or stated and not there."""
    stated, inside = tmp_path / "m.h5", io.BytesIO()
    h5_of((400_000_000,), stated)
    assert "its weights would take 1,600,000,000 bytes in memory" in refusal(EmotionClassifier.load, stated)
    h5_of((20_000_000,), inside)
    packed = keras_file(tmp_path / "m.keras", model(), **{"model.weights.h5": inside.getvalue()})
    assert "its weights would take 80,000,000 bytes in memory" in refusal(EmotionClassifier.load, packed)
    bomb = keras_file(tmp_path / "m.keras", model(), **{"model.weights.h5": bytes(90 << 20)})
    assert "what is packed in it would take 94,3" in refusal(EmotionClassifier.load, bomb)


@pytest.mark.parametrize("kind", ["link", "bytes", "virtual"])
@pytest.mark.parametrize("inside", [False, True])
def test_hdf5_that_refers_to_other_files_is_refused(kind, inside, tmp_path):
    """Keras would read them as weights."""
    h5_of((4,), tmp_path / "other.h5")
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(model())
        if kind == "link":
            file["a/weights"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/weights")
        elif kind == "bytes":
            file.create_dataset("a/weights", (4,), "u1", external=[(str(tmp_path / "other.h5"), 0, 4)])
        else:
            layout = h5py.VirtualLayout((4,), "f4")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "weights", (4,))
            file.create_virtual_dataset("a/weights", layout)
    if inside:
        path = keras_file(tmp_path / "m.keras", model(), **{"model.weights.h5": path.read_bytes()})
    assert "keeps weights in other files" in refusal(EmotionClassifier.load, path)


def test_weights_that_are_as_large_as_their_file_pass(tmp_path):
    h5_of((1000,), tmp_path / "m.h5", compression="gzip")
    check_unpacked_size(tmp_path / "m.h5")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff" * 100, id="a-number-without-end"),
        pytest.param(b"\x3a\xff\xff\xff\xff\x0f", id="a-graph-of-gigabytes"),
        pytest.param(b"\x3a\x02\x0b\x0c", id="groups"),
        pytest.param(pickle.dumps([1]), id="pickle"),
        pytest.param(b"ORTM" * 100, id="another-format"),
    ],
)
def test_what_is_no_onnx(data, folder):
    (folder / "model.onnx").write_bytes(data)
    assert "not a network that ONNX Runtime can run" in refusal(load, folder)


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param([helper.make_node("Sequence", ["faces"], ["probabilities"], domain="evil")], id="unknown"),
        pytest.param([helper.make_node("SequenceConstruct", ["faces"], ["probabilities"])], id="sequence"),
        pytest.param([helper.make_node("Identity", ["faces"], ["probabilities"])], id="another-shape"),
        pytest.param([helper.make_node("Shape", ["faces"], ["probabilities"])], id="another-type"),
    ],
)
def test_networks_that_give_something_else(nodes, folder):
    (folder / "model.onnx").write_bytes(network(nodes))
    faces = np.full((1, 4, 4, 1), 99, np.uint8)
    refusal(lambda: load(folder).predict_proba(faces))


def keras_file(path: Path, config: object, **more: bytes) -> Path:
    text = config if isinstance(config, str | bytes) else json.dumps(config)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", text)
        archive.writestr("metadata.json", "{}")
        for name, data in more.items():
            archive.writestr(name, data)
    return path


def h5_file(path: Path, config: object) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = config if isinstance(config, np.void | np.ndarray) else json.dumps(config)
        file.create_group("model_weights")
    return path


def model(*layers: object) -> dict[str, object]:
    return {"class_name": "Sequential", "module": "keras", "config": {"name": "s", "layers": list(layers)}}


def layer(name: object, module: object = "keras.layers", /, **config: object) -> dict[str, object]:
    return {"class_name": name, "module": module, "config": config, "registered_name": None}


CODE = [
    pytest.param(layer("Lambda"), id="lambda"),
    pytest.param(layer("TFSMLayer", filepath="/tmp/x"), id="saved-model"),  # noqa: S108
    pytest.param(layer("TorchModuleWrapper"), id="torch"),
    pytest.param(layer("Mine", "my_package.layers"), id="module-of-its-own"),
    pytest.param(layer("system", "os"), id="os"),
    pytest.param(layer("Dense", "kerasx"), id="a-name-like-keras"),
    pytest.param(layer("Dense", "keras_hub.layers"), id="another-package"),
    pytest.param(layer({"class_name": "Dense"}), id="a-name-that-is-none"),
    pytest.param(
        layer("Dense", activation={"class_name": "function", "config": "system", "module": "os"}), id="function"
    ),
    pytest.param(
        layer("Dense", kernel_initializer={"class_name": "__lambda__", "config": {"value": "x"}}), id="code-as-text"
    ),
    pytest.param(layer("Bidirectional", layer=layer("Lambda")), id="inside-a-layer"),
    pytest.param([[[{"a": layer("Lambda")}]]], id="inside-lists"),
]


@pytest.mark.parametrize("part", CODE)
@pytest.mark.parametrize("write", [keras_file, h5_file])
def test_code_is_refused_before_keras_sees_it(part, write, tmp_path):
    path = write(tmp_path / ("m.keras" if write is keras_file else "m.h5"), model(part))
    assert "contains code (layer" in refusal(refuse_code, path)
    assert "contains code (layer" in refusal(EmotionClassifier.load, path)


def test_a_file_that_is_two_things_is_looked_at_as_keras_will(tmp_path):
    """HDF5 may have anything behind it: a zip with harmless layers, which was looked at, while Keras read the others."""
    path = h5_file(tmp_path / "m.h5", model(layer("Lambda")))
    harmless = keras_file(tmp_path / "m.keras", model(layer("Dense", units=2)))
    with path.open("ab") as file:
        file.write(harmless.read_bytes())
    assert zipfile.is_zipfile(path)
    assert "contains code (layer" in refusal(refuse_code, path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        pytest.param("m.keras", lambda path: path.write_bytes(pickle.dumps([1])), id="pickle-as-keras"),
        pytest.param("m.h5", lambda path: path.write_bytes(pickle.dumps([1])), id="pickle-as-h5"),
        pytest.param("m.onnx", lambda path: path.write_bytes(pickle.dumps([1])), id="pickle-as-onnx"),
        pytest.param("m.tflite", lambda path: path.write_bytes(pickle.dumps([1])), id="pickle-as-tflite"),
        pytest.param("m.pt", lambda path: path.write_bytes(pickle.dumps([1])), id="pickle-as-torch"),
        pytest.param("m.keras", lambda path: keras_file(path, b" " * (80 << 20)), id="config-of-80-megabytes"),
        pytest.param("m.keras", lambda path: keras_file(path, "[" * 5000), id="config-without-end"),
        pytest.param("m.keras", lambda path: keras_file(path, b"\xff\xfe"), id="config-that-is-no-text"),
        pytest.param("m.h5", lambda path: h5_file(path, np.void(b"{}")), id="config-as-bytes"),
        pytest.param("m.h5", lambda path: h5_file(path, np.arange(3)), id="config-as-numbers"),
        pytest.param("m.keras", lambda path: h5_file(path, model()), id="h5-as-keras"),
        pytest.param("m.h5", lambda path: keras_file(path, model()), id="keras-as-h5"),
        pytest.param("m.keras", lambda path: path.mkdir(), id="folder"),
    ],
)
def test_files_that_are_no_models(name, write, tmp_path):
    write(tmp_path / name)
    refusal(EmotionClassifier.load, tmp_path / name)


class Mark:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.keras
def test_pickled_weights_are_not_loaded(tmp_path):
    """NumPy writes objects as pickles, and Keras can keep weights as NumPy does."""
    pytest.importorskip("keras")
    mark, stored = tmp_path / "mark", io.BytesIO()
    np.savez(stored, allow_pickle=True, **{"layers/dense": np.array([Mark(mark)], object)})
    layers = (layer("InputLayer", batch_shape=[None, 4]), layer("Dense", units=2, name="dense"))
    path = keras_file(tmp_path / "m.keras", model(*layers), **{"model.weights.npz": stored.getvalue()})
    assert "pickles may be" in refusal(open_keras, path)
    assert not mark.exists()


@pytest.mark.keras
@pytest.mark.parametrize(
    "part",
    [
        pytest.param(layer("Dense", units="many"), id="units-as-text"),
        pytest.param(layer("Dense", units=-1), id="negative-units"),
        pytest.param(layer("Nothing"), id="no-such-layer"),
        pytest.param(layer("get_file", "keras.utils", origin="http://127.0.0.1/x"), id="a-function-that-fetches"),
        pytest.param(layer("Dense", units=2, activation="no such"), id="no-such-activation"),
        pytest.param({"class_name": "Dense"}, id="no-config"),
        pytest.param(layer("Dense", None, units=2), id="no-module"),
        pytest.param(5, id="a-number"),
    ],
)
def test_layers_that_make_no_sense(part, tmp_path):
    pytest.importorskip("keras")
    for path in (keras_file(tmp_path / "m.keras", model(part)), h5_file(tmp_path / "m.h5", model(part))):
        refusal(open_keras, path)


def litert_file(path: Path, *codes: dict[str, int | str], more: int = 0) -> Path:
    """A `.tflite` file with operators and no network. more: fields of the model beyond those of 2023."""
    flatbuffers = pytest.importorskip("flatbuffers")
    builder = flatbuffers.Builder()
    tables = []
    for code in codes:
        name = builder.CreateString(str(code["name"])) if "name" in code else None
        builder.StartObject(4)
        builder.PrependInt8Slot(0, int(code.get("old", 0)), 0)
        if name is not None:
            builder.PrependUOffsetTRelativeSlot(1, name, 0)
        builder.PrependInt32Slot(3, int(code.get("code", 0)), 0)
        tables.append(builder.EndObject())
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    vector = builder.EndVector()
    builder.StartObject(8 + more)
    builder.PrependUint32Slot(0, 3, 0)
    builder.PrependUOffsetTRelativeSlot(1, vector, 0)
    if more:
        builder.PrependUOffsetTRelativeSlot(8, vector, 0)
    builder.Finish(builder.EndObject(), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        pytest.param([{"old": 32, "code": 32, "name": "FlexWriteFile"}], "'FlexWriteFile'", id="flex"),
        pytest.param([{"old": 0}, {"old": 32, "name": "Mine"}], "'Mine'", id="custom-as-of-old"),
        pytest.param([{"old": 127, "code": 32, "name": "Mine"}], "'Mine'", id="custom-of-today"),
        pytest.param([{"code": 32}], "without a name", id="nameless"),
        pytest.param(
            [{"code": 3, "name": "FlexReadFile\x1b[2J" + "a" * 999}], "FlexReadFile", id="with-a-built-in-number"
        ),
    ],
)
def test_operators_that_are_not_litert_s_own_are_refused_before_it_is_asked(codes, words, tmp_path, monkeypatch):
    monkeypatch.setattr("ferkit.models.engines._litert", lambda: lambda **_: pytest.fail("made"))
    message = refusal(EmotionClassifier.load, litert_file(tmp_path / "m.tflite", *codes))
    assert "an operator that is not LiteRT's own" in message
    assert words in message


def test_litert_weights_in_other_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ferkit.models.engines._litert", lambda: lambda **_: pytest.fail("made"))
    path = litert_file(tmp_path / "m.tflite", {"code": 3}, more=1)
    assert "keeps weights in other files" in refusal(EmotionClassifier.load, path)


@pytest.mark.parametrize("cut", [0, 3, 8, 20, 40])
def test_litert_files_that_are_cut_off(cut, tmp_path):
    path = litert_file(tmp_path / "m.tflite", {"code": 3})
    refuse_operators(path, path.read_bytes())  # built-in ones pass
    assert "not a network that LiteRT can run" in refusal(refuse_operators, path, path.read_bytes()[:cut])


class Interpreter:
    """Stands for LiteRT's, after a look into a file that a stranger made."""

    def __init__(self, inputs: object, outputs: object) -> None:
        self.inputs, self.outputs = inputs, outputs

    def get_input_details(self) -> object:
        if self.inputs is None:
            b"\xff".decode()
        return [{"shape_signature": np.array(shape)} for shape in self.inputs]

    def get_output_details(self) -> object:
        return [{"shape_signature": np.array(shape)} for shape in self.outputs]


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        pytest.param(None, [[1, 2]], "have no names", id="names-that-are-no-utf8"),
        pytest.param([], [[1, 2]], "takes 0 inputs", id="no-input"),
        pytest.param([[1, 4, 4, 1]], [], "gives 0 outputs", id="no-output"),
        pytest.param([[1, 4, 4, 1]], [[]], "must take", id="an-output-of-no-shape"),
        pytest.param([[1, 4, 4, 1]] * 2, [[1, 2]], "must take", id="two-inputs"),
    ],
)
def test_litert_networks_that_make_no_sense(inputs, outputs, words, tmp_path, monkeypatch):
    monkeypatch.setattr("ferkit.models.engines._litert_interpreter", lambda path, threads: Interpreter(inputs, outputs))
    (tmp_path / "m.tflite").write_bytes(b"TFL3")
    assert words in refusal(EmotionClassifier.load, tmp_path / "m.tflite")
