"""Build what runs in a browser without a server: the npm package, into build/web, and the page, into build/site/try.

    python tools/build_web.py

The page is the live page of `ferkit serve`: the same files, but for engine.js, which says where answers come from. Models are
those of the package. ONNX Runtime comes from npm, at the version and with the hashes of web/package-lock.json.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from ferkit.detection.yunet import NAME as YUNET
from ferkit.models.model_folder import find
from ferkit.recognizer import EmotionRecognizer
from ferkit.serve.app import STATIC, about_model

ROOT = Path(__file__).parents[1]
WEB = ROOT / "web"
RUNTIME = WEB / "node_modules" / "onnxruntime-web" / "dist"
MODEL = "default-int8"
# With the build for WebGPU, which is fetched only where it is asked for.
RUNTIME_FILES = (
    "ort.wasm.bundle.min.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.bundle.min.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
# What only the page with a server needs.
SERVER_FILES = ("index.html", "engine.js", "api.js", "stream.js", "encoder.js")
# As the server's own, and WebAssembly, which browsers count as scripts that are compiled as they run.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'"
)
# What the page says where there is no server.
CHANGES = {
    '<meta charset="utf-8">': f'<meta charset="utf-8">\n  <meta http-equiv="Content-Security-Policy" content="{POLICY}">',
    "<title>ferkit live</title>": "<title>Try ferkit in your browser</title>",
    '<a class="quiet wide-only" href="openapi.json">API</a>': '<a class="quiet wide-only" href="../how-to/browser.html">Docs</a>',
    "Pictures go to the computer that runs ferkit. They are processed in memory and not stored.": (
        "Everything runs in this page: no picture and no frame leaves this device. About 7&nbsp;MB are loaded, once."
    ),
    "Frames are processed in memory and not stored.": "No frame leaves this device.",
    ' The API works without it: see <a href="openapi.json">openapi.json</a>.': "",
}


def main() -> int:
    if not fetch_runtime():
        print("Without npm there is no page in build/site/try: install Node.js, then run this again.", file=sys.stderr)
        return 1
    package = build_package(ROOT / "build" / "web")
    page = build_page(ROOT / "build" / "site" / "try")
    print(f"The package is in {package.relative_to(ROOT)}, the page in {page.relative_to(ROOT)}.")
    return 0


def fetch_runtime() -> bool:
    """Whether ONNX Runtime's package is there, after npm was asked for it."""
    if RUNTIME.is_dir():
        return True
    npm = shutil.which("npm")
    if npm is None:
        return False
    words = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0"]
    return subprocess.run(words, cwd=WEB).returncode == 0  # noqa: S603


def build_package(target: Path) -> Path:
    """`npm publish` takes it as it is."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(WEB / "src", target / "src")
    for name in ("package.json", "README.md"):
        shutil.copyfile(WEB / name, target / name)
    shutil.copyfile(ROOT / "LICENSE", target / "LICENSE")
    copy_models(target / "models")
    return target


def build_page(target: Path) -> Path:
    """A folder that any server of files can serve."""
    shutil.rmtree(target, ignore_errors=True)
    static = target / "static"
    shutil.copytree(STATIC, static, ignore=shutil.ignore_patterns(*SERVER_FILES))
    shutil.copyfile(WEB / "page" / "engine.js", static / "engine.js")
    shutil.copytree(WEB / "src", static / "recognizer", ignore=shutil.ignore_patterns("*.d.ts", "index.js"))
    (static / "runtime").mkdir()
    for name in RUNTIME_FILES:
        shutil.copyfile(RUNTIME / name, static / "runtime" / name)
    copy_models(static / "models")
    about = about_model(EmotionRecognizer(MODEL), explanations=[]).model_dump()
    loaded = (*(static / "models").glob("*.onnx"), static / "runtime" / "ort-wasm-simd-threaded.wasm")
    about = {name: about[name] for name in ("classes", "colors", "sensitivity", "explanations", "markdown")}
    about["bytes"] = sum(path.stat().st_size for path in loaded)
    (static / "model.json").write_text(json.dumps(about), encoding="utf-8")
    (target / "index.html").write_text(
        local_page((STATIC / "index.html").read_text(encoding="utf-8")), encoding="utf-8"
    )
    return target


def copy_models(target: Path) -> None:
    target.mkdir()
    shutil.copyfile(find(MODEL), target / "emotions.onnx")
    detection = ROOT / "src" / "ferkit" / "detection"
    shutil.copyfile(detection / YUNET, target / "yunet.onnx")
    shutil.copyfile(detection / "LICENSE.face_detection_yunet", target / "LICENSE.yunet")


def local_page(text: str) -> str:
    """The page of the server as one that runs without it."""
    for before, after in CHANGES.items():
        if text.count(before) != 1:
            raise ValueError(f"index.html must have {before!r} once. Received: {text.count(before)} times.")
        text = text.replace(before, after)
    return text


if __name__ == "__main__":
    sys.exit(main())
