"""Exports: parity, what is refused, what an ONNX file does with faces of any size, and eight bits."""

import cv2
import numpy as np
import pytest

from ferkit.detection.crops import resize_face
from ferkit.errors import ModelError, UsageError
from ferkit.models import exporting as export
from ferkit.models import exporting as parity
from ferkit.models import model_folder, sample_picture
from ferkit.models.classifier import EmotionClassifier
from ferkit.models.export_formats import real_looking_faces, stored_faces
from ferkit.models.exporting import compare
from ferkit.sources.images import FaceInput, read_image

CLASSES = ("awake", "tired", "bored")


@pytest.mark.parametrize(
    "face_input",
    [
        pytest.param(FaceInput(), id="fer2013"),
        pytest.param(FaceInput(64, 32, 3), id="tall-rgb"),
        pytest.param(FaceInput(16, 16, 1), id="tiny"),
    ],
)
def test_stored_faces(face_input):
    faces = stored_faces(face_input, 100)
    assert faces.shape == (100, face_input.height, face_input.width, face_input.channels)
    assert faces.dtype == np.uint8
    np.testing.assert_array_equal(faces, stored_faces(face_input, 100))
    assert len({face.tobytes() for face in faces}) > 98
    # Neither too dark nor burnt out: FER-2013 has a mean of 129 and a standard deviation of 65.
    drawn = real_looking_faces(face_input, 100)[:80]
    assert 100 < drawn.mean() < 160
    assert 40 < drawn.std() < 80


def test_stored_faces_are_faces():
    """The detector of OpenCV finds one in the middle of most of what is drawn: it is not noise."""
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    found = 0
    for face in real_looking_faces(FaceInput(), 100):
        framed = cv2.copyMakeBorder(cv2.resize(face, (96, 96)), 24, 24, 24, 24, cv2.BORDER_REPLICATE)
        found += len(cascade.detectMultiScale(framed, 1.05, 2)) > 0
    assert found >= 50


@pytest.mark.parametrize(
    ("original", "exported", "rounded", "words"),
    [
        pytest.param([[0.6, 0.4]], [[0.60005, 0.39995]], False, None, id="equal"),
        pytest.param([[0.6, 0.4]], [[0.6002, 0.3998]], False, "at most 0.0002 on 1 faces", id="different"),
        pytest.param([[0.6, 0.4]], [[np.nan, 0.4]], False, "at most nan", id="nan"),
        pytest.param([[0.6, 0.4]], [[0.61, 0.39]], True, None, id="rounded"),
        pytest.param([[0.6, 0.4]], [[0.65, 0.35]], True, "0.05 on average", id="rounded-too-much"),
        pytest.param([[0.505, 0.495]], [[0.495, 0.505]], True, "0.0% of 1 labels agree", id="another-label"),
        pytest.param([[0.6, 0.4]], [[np.nan, 0.4]], True, "nan on average", id="rounded-nan"),
    ],
)
def test_parity(original, exported, rounded, words):
    found = compare(np.array(original, np.float32), np.array(exported, np.float32), rounded=rounded)
    if words is None:
        assert found.problem is None
    else:
        assert words in found.problem


keras = pytest.importorskip("keras")
pytestmark = pytest.mark.keras


