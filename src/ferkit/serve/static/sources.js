// Where pictures come from: the camera, or files that were chosen, dropped or pasted.

const WIDEST_SENT = 640;
const QUALITY = 0.8;
const LARGEST_SIDE = 2560;

export class CameraProblem extends Error {
  constructor(title, text, canRetry = true) {
    super(text);
    this.title = title;
    this.canRetry = canRetry;
  }
}

export async function openCamera(deviceId) {
  if (!window.isSecureContext || !navigator.mediaDevices?.getUserMedia) {
    throw new CameraProblem(
      "No camera on this address",
      "Browsers lend the camera only to https:// and to this machine itself (http://localhost). Pictures and videos work here too.",
      false,
    );
  }
  const video = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
  if (deviceId) video.deviceId = { exact: deviceId };
  else video.facingMode = "user";
  try {
    return await navigator.mediaDevices.getUserMedia({ video, audio: false });
  } catch (problem) {
    throw new CameraProblem(...(REASONS[problem.name] ?? ["The camera does not start", `The browser says: ${problem.message || problem.name}.`]));
  }
}

const REASONS = {
  NotAllowedError: ["The camera is not allowed", "Allow it in the address bar of your browser, then try again. Pictures and videos work without it."],
  NotFoundError: ["No camera found", "Plug one in and try again, or choose pictures or a video."],
  OverconstrainedError: ["That camera is gone", "Try again, or choose another one."],
  NotReadableError: ["The camera is busy", "Another program may be using it. Close that and try again."],
};

export async function cameras() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.filter((device) => device.kind === "videoinput" && device.deviceId);
}

// Whether the picture looks at who sits in front of it, and so is shown as a mirror does.
export function isSelfie(stream) {
  return stream.getVideoTracks()[0]?.getSettings().facingMode !== "environment";
}

// Calls `take` for each new frame of a video, until the function that it returns is called.
export function everyFrame(video, take) {
  let handle = 0;
  const next = () => {
    handle = video.requestVideoFrameCallback ? video.requestVideoFrameCallback(step) : requestAnimationFrame(step);
  };
  const step = () => {
    take();
    next();
  };
  next();
  return () => (video.cancelVideoFrameCallback ?? cancelAnimationFrame).call(video.cancelVideoFrameCallback ? video : window, handle);
}

// A frame as JPEG, small enough to be on its way in no time.
export async function encodeFrame(video) {
  const scale = Math.min(1, WIDEST_SENT / Math.max(video.videoWidth, video.videoHeight));
  const [width, height] = [Math.max(1, Math.round(video.videoWidth * scale)), Math.max(1, Math.round(video.videoHeight * scale))];
  if (encoder === undefined) encoder = startEncoder();
  if (encoder === null) return encodeHere(video, width, height);
  try {
    const frame = await createImageBitmap(video, { resizeWidth: width, resizeHeight: height });
    return await new Promise((resolve, reject) => {
      encoder.onmessage = (event) => resolve(event.data);
      encoder.onerror = reject;
      encoder.postMessage({ frame, quality: QUALITY }, [frame]);
    });
  } catch {
    encoder = null; // older browsers lack a part of it
    return encodeHere(video, width, height);
  }
}

let encoder;

// On a thread of its own: `toBlob` waits until the page has nothing else to do, which may take half a second.
function startEncoder() {
  return window.OffscreenCanvas && window.Worker ? new Worker(new URL("encoder.js", import.meta.url)) : null;
}

const small = document.createElement("canvas");

function encodeHere(video, width, height) {
  if (small.width !== width || small.height !== height) Object.assign(small, { width, height });
  small.getContext("2d", { alpha: false }).drawImage(video, 0, 0, width, height);
  return new Promise((resolve) => small.toBlob(resolve, "image/jpeg", QUALITY));
}

// The file itself, or where it is larger than any face needs a smaller copy.
export async function shrunk(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return file; // the server may know more kinds than the browser
  }
  const scale = LARGEST_SIDE / Math.max(bitmap.width, bitmap.height);
  if (scale >= 1) {
    bitmap.close();
    return file;
  }
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [Math.max(1, Math.round(bitmap.width * scale)), Math.max(1, Math.round(bitmap.height * scale))];
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
}

// What a video shows now: { blob, size }.
export async function still(video) {
  const size = [video.videoWidth, video.videoHeight];
  const canvas = Object.assign(document.createElement("canvas"), { width: size[0], height: size[1] });
  canvas.getContext("2d", { alpha: false }).drawImage(video, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  return { blob, size };
}

export const isVideo = (file) => file.type.startsWith("video/") || /\.(mp4|webm|mov|mkv|m4v|avi)$/i.test(file.name);
