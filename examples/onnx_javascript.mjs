// Restyle a picture in JavaScript: node onnx_javascript.mjs solver.onnx photo.jpg painting.jpg out.png
// npm install onnxruntime-node sharp. In a browser: onnxruntime-web, and pixels from a canvas.
import * as ort from "onnxruntime-node";
import sharp from "sharp";

const [model, photo, painting, output] = process.argv.slice(2);
const { Tensor, InferenceSession } = ort.default ?? ort;

async function read(picture) {
  const { data, info } = await picture.rotate().removeAlpha().toColourspace("srgb").raw().toBuffer({ resolveWithObject: true });
  const n = info.width * info.height; // interleaved bytes become planes in [0, 1]
  const planes = Float32Array.from({ length: 3 * n }, (_, i) => data[3 * (i % n) + Math.floor(i / n)] / 255);
  return new Tensor("float32", planes, [1, 3, info.height, info.width]);
}

const content = await read(sharp(photo));
const longest = Math.max(...content.dims); // strokes are as large as the style is beside the photograph
const style = await read(sharp(painting).resize(longest, longest, { fit: "inside" }));
const { image } = await (await InferenceSession.create(model)).run({ content, style });
const [, , height, width] = image.dims;
const bytes = Uint8Array.from(image.data, (_, i) => Math.round(255 * image.data[(i % 3) * height * width + Math.floor(i / 3)]));
await sharp(bytes, { raw: { width, height, channels: 3 } }).toFile(output);