def small_network(shape=(48, 48, 1), classes=3):
    """A residual block with squeeze-and-excitation, so that rounding meets all kinds of operations."""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    pixels = keras.Input(shape)
    x = layers.Rescaling(1 / 255)(pixels)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    y = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(x))
    gate = layers.Dense(8, activation="sigmoid")(layers.GlobalAveragePooling2D()(y))
    y = layers.Multiply()([y, layers.Reshape((1, 1, 8))(gate)])
    x = layers.MaxPooling2D()(layers.Activation("relu")(layers.Add()([x, y])))
    return keras.Model(pixels, layers.Dense(classes, activation="softmax")(layers.Flatten()(x)), name="small")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder of three classes, with a temperature and no serving copy."""
    path = tmp_path_factory.mktemp("models") / "model"
    path.mkdir()
    small_network().save(path / "model.keras")
    details = {"architecture": "small", "licence": "CC0-1.0", "training": {"data": {"source": "x.csv"}}}
    model_folder.write_card(path, classes=CLASSES, face_input=FaceInput(margin=0.1), temperature=0.5, details=details)
    return path


@pytest.fixture(scope="module")
def onnx_file(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "emotions.onnx"
    assert export.export(folder, path, "onnx").parity.faces == 1000
    return path


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("size", "tolerance"),
    [
        pytest.param((48, 48), 1e-6, id="native"),
        pytest.param((96, 96), 1e-3, id="half"),
        pytest.param((131, 77), 1e-3, id="odd"),
        pytest.param((500, 501), 1e-3, id="large"),
        pytest.param((30, 40), 0.02, id="enlarged"),
        pytest.param((200, 20), 0.02, id="shrunk-and-enlarged"),
        pytest.param((1, 1), 1e-6, id="one-pixel"),
    ],
)
def test_faces_of_any_size(onnx_file, folder, size, channels, tolerance):
    """The file prepares faces as ferkit does: as `resize_face`, up to the rounding of pixels."""
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    face = cv2.resize(read_image(sample_picture())[57:177, 165:285], size[::-1], interpolation=cv2.INTER_CUBIC)
    gray = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)[..., None]
    given = gray if channels == 1 else face
    classifier = EmotionClassifier.load(folder, engine="keras")
    rgb = gray.repeat(3, axis=2) if channels == 1 else face
    expected = classifier.predict_proba(resize_face(rgb, FaceInput())[None])
    (answer,) = session.run(None, {"faces": np.stack([given, given])})
    np.testing.assert_allclose(answer, expected.repeat(2, axis=0), atol=tolerance)


@pytest.mark.parametrize(
    "face_input", [pytest.param(FaceInput(), id="gray"), pytest.param(FaceInput(40, 56, 3), id="rgb")]
)
@pytest.mark.parametrize("size", [(48, 48), (96, 144), (131, 77), (30, 40), (20, 200), (1, 1), (1, 300)])
def test_prepared_pixels_are_those_of_ferkit(onnx_file, face_input, size):
    """Where faces are only shrunk, to the bit but for ties; enlarged ones may differ by a gray level."""
    import onnx
    import onnxruntime

    from ferkit.models.onnx_graph import _preparation

    model = _preparation(face_input, like=onnx.load(onnx_file))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    face = cv2.resize(read_image(sample_picture())[57:177, 165:285], size[::-1], interpolation=cv2.INTER_CUBIC)
    prepared = session.run(None, {"faces": face[None]})[0][0].astype(int)
    difference = np.abs(prepared - resize_face(face, face_input))
    shrunk = size[0] >= face_input.height and size[1] >= face_input.width
    assert difference.max() <= 1
    assert (difference > 0).mean() <= (0.1 if shrunk else 0.35)


def test_colour_networks_take_gray_faces(tmp_path):
    import onnxruntime

    path = tmp_path / "model"
    path.mkdir()
    small_network((32, 24, 3)).save(path / "model.keras")
    face_input = FaceInput(32, 24, 3)
    model_folder.write_card(path, classes=CLASSES, face_input=face_input, temperature=1.0, details={})
    export.export(path, tmp_path / "colour.onnx", "onnx")
    session = onnxruntime.InferenceSession(tmp_path / "colour.onnx", providers=["CPUExecutionProvider"])
    face = np.random.default_rng(0).integers(0, 256, (70, 50, 1), dtype=np.uint8)
    rgb = face.repeat(3, axis=2)
    expected = EmotionClassifier.load(path, engine="keras").predict_proba(resize_face(rgb, face_input)[None])
    for given in (face, rgb):
        np.testing.assert_allclose(session.run(None, {"faces": given[None]})[0], expected, atol=1e-3)


@pytest.mark.parametrize(
    "faces",
    [
        pytest.param(np.zeros((1, 48, 48, 4), np.uint8), id="rgba"),
        pytest.param(np.zeros((1, 60, 60, 4), np.uint8), id="rgba-other-size"),
        pytest.param(np.zeros((48, 48, 1), np.uint8), id="no-batch"),
        pytest.param(np.zeros((1, 48, 48, 1), np.float32), id="float"),
    ],
)
def test_what_the_onnx_file_cannot_take_fails(onnx_file, faces):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(onnx_file, options, providers=["CPUExecutionProvider"])
    with pytest.raises(Exception, match="ONNXRuntimeError"):
        session.run(None, {"faces": faces})


def test_eight_bits_are_smaller_and_near(folder, onnx_file, tmp_path):
    found = export.export(folder, tmp_path / "small.onnx", "onnx-int8").parity
    assert found.rounded
    assert 0 < found.mean_difference <= parity.MEAN_TOLERANCE
    import onnx

    kinds = {node.op_type for node in onnx.load(tmp_path / "small.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    graph = onnx.load(tmp_path / "small.onnx").graph
    kernels = {one.name for one in graph.initializer if len(one.dims) == 4 and one.data_type == onnx.TensorProto.INT8}
    scales = {node.input[1] for node in graph.node if node.input and node.input[0] in kernels}
    answers = {node.output[0] for node in graph.node if node.op_type == "Softmax"}
    assert not [node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] in answers]
    assert len(kernels) == 2
    assert [list(one.dims) for one in graph.initializer if one.name in scales] == [[8], [8]], "one for each channel"


def test_what_the_quantizer_only_logs_is_an_error_in_one_line(folder, tmp_path, monkeypatch, caplog, capfd):
    """On a full disk it cannot write what it joined, says so with a traceback, and goes on without."""
    import onnxruntime

    session = onnxruntime.InferenceSession

    def full(model, options=None, **more):
        if options is not None and options.optimized_model_filepath:
            raise RuntimeError("Protobuf serialization failed.")
        return session(model, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", full)
    with pytest.raises(
        ModelError, match=r"^The network cannot be quantized to int8: .*serialization failed\. Is there room"
    ):
        export.export(folder, tmp_path / "small.onnx", "onnx-int8")
    assert list(tmp_path.iterdir()) == []
    assert "Traceback" not in caplog.text + capfd.readouterr().err


def test_eight_bits_are_fitted_to_the_faces_given(folder, tmp_path):
    """Faces that are all nearly black leave no room for light ones, and the check says so."""
    dark = np.random.default_rng(0).integers(0, 3, (64, 48, 48, 1), dtype=np.uint8)
    with pytest.raises(ModelError, match=r"Export check failed, .* not written"):
        export.export(folder, tmp_path / "dark.onnx", "onnx-int8", calibration=dark)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "format_name", "words"),
    [
        pytest.param("m.h5", "onnx", "format onnx ends in .onnx", id="onnx"),
        pytest.param("m", "litert", "format litert ends in .tflite", id="none"),
        pytest.param("m.onnx", "onx", "Did you mean 'onnx'", id="format"),
    ],
)
def test_wrong_words(folder, tmp_path, name, format_name, words):
    with pytest.raises(UsageError, match=words):
        export.export(folder, tmp_path / name, format_name)


def test_a_failed_int8_export_says_what_helps(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "LEAST_AGREEMENT", 2.0)
    with pytest.raises(ModelError, match=r"Export check failed, .* Calibrate it on faces like yours: --data DATA"):
        export.export(folder, tmp_path / "out.onnx", "onnx-int8")
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_no_original(onnx_file, tmp_path):
    with pytest.raises(ModelError, match="Use the model folder that it was made from"):
        export.export(onnx_file, tmp_path / "again.onnx", "onnx")


def test_a_failed_export_leaves_nothing(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "TOLERANCE", -1.0)
    with pytest.raises(ModelError, match=r"Export check failed, .* not written") as caught:
        export.export(folder, tmp_path / "out.onnx", "onnx")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_export_is_caught(folder, tmp_path, monkeypatch):
    """Whatever goes wrong on the way out: here the temperature is left out of the graph."""
    from ferkit.models import onnx_graph

    whole = onnx_graph.for_any_face
    monkeypatch.setattr(
        onnx_graph,
        "for_any_face",
        lambda network, face_input, temperature, offsets: whole(network, face_input, 1, offsets),
    )
    with pytest.raises(ModelError, match="probabilities differ by at most"):
        export.export(folder, tmp_path / "out.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_serving_copy_has_no_needless_work(tmp_path):
    """The scaling of pixels is in the kernel, and no shape is worked out for every batch."""
    import onnx

    export.to_onnx(small_network(), FaceInput(), tmp_path / "model.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    first = kinds.index("Conv")
    assert set(kinds[:first]) <= {"Cast", "Reshape", "Transpose"}
    assert "Shape" not in kinds


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda p, la: la.Conv2D(4, 3, padding="same")(la.Rescaling(1 / 127.5, -1)(p)), id="offset"),
        pytest.param(lambda p, la: la.Conv2D(4, 3)(la.Rescaling(1 / 255)(p)), id="valid"),
        pytest.param(lambda p, la: la.Add()([la.Conv2D(4, 1)(s := la.Rescaling(1 / 255)(p)), s]), id="read-twice"),
        pytest.param(
            lambda p, la: (c := la.Conv2D(1, 3, padding="same"))(c(la.Rescaling(1 / 255)(p))), id="kernel-twice"
        ),
        pytest.param(lambda p, la: la.Dense(4)(la.Rescaling(1 / 255)(p)), id="no-convolution"),
        pytest.param(lambda p, la: la.Conv2D(4, 3)(la.ZeroPadding2D(1)(la.Rescaling(0.01)(p))), id="padding"),
    ],
)
def test_repairs_never_change_the_answer(build, tmp_path):
    pixels = keras.Input((12, 12, 1))
    x = keras.layers.Flatten()(build(pixels, keras.layers))
    network = keras.Model(pixels, keras.layers.Dense(2, activation="softmax")(x))
    assert export.to_onnx(network, FaceInput(12, 12, 1), tmp_path / "model.onnx") <= 1e-5


@pytest.mark.shared
@pytest.mark.slow
def test_keras_and_onnx_agree_on_real_faces(shared, tmp_path):
    """Equal within 1e-4 on 1,000 faces; eight bits lose at most 0.3 points of what the model predicts, majorities."""
    from ferkit.data.loading import load_dataset

    data = shared / "data" / "fer2013.csv.gz"
    held_out = load_dataset(data, votes=shared / "data" / "ferplus_votes.csv").val
    faces, (voted, _) = held_out.images[:1000], held_out.by_votes()
    whole = EmotionClassifier.load(engine="keras").predict_proba(faces)
    export.export("default", tmp_path / "whole.onnx", "onnx")
    onnx = EmotionClassifier.load(tmp_path / "whole.onnx")
    np.testing.assert_allclose(onnx.predict_proba(faces), whole, atol=1e-4)

    export.export("default", tmp_path / "small.onnx", "onnx-int8", calibration=data)
    hits = [
        (one.predict_proba(voted.images).argmax(axis=1) == voted.labels).mean()
        for one in (onnx, EmotionClassifier.load(tmp_path / "small.onnx"))
    ]
    assert hits[0] - hits[1] <= 0.003


def test_the_export_has_no_branches(onnx_file):
    """OpenVINO answers wrongly on the first call of a graph with an `If` on the size; nothing in it is unused."""
    import onnx

    graph = onnx.load(onnx_file).graph
    assert not {node.op_type for node in graph.node} & {"If", "Loop", "Scan"}
    assert {one.name for one in graph.initializer} <= {name for node in graph.node for name in node.input}


@pytest.mark.parametrize("shape", [(48, 48, 1), (32, 24, 3)], ids=["gray", "colour"])
def test_opencv_runs_the_fixed_export(shape, tmp_path):
    small_network(shape).save(tmp_path / "model.keras")
    face_input = FaceInput(*shape)
    model_folder.write_card(tmp_path, classes=CLASSES, face_input=face_input, temperature=0.5, details={})
    target = tmp_path / "fixed.onnx"
    assert export.export(tmp_path, target, "onnx-fixed").parity.max_difference < 1e-4
    network = cv2.dnn.readNetFromONNX(str(target))
    faces = export.stored_faces(face_input, 20)
    answers = []
    for face in faces:
        # As OpenCV reads pictures: blue first.
        network.setInput(cv2.dnn.blobFromImage(face[..., ::-1] if shape[2] == 3 else face, swapRB=shape[2] == 3))
        answers.append(network.forward()[0])
    expected = EmotionClassifier.load(tmp_path, engine="keras").predict_proba(faces)
    np.testing.assert_allclose(answers, expected, atol=1e-5)


@pytest.mark.parametrize("size", [(48, 48), (96, 144)])
def test_openvino_is_right_from_the_first_call(size, onnx_file, rng):
    openvino = pytest.importorskip("openvino")
    faces = rng.integers(0, 256, (3, *size, 3), dtype=np.uint8)
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    first = openvino.Core().compile_model(str(onnx_file), "CPU", settings)(faces)[0]
    import onnxruntime

    expected = onnxruntime.InferenceSession(str(onnx_file)).run(None, {"faces": faces})[0]
    np.testing.assert_allclose(first, expected, atol=1e-3)


def test_the_largest_difference_is_explained():
    original = np.array([[0.6, 0.4], [0.45, 0.55], [0.9, 0.1]] + [[1.0, 0.0]] * 13, np.float32)
    exported = original.copy()
    exported[1] = [0.52, 0.48]
    exported[15] = [0.75, 0.25]
    found = export.compare(original, exported, rounded=True).explain(("calm", "tense"))
    assert "calm 1.00 -> 0.75 on face 15 of the check, a picture of noise; its class stays calm." in found
    assert "The class changes on 1 face; the original's confidence there is at most 55%." in found
    assert export.compare(original, original, rounded=True).explain(("calm", "tense")).endswith("No class changes.")
