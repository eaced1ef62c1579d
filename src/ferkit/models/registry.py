"""The registry of architectures and the shape that all of them have."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ferkit.registry import Registry

if TYPE_CHECKING:
    import keras


class Architecture(Protocol):
    """Build an untrained network.

    It takes pixels as they are, 0 to 255 in any number type, (N, height, width, channels): scaling is its first layer.
    It returns probabilities, float32 (N, num_classes), rows sum to 1.
    """

    def __call__(
        self, num_classes: int = 7, *, input_shape: tuple[int, int, int] = (48, 48, 1), activation: str = "relu"
    ) -> "keras.Model": ...


ARCHITECTURES: Registry[Architecture] = Registry("model")


def architecture(build: Architecture) -> Architecture:
    """Register an architecture under its function's name."""
    name: str = getattr(build, "__name__", "")
    register: Callable[[Architecture], Architecture] = ARCHITECTURES.register(name)
    return register(build)
