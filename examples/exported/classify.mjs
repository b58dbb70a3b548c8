// Classify PNG files with an exported network, by onnxruntime-web (WebAssembly), as a browser does it.
//
//     npm install onnxruntime-web pngjs
//     node classify.mjs net.onnx classes.txt photo.png …
//
// In a browser the pixels come from a canvas, getImageData(0, 0, width, height).data, four bytes a pixel as here; what is
// drawn there stands upright already, as a photo's EXIF says.
import { readFileSync } from "node:fs";
import { PNG } from "pngjs";
import * as ort from "onnxruntime-web";

const [file, names, ...pictures] = process.argv.slice(2);
const classes = readFileSync(names, "utf8").trimEnd().split("\n");
const session = await ort.InferenceSession.create(readFileSync(file));
const channels = session.inputMetadata?.[0]?.shape?.at(-1) ?? 3;

for (const name of pictures) {
  const { width, height, data } = PNG.sync.read(readFileSync(name));
  const bytes = new Uint8Array(height * width * channels);
  for (let pixel = 0; pixel < height * width; pixel++) {
    const alpha = data[4 * pixel + 3]; // what is transparent lies over white
    const colors = [...data.subarray(4 * pixel, 4 * pixel + 3)];
    const [red, green, blue] = colors.map((value) => Math.round((value * alpha + 255 * (255 - alpha)) / 255));
    // Gray as Pillow makes it of colors, in whole numbers.
    if (channels === 1) bytes[pixel] = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16;
    else bytes.set([red, green, blue], 3 * pixel);
  }
  const image = new ort.Tensor("uint8", bytes, [1, height, width, channels]);
  const { probabilities } = await session.run({ image });
  const values = [...probabilities.data];
  const best = values.indexOf(Math.max(...values));
  console.log(`${name} ${classes[best]} ${values[best].toFixed(6)}`);
}
