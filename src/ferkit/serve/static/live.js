// A camera or a video, its frames on their way to the engine, and the answers that come back.

import { LiveStream } from "./engine.js";
import { everyFrame, isSelfie, openCamera } from "./sources.js";

const FIGURES_OVER_S = 2;

export class Live {
  // onState(state, text), onUnplugged(), onPlayed(): the video has come to its end.
  constructor(people, stage, { onState, onUnplugged, onAnswer }) {
    Object.assign(this, { people, stage, onState, onUnplugged, onAnswer });
    this.video = stage.video;
    this.stopFrames = null;
    this.media = null;
    this.turn = 0;
    this.url = "";
    this.capturing = false;
    this.answers = [];
    this.stream = new LiveStream({
      onAnswer: (answer, capturedAt) => this.#take(answer, capturedAt),
      onState: (state, text) => {
        if (state === "open") people.clear(); // a new connection counts people from one
        onState(state, text);
      },
    });
    this.video.addEventListener("seeking", () => this.#jump());
  }

  get running() {
    return this.stopFrames !== null;
  }

  async startCamera(deviceId) {
    const turn = this.turn;
    const media = await openCamera(deviceId);
    if (turn !== this.turn) { // another source was taken while the browser asked
      media.getTracks().forEach((track) => track.stop());
      throw new DOMException("Too late.", "AbortError");
    }
    this.stop();
    this.media = media;
    const [track] = media.getVideoTracks();
    track.addEventListener("ended", () => {
      if (this.media !== media) return; // stopped by us, or another one runs by now
      this.stop();
      this.onUnplugged();
    });
    this.video.srcObject = media;
    this.stage.show("camera", { mirrored: isSelfie(media) });
    await this.#start();
    return track.getSettings().deviceId;
  }

  async startVideo(file) {
    this.stop();
    this.url = URL.createObjectURL(file);
    this.video.src = this.url;
    this.stage.show("video");
    await this.#start();
  }

  async #start() {
    this.people.clear();
    this.stream.open();
    this.stream.reset();
    await this.video.play();
    this.stopFrames = everyFrame(this.video, () => this.#send());
  }

  stop() {
    this.turn += 1;
    this.stopFrames?.();
    this.stopFrames = null;
    this.media?.getTracks().forEach((track) => track.stop());
    this.media = null;
    this.video.pause();
    this.video.srcObject = null;
    this.video.removeAttribute("src");
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = "";
    this.stream.close();
    this.answers = [];
  }

  async #send() {
    this.stream.wake();
    if (this.capturing || !this.stream.ready || !this.video.videoWidth || document.hidden) return;
    this.capturing = true;
    const capturedAt = performance.now();
    const { generation } = this.stream;
    try {
      const frame = await this.stream.capture(this.video);
      if (frame && this.running) this.stream.send(frame, capturedAt, generation);
    } finally {
      this.capturing = false;
    }
  }

  #take(answer, capturedAt) {
    if (!this.running) return;
    if (answer.type === "error") {
      this.onState("open", answer.message);
      return;
    }
    const now = performance.now();
    this.people.take(answer, now / 1000);
    this.answers.push({ at: now, took: now - (capturedAt ?? now) });
    while (now - this.answers[0].at > 1000 * FIGURES_OVER_S) this.answers.shift();
    this.onAnswer();
  }

  // How many answers a second, and how old a frame is when its answer is there (median, ms).
  get figures() {
    if (this.answers.length < 3) return null;
    const took = this.answers.map((one) => one.took).sort((a, b) => a - b);
    const span = (this.answers.at(-1).at - this.answers[0].at) / 1000;
    return { rate: (this.answers.length - 1) / span, ms: took[took.length >> 1] };
  }

  #jump() {
    if (this.stage.mode !== "video" || !this.running) return;
    this.people.clear();
    this.stream.reset();
  }
}
