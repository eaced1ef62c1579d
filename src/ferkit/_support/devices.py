"""Training on several devices of one machine: each takes its share of every batch, and the numbers stay those of one.

`keras.distribution.DataParallel` on JAX, which computes as if the batch lay on one device. Other backends train on one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from ferkit._support.keras_backend import load_keras
from ferkit.errors import UsageError


@dataclass(frozen=True)
class Devices:
    """The devices of a run.

    names: as the backend calls them, e.g. `GPU:0`.
    """

    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def check_batch(self, size: int) -> None:
        """Raise `UsageError` if a batch of so many faces does not divide evenly."""
        least, count = size // len(self) * len(self), len(self)
        if size % count:
            fitting = " or ".join(str(one) for one in (least, least + count) if one)
            raise UsageError(
                f"A batch of {size} faces does not divide by {count} devices. Choose --batch-size {fitting}, or other --devices."
            )

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Networks that are made in this context are trained on the devices, in it."""
        with (
            load_keras().distribution.DataParallel(devices=list(self.names)).scope() if len(self) > 1 else nullcontext()
        ):
            yield


def parse(text: str) -> int | str:
    """The value of `--devices`: `all` or a number from 1; raises `UsageError` for anything else."""
    if text != "all" and not (text.isdecimal() and int(text) > 0):
        raise UsageError(f"devices is a number from 1, or all. Received: {text}.")
    return text if text == "all" else int(text)


def choose(wanted: int | str | None) -> Devices:
    """The first so many devices of Keras' backend, or `all`; None is the backend's own choice, one.

    Accelerators where there are any, else processors: a processor is one device, however many cores it has.
    Raises `UsageError` for a number that makes no sense or is more than there are.
    """
    number = 1 if wanted is None else parse(str(wanted))
    found = _all_devices()
    if number == "all":
        number = len(found)
    backend = load_keras().backend.backend()
    if int(number) > 1 and backend != "jax":
        raise UsageError(
            f"{number} devices requested, but {backend} trains on one. Use JAX for several: set KERAS_BACKEND=jax."
        )
    if int(number) > len(found):
        kind = found[0].partition(":")[0].upper()
        raise UsageError(
            f"{number} devices requested, but {backend} sees {len(found)} ({kind}) on this machine. "
            f"Choose at most that many, or --devices all."
        )
    return Devices(tuple(found[: int(number)]))


def has_accelerator() -> bool:
    """Whether Keras' backend sees more than processors."""
    return not _all_devices()[0].lower().startswith("cpu")


def _all_devices() -> Sequence[str]:
    backend = load_keras().backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        kinds = (tf.config.list_logical_devices(kind) for kind in ("GPU", "CPU"))
        return next([one.name.removeprefix("/device:") for one in kind] for kind in kinds if kind)
    if backend == "jax":
        return list(load_keras().distribution.list_devices())
    return [f"{backend}:0"]
