"""How many requests a batch job sends to an object store: counted by an S3 server on loopback.

    python benchmarks/batch_requests.py            # prints
    python benchmarks/batch_requests.py --write    # and writes benchmarks/batch_requests.json, for scale_model.py

Jobs of the same pictures in more and in fewer parts tell what is per picture, per part and per job. LIST requests of
large folders are not counted here: S3 answers with at most a thousand names each.
"""

import argparse
import io
import json
import logging
import os
import re
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt
import PIL.Image

from ferkit.batch.running import run
from ferkit.batch.summary import summarize
from ferkit.models.export_formats import real_looking_faces
from ferkit.sources.images import FaceInput

_PICTURES, _FEW, _MANY = 120, 4, 12
_FACE = FaceInput(height=48, width=48, channels=3, margin=0.0, align=False)
_REQUEST = re.compile(r'"?(GET|PUT|HEAD|DELETE|POST) (/[^ ]*) HTTP')


class Requests(logging.Handler):
    """Counts what the server logs: method (LIST for listings), and what it is about."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[tuple[str, str]] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        found = _REQUEST.search(record.getMessage())
        if found:
            method, path = found.groups()
            about = "picture" if "/in/" in path else "shard" if ".tar" in path else "rest"
            self.counts["LIST" if "list-type" in path else method, about] += 1

    def during(self, work: Callable[[], object]) -> Counter[tuple[str, str]]:
        self.counts.clear()
        work()
        return Counter(self.counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write benchmarks/batch_requests.json")
    options = parser.parse_args()
    from moto.server import ThreadedMotoServer

    log, requests = logging.getLogger("werkzeug"), Requests()
    log.setLevel(logging.INFO)
    log.handlers, log.propagate = [requests], False
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "made-up", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_SECRET_ACCESS_KEY": "made-up", "FERKIT_OFFLINE": "1",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        os.environ |= {"AWS_CONFIG_FILE": f"{place}/none", "AWS_SHARED_CREDENTIALS_FILE": f"{place}/none"}
        found = counted(requests)
    server.stop()
    text = json.dumps(found, indent=1)
    print(text)
    if options.write:
        Path(__file__).with_suffix(".json").write_text(text + "\n")


def counted(requests: Requests) -> dict[str, dict[str, float]]:
    """Requests by method: per picture, per part, per job, and of shards, resumed jobs and summaries."""
    files: Any = fsspec.filesystem("s3", use_listings_cache=False)
    files.mkdir("photos")
    faces = [_jpeg(face) for face in real_looking_faces(_FACE, _PICTURES)]
    for number, face in enumerate(faces):
        files.pipe_file(f"photos/in/{number:04}.jpg", face)
    for shard in range(_MANY):
        files.pipe_file(f"photos/shards/{shard:02}.tar", _tar(faces[shard::_MANY]))

    def job(source: str, out: str, part_size: int | None = None) -> Callable[[], object]:
        return lambda: run(
            f"s3://photos/{source}", f"s3://photos/{out}", workers=1, detector="none", part_size=part_size
        )

    few = requests.during(job("in", "few", _PICTURES // _FEW))
    many = requests.during(job("in", "many", _PICTURES // _MANY))
    again = {name: requests.during(job("in", name, _PICTURES // n)) for name, n in (("few", _FEW), ("many", _MANY))}
    asked = {name: requests.during(partial(summarize, f"s3://photos/{name}")) for name in ("few", "many")}
    shards = requests.during(job(f"shards/{{00..{_MANY - 1}}}.tar", "from_shards"))
    return {
        "per_picture": _each(many, "picture", _PICTURES, skip="LIST"),
        "per_part": _slope(few, many),
        "per_job": {
            method: float(many[method, "rest"] - _slope(few, many).get(method, 0) * _MANY)
            for method, about in many
            if about == "rest"
        },
        "per_shard": _each(shards, "shard", _MANY),
        "per_part_resumed": _slope(again["few"], again["many"]),
        "per_part_summarized": _slope(asked["few"], asked["many"]),
    }


def _each(counts: Counter[tuple[str, str]], about: str, n: int, skip: str = "") -> dict[str, float]:
    return {method: count / n for (method, what), count in counts.items() if what == about and method != skip}


def _slope(few: Counter[tuple[str, str]], many: Counter[tuple[str, str]]) -> dict[str, float]:
    """Requests that each part more takes."""
    methods = {method for method, about in many if about == "rest"}
    more = {method: Fraction(many[method, "rest"] - few[method, "rest"], _MANY - _FEW) for method in sorted(methods)}
    return {method: float(count) for method, count in more.items() if count}


def _jpeg(face: npt.NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    PIL.Image.fromarray(face).save(stream, "JPEG")
    return stream.getvalue()


def _tar(pictures: list[bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for number, data in enumerate(pictures):
            member = tarfile.TarInfo(f"{number:04}.jpg")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


if __name__ == "__main__":
    main()
