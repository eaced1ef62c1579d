"""The one door to Keras: which backend it gets, and what to say when it is missing."""

import importlib
import importlib.util
import os
from types import ModuleType

from ferkit.errors import MissingDependencyError

_BACKENDS = ("tensorflow", "jax", "torch")


def load_keras() -> ModuleType:
    """Import Keras, on the backend the user chose or else on the first one that is installed.

    Keras reads `KERAS_BACKEND` (or its own config file) once, at import, and takes TensorFlow without looking whether
    it is there. So where nothing was chosen and TensorFlow is missing, the choice is made here, at first use: importing
    ferkit changes nothing.

    Raises:
        MissingDependencyError: no Keras or no backend; it names the extra to install.
    """
    installed = [name for name in _BACKENDS if importlib.util.find_spec(name)]
    if importlib.util.find_spec("keras") is None or not installed:
        raise MissingDependencyError(
            "This needs Keras and a backend, which the base install leaves out. "
            "Install them with: pip install 'ferkit[train]' (TensorFlow) or 'ferkit[jax]'."
        )
    chosen = os.environ.get("KERAS_BACKEND")
    if chosen in _BACKENDS and chosen not in installed:
        raise MissingDependencyError(
            f"KERAS_BACKEND is {chosen!r}, which is not installed. Installed: {', '.join(installed)}."
        )
    if chosen is None and "tensorflow" not in installed:
        os.environ["KERAS_BACKEND"] = installed[0]
    return importlib.import_module("keras")
