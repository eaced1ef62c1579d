"""A worker process of the local engine: parts come in on standard input, what became of them goes out on standard output."""

import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from typing import Any, BinaryIO

from ferkit.batch.engines import READY
from ferkit.batch.worker import PartWorker
from ferkit.errors import FerkitError


def main() -> None:
    """Do parts until none comes; end at once where the driver does, also when it is killed."""
    # Ctrl-C is for the driver, which then ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # The answers' own way out: on the usual one anything that prints would break in.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    code = 1
    try:
        _work(sys.stdin.buffer, answers)
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    except BaseException as problem:
        _send(answers, _sendable(problem))
    finally:
        # Not sys.exit: the thread that listens would be waited for, or torn from its reading with a complaint.
        os._exit(code)


def _work(orders: BinaryIO, answers: BinaryIO) -> None:
    job = pickle.load(orders)  # noqa: S301 - from the driver that started this process
    parts: queue.SimpleQueue[int] = queue.SimpleQueue()

    def listen() -> None:
        try:
            while True:
                parts.put(pickle.load(orders))  # noqa: S301
        except BaseException:  # the driver is gone, and whoever goes on with the job must not meet this process
            os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    worker = PartWorker(job)
    _send(answers, READY)
    while True:
        _send(answers, worker(parts.get()))


def _send(answers: BinaryIO, answer: Any) -> None:
    answers.write(pickle.dumps(answer))
    answers.flush()


def _sendable(problem: BaseException) -> BaseException:
    """An exception that survives the way, with the traceback of here."""
    if not isinstance(problem, FerkitError):
        problem.add_note("In a worker:\n" + "".join(traceback.format_exception(problem)))
    try:
        pickle.loads(pickle.dumps(problem))  # noqa: S301
    except Exception:
        return FerkitError(f"A worker failed: {type(problem).__name__}: {problem}")
    return problem
