"""Network architectures: one function each, plain `keras.Model` out.

Adding one is a file with one function under `@architecture`; the command line, the docs and the contract tests
(`tests/test_models.py`) pick it up from `ARCHITECTURES`.
"""

from ferkit.models.applications import convnexttiny, efficientnetv2, mobilenetv3, resnet50, vgg16
from ferkit.models.registry import ARCHITECTURES, architecture
from ferkit.models.residual import compact, resnet, teacher
from ferkit.models.tutorial import tutorial
from ferkit.models.vgg import vgg

__all__ = [
    "ARCHITECTURES",
    "architecture",
    "compact",
    "convnexttiny",
    "efficientnetv2",
    "mobilenetv3",
    "resnet",
    "resnet50",
    "teacher",
    "tutorial",
    "vgg",
    "vgg16",
]
