// A page that classifies the image dropped on it, with a model that `keras-t2t export` wrote.

import * as ort from "./vendor/ort.wasm.min.mjs";
import { resize } from "./resize.js";

const TOP = 5;
const $ = (id) => document.getElementById(id);

ort.env.wasm.wasmPaths = new URL("vendor/", import.meta.url).href;
ort.env.wasm.numThreads = 1; // Threads would need headers that plain static servers do not send.

const ready = load();

async function fetchFile(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: ${response.status} ${response.statusText}`);
  return response;
}

async function load() {
  const [about, model] = await Promise.all([fetchFile("model.json"), fetchFile("model.onnx")]);
  const bytes = new Uint8Array(await model.arrayBuffer());
  return [await about.json(), await ort.InferenceSession.create(bytes)];
}

// The size an image is resized to before its centre is cut out, as keras_t2t.Preprocessing has it.
function coveringSize({ width, height }, target) {
  if (target.crop_fraction === null) return [target.width, target.height];
  const across = Math.floor(target.width / target.crop_fraction);
  const down = Math.floor(target.height / target.crop_fraction);
  return width * down <= height * across
    ? [across, Math.trunc((across * height) / width)]
    : [Math.trunc((down * width) / height), down];
}

function roundHalfToEven(value) {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** What the model takes: uint8 pixels, (1, height, width, channels). */
function preprocess(image, target) {
  const channels = target.mean.length;
  if (channels === 1) image = grey(image);
  const resized = resize(image, ...coveringSize(image, target), target.interpolation);
  const left = roundHalfToEven((resized.width - target.width) / 2);
  const top = roundHalfToEven((resized.height - target.height) / 2);
  const pixels = new Uint8Array(target.height * target.width * channels);
  for (let row = 0, to = 0; row < target.height; row++) {
    for (let column = 0; column < target.width; column++) {
      const from = 4 * ((top + row) * resized.width + left + column);
      for (let channel = 0; channel < channels; channel++) pixels[to++] = resized.data[from + channel];
    }
  }
  return new ort.Tensor("uint8", pixels, [1, target.height, target.width, channels]);
}

// Brightness as Pillow's mode L has it (ITU-R 601-2, in 16 bits), in all channels.
function grey({ data, width, height }) {
  const result = new Uint8ClampedArray(data);
  for (let i = 0; i < data.length; i += 4) {
    const brightness = (19595 * data[i] + 38470 * data[i + 1] + 7471 * data[i + 2] + 0x8000) >> 16;
    result.fill(brightness, i, i + 3);
  }
  return { data: result, width, height };
}

async function decode(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    throw new Error(`${file.name}: not an image that this browser can read`);
  }
  const canvas = $("image");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

async function classify(file) {
  say("Classifying …");
  $("classes").replaceChildren();
  try {
    const [about, session] = await ready;
    const image = await decode(file);
    $("image").hidden = false;
    $("hint").hidden = true;
    const input = preprocess(image, about.preprocessing);
    const start = performance.now();
    const outputs = await session.run({ [session.inputNames[0]]: input });
    const milliseconds = performance.now() - start;
    show(outputs[session.outputNames[0]].data, about.labels);
    say(`${file.name}, ${Math.round(milliseconds)} ms`);
  } catch (error) {
    say(error.message, "error");
  }
}

function show(probabilities, labels) {
  const best = Array.from(probabilities, (probability, index) => ({ probability, index }))
    .sort((a, b) => b.probability - a.probability)
    .slice(0, TOP);
  for (const { probability, index } of best) {
    const line = document.createElement("li");
    const [name, value, bar, filled] = ["span", "span", "div", "div"].map((tag) =>
      document.createElement(tag),
    );
    name.textContent = labels[index];
    value.textContent = `${(100 * probability).toFixed(1)} %`;
    bar.className = "bar";
    filled.style.width = `${100 * probability}%`;
    bar.append(filled);
    line.dataset.class = index;
    line.dataset.probability = probability;
    line.append(name, value, bar);
    $("classes").append(line);
  }
}

function say(text, kind = "") {
  $("status").textContent = text;
  $("status").className = kind;
}

const drop = $("drop");
drop.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) classify(file);
});
$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  if (file) classify(file);
});

ready.then(
  () => say("Ready."),
  (error) => say(error.message, "error"),
);
