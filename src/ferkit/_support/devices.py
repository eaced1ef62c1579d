"""Training on several devices of one machine: each takes its share of every batch, and the numbers stay those of one.

`keras.distribution.DataParallel` on JAX, `tf.distribute.MirroredStrategy` on TensorFlow. JAX computes as if the batch
lay on one device. TensorFlow runs the step once for each device, on its rows of the batch: what depends on the whole
batch (chance, statistics of normalisation, sums of gradients) asks here for the others' part. Outside such a step, and
on one device, these functions change nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import MethodType
from typing import Any

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
        with _distribution(self.names) if len(self) > 1 else nullcontext():
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
    if int(number) > len(found):
        kind = found[0].partition(":")[0].upper()
        raise UsageError(
            f"{number} devices were asked for; {load_keras().backend.backend()} sees {len(found)} ({kind}) here. "
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


def _distribution(names: Sequence[str]) -> Any:
    if load_keras().backend.backend() == "tensorflow":
        import tensorflow as tf

        # TensorFlow's own choice for processors lets no second run in the process have another number of them.
        together = tf.distribute.ReductionToOneDevice() if names[0].startswith("CPU") else None
        return tf.distribute.MirroredStrategy(list(names), cross_device_ops=together).scope()
    return load_keras().distribution.DataParallel(devices=list(names)).scope()


def replicas() -> int:
    """How many times TensorFlow runs each step side by side; 1 on other backends, whose step is one."""
    if load_keras().backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def _replica() -> Any:
    """TensorFlow's context of the device whose share is being computed; None where there is but one."""
    if replicas() == 1:
        return None
    import tensorflow as tf

    return tf.distribute.get_replica_context()


def own_rows(draw: Callable[[Any], Any], count: Any) -> Any:
    """`draw(count)`, or of several devices' `draw` for all of their rows this device's own `count`.

    Every device draws the same numbers for the whole batch, so a face gets those that it would get on one device.
    """
    replica = _replica()
    if replica is None:
        return draw(count)
    first = replica.replica_id_in_sync_group * count
    return draw(count * replicas())[first : first + count]


def summed(values: Sequence[Any]) -> Sequence[Any]:
    """Values summed over all devices."""
    replica = _replica()
    return values if replica is None else replica.all_reduce("sum", list(values))


def apply_once(optimizer: Any) -> None:
    """Let one device take an optimizer's steps, with the gradients of all, and hand the weights to the others.

    Left alone, every device takes them, and they meet to add up their gradients. TensorFlow forbids that within a
    condition, and where gradients are gathered over batches it happens in one.
    """
    apply = optimizer.apply
    # What Keras does on backends that know nothing of devices.
    for name in ("_apply_weight_decay", "_backend_update_step", "_backend_increment_gradient_accumulators"):
        plain = next(vars(kind)[name] for kind in reversed(type(optimizer).__mro__) if name in vars(kind))
        setattr(optimizer, name, MethodType(plain, optimizer))

    def together(gradients: Sequence[Any], variables: Any = None) -> None:
        replica = _replica()
        if replica is None:
            apply(gradients, variables)
            return

        def step(strategy: Any, sums: Sequence[Any]) -> None:
            # All devices hold the same sums.
            apply([strategy.experimental_local_results(one)[0] for one in sums], variables)

        replica.merge_call(step, args=(summed(gradients),))

    optimizer.apply = together
