// Pictures that were chosen: looked at one after the other, shown one at a time.

import { predict } from "./engine.js";

export class Gallery {
  // onShow(entry): this one is to be seen.
  constructor(root, { onShow }) {
    Object.assign(this, { root, onShow });
    this.entries = [];
    this.current = null;
    root.addEventListener("keydown", (event) => this.#walk(event));
  }

  clear() {
    for (const entry of this.entries) URL.revokeObjectURL(entry.url);
    this.entries = [];
    this.current = null;
    this.root.replaceChildren();
    this.root.hidden = true;
  }

  async add(files) {
    const added = files.map((file) => this.#entry(file));
    this.root.hidden = this.entries.length < 2;
    this.show(added[0]);
    await this.#predict(added);
  }

  // Predict them again: the sensitivity has changed.
  again() {
    return this.#predict(this.entries);
  }

  async #predict(entries) {
    const turn = this.turn = {};
    for (const entry of entries) {
      if (!this.entries.includes(entry) || turn !== this.turn) return; // others were chosen meanwhile
      try {
        entry.result = await predict(entry.file);
        entry.count.textContent = String(entry.result.faces.length);
      } catch (problem) {
        entry.problem = problem.message;
        entry.count.textContent = "!";
      }
      if (entry === this.current) this.onShow(entry);
    }
  }

  show(entry) {
    this.current = entry;
    for (const one of this.entries) one.button.setAttribute("aria-current", String(one === entry));
    this.onShow(entry);
  }

  #entry(file) {
    const entry = { file, url: URL.createObjectURL(file), result: null, problem: null };
    const button = document.createElement("button");
    button.type = "button";
    button.className = "thumb";
    button.setAttribute("aria-label", file.name || "pasted picture");
    const image = Object.assign(document.createElement("img"), { src: entry.url, alt: "" });
    image.addEventListener("error", () => image.hidden = true); // a kind that only the server knows, or none at all
    entry.count = Object.assign(document.createElement("span"), { textContent: "\u2026" });
    button.append(image, entry.count);
    button.addEventListener("click", () => this.show(entry));
    entry.button = button;
    const item = document.createElement("li");
    item.append(button);
    this.root.append(item);
    this.entries.push(entry);
    return entry;
  }

  #walk(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const next = this.entries[this.entries.indexOf(this.current) + step];
    if (!step || !next) return;
    event.preventDefault();
    this.show(next);
    next.button.focus();
  }
}
