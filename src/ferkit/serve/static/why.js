// Why this emotion: which places of a face speak for it, asked for one person at a time.

import { explain } from "./engine.js";
import { shrunk, still } from "./sources.js";

export class Why {
  // onShow({ state, person, method, heat, problem }): "asking", "shown", "failed", or "none" with nothing else.
  constructor(people, stage, { onShow }) {
    Object.assign(this, { people, stage, onShow });
    this.turn = 0;
    this.track = null;
    this.paused = false; // whether it was us who stopped the picture
    for (const event of ["play", "seeking"]) stage.video.addEventListener(event, () => this.clear());
  }

  clear() {
    this.turn += 1;
    this.paused = false;
    if (this.track === null) return;
    this.track = null;
    this.stage.heat = null;
    this.stage.paintedAt = 0;
    this.onShow({ state: "none" });
  }

  // As `clear`, but a picture that was stopped for the question goes on.
  close() {
    const goOn = this.paused;
    this.clear();
    if (goOn) this.stage.video.play().catch(() => {});
  }

  // file: of the picture, where it is one that was chosen. size: that of the picture in which boxes were found.
  async ask(person, method, { file, size }) {
    const paused = this.paused;
    this.clear();
    const { video, mode } = this.stage;
    const turn = this.turn;
    this.track = person.track;
    this.paused = paused;
    if (mode !== "picture" && !video.paused) {
      video.pause();
      this.paused = true;
    }
    this.onShow({ state: "asking", person, method });
    try {
      const picture = mode === "picture" ? { blob: await shrunk(file), size } : await still(video);
      const [x1, y1, x2, y2] = person.box;
      const [x, y] = [((x1 + x2) / 2) * picture.size[0], ((y1 + y2) / 2) * picture.size[1]];
      const answer = await explain(picture.blob, { x, y, method });
      if (turn !== this.turn) return; // something else is looked at by now
      this.stage.heat = { ...answer.faces[0], size: [answer.width, answer.height], ramp: answer.ramp };
      this.stage.paintedAt = 0;
      this.onShow({ state: "shown", person, method, heat: this.stage.heat });
    } catch (problem) {
      if (turn === this.turn) this.onShow({ state: "failed", person, method, problem });
    }
  }
}
