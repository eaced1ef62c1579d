// What a model file says of itself: `ferkit export` writes the card into the metadata of the ONNX file.

const METADATA = 14; // ModelProto.metadata_props

/** The card inside an ONNX file that `ferkit export` wrote. */
export function readCard(bytes) {
  for (const [field, content] of fields(bytes)) {
    if (field !== METADATA) continue;
    const entry = new Map(fields(content));
    const [key, value] = [1, 2].map((number) => new TextDecoder().decode(entry.get(number)));
    if (key === "ferkit") return checked(JSON.parse(value));
  }
  throw new TypeError("The model has no card. Expected an ONNX file that `ferkit export` wrote.");
}

function checked(card) {
  if ((card.pixel_scale ?? 1) !== 1) throw new TypeError(`The model takes pixels in another scale (${card.pixel_scale}). Expected a network that scales them itself.`);
  return { temperature: 1, temperature_inside: 1, sensitivity_inside: 0, ...card };
}

// The length-delimited fields of a protobuf message: [number, bytes].
function* fields(bytes) {
  let at = 0;
  const number = () => {
    let [value, times] = [0, 1];
    for (;;) {
      const byte = bytes[at++];
      value += (byte & 127) * times;
      if (byte < 128) return value;
      times *= 128;
    }
  };
  while (at < bytes.length) {
    const tag = number();
    const kind = tag & 7;
    if (kind === 0) number();
    else if (kind === 2) {
      const length = number();
      yield [Math.floor(tag / 8), bytes.subarray(at, at + length)];
      at += length;
    } else at += kind === 1 ? 8 : 4;
  }
}
