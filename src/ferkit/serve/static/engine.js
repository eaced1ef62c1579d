// Where the answers come from: here, the server. The page that runs without one has another file of this name, web/page/engine.js.

export { askForKey, explain, loadModel, predict, setSensitivity } from "./api.js";
export { LiveStream } from "./stream.js";
