"""One target under atheris: `python -m fuzz.harness NAME FOLDER [option of libFuzzer ...]`. `fuzz/run.py` starts it.

What ferkit raises and must not is written down by its place in the code and does not end the run, so that one mistake does
not hide the others. Crashes, hangs and memory beyond the limit end it: libFuzzer keeps what caused them.
"""

import hashlib
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path

import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]
# An input of a few kilobytes is worth neither.
MOST_MEGABYTES, MOST_SECONDS = 256, 5


def main() -> None:
    name, folder, *options = sys.argv[1:]
    from fuzz.targets import PACKAGES, target

    os.environ["FERKIT_OFFLINE"] = "1"
    with atheris.instrument_imports(include=list(PACKAGES[name])):
        looked_at = target(name)
        from fuzz import judge
    os.environ["FERKIT_CACHE"] = str(judge.folder() / "cache")

    work = Path(folder)
    for part in ("corpus", "findings", "artifacts"):
        (work / part).mkdir(parents=True, exist_ok=True)
    for seed in looked_at.seeds().values():
        (work / "corpus" / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    (work / "words.dict").write_text("".join(f'"{_quoted(word)}"\n' for word in looked_at.WORDS))
    findings = Findings(work / "findings")

    def once(data: bytes) -> None:
        memory, started = _peak_megabytes(), time.process_time()
        try:
            looked_at.look(data)
        except Exception as problem:
            findings.add(data, problem)
        else:
            grown, seconds = _peak_megabytes() - memory, time.process_time() - started
            if findings.runs and (grown > MOST_MEGABYTES or seconds > MOST_SECONDS):
                findings.add(data, ResourceWarning(f"{grown} MB more, {seconds:.1f} s"))
        findings.runs += 1

    own = ["-dict=" + str(work / "words.dict"), f"-max_len={looked_at.LONGEST}", f"-artifact_prefix={work}/artifacts/"]
    atheris.Setup([sys.argv[0], *own, *options, str(work / "corpus")], once)
    atheris.Fuzz()


class Findings:
    """A folder with one input and one account for every place in the code that something was raised at."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runs = folder, 0

    def add(self, data: bytes, problem: Exception) -> None:
        places = [f"{Path(one.filename).name}:{one.name}" for one in traceback.extract_tb(problem.__traceback__)]
        ours = [
            f"{Path(one.filename).name}:{one.lineno}"
            for one in traceback.extract_tb(problem.__traceback__)
            if "/ferkit/" in one.filename
        ]
        key = [type(problem).__name__, *ours[-1:], *places[-1:]]
        path = self.folder / hashlib.sha1(repr(key).encode(), usedforsecurity=False).hexdigest()[:12]
        kept = path.with_suffix(".bin")
        if kept.exists() and kept.stat().st_size <= len(data):
            return
        kept.write_bytes(data)
        account = "".join(traceback.format_exception(problem))
        path.with_suffix(".json").write_text(json.dumps({"key": key, "account": account[-6000:]}, indent=1))


def _peak_megabytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def _quoted(word: bytes) -> str:
    return "".join(chr(byte) if 32 < byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    main()
