/** What a canvas can draw, a file, or pixels. */
export type Image = Blob | ImageData | CanvasImageSource;

/** Columns x1 to x2 and rows y1 to y2 in pixels, the last ones excluded. */
export type Box = [x1: number, y1: number, x2: number, y2: number];
export type Point = [x: number, y: number];

export interface Face {
  box: Box;
  /** Right eye, left eye, nose tip, right and left corner of the mouth: right and left of the person. */
  landmarks: Point[];
  /** Degrees by which the head leans clockwise. */
  roll: number;
  /** 0 to 1. Ranks faces, and is no probability. */
  detection_score: number;
  /** The most probable class, or "uncertain" below `minConfidence`. */
  label: string;
  confidence: number;
  /** Class -> probability, in the model's order; they sum to 1. */
  probabilities: Record<string, number>;
}

export interface PictureResult {
  width: number;
  height: number;
  /** From left to right; empty where no face is found. */
  faces: Face[];
}

export interface TrackedFace extends Face {
  /** The number of the person: 1, 2, 3, ... in order of appearance. */
  track: number;
  /** Probabilities of this frame alone; `probabilities` are smoothed over time. */
  raw: Record<string, number>;
}

export interface FrameResult extends PictureResult {
  faces: TrackedFace[];
  /** Where people should be who were missed for a moment. Blur these too. */
  hidden: Box[];
}

export interface Settings {
  /** How readily rare expressions are predicted, 0 to 1. */
  sensitivity?: number;
  /** A face whose best class stays below is "uncertain". */
  minConfidence?: number;
}

export interface Picture {
  readonly width: number;
  readonly height: number;
}

export interface Follower {
  /** Frames one after the other, each awaited. seconds: since any moment; they should rise. */
  next(frame: Picture, seconds: number, settings?: Settings): Promise<FrameResult>;
  /** The next frame has nothing to do with those before. */
  reset(): void;
}

export interface Recognizer {
  readonly classes: string[];
  /** What the model says of itself, as `ferkit export` wrote it. */
  readonly card: Record<string, unknown>;
  readonly device: "wasm" | "webgpu";
  readonly sensitivity: number | null;
  recognize(image: Image, settings?: Settings): Promise<PictureResult>;
  follow(settings?: { timeConstantS?: number; maxGapS?: number }): Follower;
  close(): Promise<void>;
}

export interface Options {
  /** ONNX file that `ferkit export --format onnx` or `onnx-int8` wrote; the packaged model if left out. */
  model?: string | URL | ArrayBuffer;
  detector?: string | URL | ArrayBuffer;
  /** `onnxruntime-web`, where it is loaded already. */
  runtime?: unknown;
  /** "webgpu" is taken where the browser has it, and its runtime fetched only then. Usually "wasm". */
  device?: "wasm" | "webgpu";
  /** More than one needs a page that is cross-origin isolated. Usually 1. */
  threads?: number;
  sensitivity?: number;
  /** How many bytes of the models have come. */
  onProgress?: (bytes: number) => void;
}

export function createRecognizer(options?: Options): Promise<Recognizer>;

/** The faces of a picture and the emotions they are perceived to show, by the packaged model. */
export function recognize(image: Image, settings?: Settings): Promise<PictureResult>;

/** A frame for `Follower.next`. */
export function readPicture(image: Image): Promise<Picture>;
