// The live stream: frames out, faces in. At most two frames are in flight, so responses are never old.

import { askForKey, predicting, subprotocols } from "./api.js";
import { encodeFrame } from "./sources.js";

const MOST_ON_THE_WAY = 2;
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 8000;
const IDLE = 1000;
const WRONG_KEY = 4401;
const TRY_LATER = 1013;

function streamAddress() {
  const url = predicting("v1/stream");
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url;
}

export class LiveStream {
  // onAnswer(answer, capturedAt), onState("connecting" | "open" | "waiting" | "closed", text)
  constructor({ onAnswer, onState }) {
    this.onAnswer = onAnswer;
    this.onState = onState;
    this.socket = null;
    this.wanted = false;
    this.retryMs = FIRST_RETRY_MS;
    this.timer = 0;
    this.asleep = false;
    this.sent = 0;
    this.sentBefore = 0; // frames from before the last reset
    this.generation = 0; // number of resets
    this.onTheWay = new Map();
    this.reason = "";
  }

  open() {
    this.wanted = true;
    if (!this.socket && !this.timer) this.#connect();
  }

  close() {
    this.wanted = false;
    clearTimeout(this.timer);
    this.timer = 0;
    this.socket?.close(1000);
    this.socket = null;
    this.onTheWay.clear();
    this.onState("closed", "");
  }

  // With what has changed since in the address.
  reopen() {
    if (!this.wanted || this.asleep || !this.socket || this.socket.url === streamAddress().href) return;
    if (this.socket.readyState === WebSocket.CONNECTING) { // browsers complain of one that is closed before
      this.socket.addEventListener("open", () => this.reopen(), { once: true });
      return;
    }
    this.close();
    this.open();
  }

  // The server closes idle streams; the next frame opens a new one.
  wake() {
    if (this.wanted && this.asleep) this.#connect();
  }

  get ready() {
    return this.socket?.readyState === WebSocket.OPEN && this.onTheWay.size < MOST_ON_THE_WAY;
  }

  // The next frame has nothing to do with those before: another video, another place in it.
  reset() {
    this.sentBefore = this.sent;
    this.generation += 1;
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send('{"type":"reset"}');
  }

  // What `send` takes of a video.
  capture(video) {
    return encodeFrame(video);
  }

  // generation: that of the capture. A frame from before a reset, still encoded when it came, is not sent after it.
  send(blob, capturedAt, generation) {
    if (!this.ready || generation !== this.generation) return;
    this.sent += 1;
    this.onTheWay.set(this.sent, capturedAt);
    this.socket.send(blob);
  }

  #connect() {
    this.timer = 0;
    this.asleep = false;
    this.onState("connecting", "Connecting");
    const socket = new WebSocket(streamAddress(), subprotocols());
    this.socket = socket;
    this.sent = this.sentBefore = 0;
    this.onTheWay.clear();
    this.reason = "";
    socket.addEventListener("message", (event) => this.#take(socket, JSON.parse(event.data)));
    socket.addEventListener("close", (event) => this.#lost(socket, event));
  }

  #take(socket, answer) {
    if (socket !== this.socket) return;
    if (answer.type === "hello") {
      this.retryMs = FIRST_RETRY_MS;
      this.onState("open", "Live");
      return;
    }
    if (answer.frame === null) {
      this.reason = answer.message; // why it closes now
      return;
    }
    const capturedAt = this.onTheWay.get(answer.frame);
    // Frames before it were dropped for newer ones: no answer to them will come.
    for (const number of this.onTheWay.keys()) if (number <= answer.frame) this.onTheWay.delete(number);
    if (answer.frame > this.sentBefore) this.onAnswer(answer, capturedAt);
  }

  async #lost(socket, event) {
    if (socket !== this.socket) return;
    this.socket = null;
    this.onTheWay.clear();
    if (!this.wanted) return;
    if (event.code === WRONG_KEY) {
      await askForKey();
      if (this.wanted) this.#connect();
      return;
    }
    if (event.code === IDLE) {
      this.asleep = true;
      this.onState("closed", "");
      return;
    }
    const why = event.code === TRY_LATER ? this.reason || "All live streams are in use."
      : event.code === 1001 ? "The server was stopped."
      : "The server does not answer.";
    const seconds = Math.max(1, Math.round(this.retryMs / 1000));
    this.onState("waiting", `${why} Trying again in ${seconds} s.`);
    this.timer = setTimeout(() => this.#connect(), this.retryMs);
    this.retryMs = Math.min(this.retryMs * 2, LAST_RETRY_MS);
  }
}
