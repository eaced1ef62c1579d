"""How fast the recognizer for browsers is: CPU time of a frame of 640x360 with one face, in Chromium.

    make web
    python benchmarks/browser.py

CPU time of the one thread it takes, so that other programs matter less; and the compressed size of what a visitor fetches.
"""

import functools
import gzip
import http.server
import shutil
import threading
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import sync_playwright

from ferkit.models import sample_picture
from ferkit.sources import read_image

TRY = Path(__file__).parents[1] / "build" / "site" / "try"
FRAMES = 150
SET_UP = """async (frame) => {
    const load = (name) => import(`./static/${name}.js`);
    const runtime = await import("./static/runtime/ort.wasm.bundle.min.mjs");
    const { createRecognizer } = await load("recognizer/recognizer");
    const { readPicture } = await load("recognizer/pictures");
    const models = { model: "static/models/emotions.onnx", detector: "static/models/yunet.onnx" };
    const follower = (await createRecognizer({ runtime, ...models })).follow();
    const bitmap = await createImageBitmap(await (await fetch(frame)).blob());
    let time = 0;
    window.run = async (count) => {
        const spent = [];
        for (let k = 0; k < count; k += 1) {
            const before = performance.now();
            const { faces } = await follower.next(await readPicture(bitmap), time += 0.05);
            spent.push(performance.now() - before);
            if (faces.length !== 1) throw new Error(`${faces.length} faces`);
        }
        return spent;
    };
    await run(50);
}"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


def frame() -> str:
    canvas = np.full((360, 640, 3), (52, 58, 66), np.uint8)
    portrait = read_image(sample_picture())[:400, 60:460]
    canvas[15:345, 150:480] = cv2.resize(portrait, (330, 330), interpolation=cv2.INTER_AREA)
    (TRY / "frame.png").write_bytes(cv2.imencode(".png", canvas[..., ::-1])[1].tobytes())
    return "frame.png"


def main() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(TRY))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        program = shutil.which("chromium") or shutil.which("google-chrome")
        with (
            sync_playwright() as driver,
            driver.chromium.launch(executable_path=program, args=["--no-sandbox"]) as browser,
        ):
            fetched = []
            page = browser.new_page()
            page.on("response", lambda answer: fetched.append(answer.url.rpartition(f":{server.server_port}/")[2]))
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            page.evaluate(SET_UP, frame())
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable", {"timeDomain": "threadTicks"})

            def cpu_seconds() -> float:
                metrics = session.send("Performance.getMetrics")["metrics"]
                return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))

            before = cpu_seconds()
            spent = sorted(page.evaluate("(count) => run(count)", FRAMES))
            cpu = 1000 * (cpu_seconds() - before) / FRAMES
        server.shutdown()
    files = {name or "index.html" for name in fetched} - {"frame.png"}
    size = sum(len(gzip.compress((TRY / name).read_bytes(), 9)) for name in files if (TRY / name).is_file())
    print(f"CPU time {cpu:.0f} ms a frame ({1000 / cpu:.0f} frames/s); wall {spent[0]:.0f} to {spent[-1]:.0f} ms, median "
          f"{spent[len(spent) // 2]:.0f} ms. Fetched: {len(files)} files, {size / 1e6:.1f} MB with gzip.")  # fmt: skip


if __name__ == "__main__":
    main()
