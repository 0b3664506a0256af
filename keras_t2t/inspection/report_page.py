"""The report as an HTML page: no file, font or script from elsewhere."""

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>What $model sees in $image</title>
<style>
  :root { color: #1d2630; background: #f3f5f7; font: 16px/1.5 system-ui, sans-serif; }
  body { max-width: 1080px; margin: 0 auto; padding: 2rem 1rem 4rem; }
  h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; }
  h2 { font-size: 1.2rem; margin: 0 0 .2rem; }
  p { margin: 0 0 .8rem; max-width: 46rem; color: #4c5865; }
  section { background: white; border: 1px solid #dde2e7; border-radius: 12px;
    padding: 1.3rem 1.5rem; margin-top: 1.2rem; }
  section img { width: 100%; display: block; }
  dl { display: flex; flex-wrap: wrap; gap: .2rem 1.6rem; margin: .5rem 0 0; color: #4c5865; }
  dl div { display: flex; gap: .4rem; } dt::after { content: ":"; }
  dd { margin: 0; color: #1d2630; font-weight: 600; }
  .two { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 2rem;
    align-items: center; }
  #image, canvas { max-width: 26rem; border-radius: 6px; image-rendering: $scaling; }
  ol { list-style: none; padding: 0; margin: .6rem 0 0; }
  li { display: grid; grid-template-columns: 10rem 1fr 3.6rem; gap: .7rem; align-items: center;
    padding: .25rem 0; }
  li span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
  li b { text-align: right; font-variant-numeric: tabular-nums; }
  li:not(:first-child) b { font-weight: 400; }
  meter { width: 100%; height: .8rem; }
  canvas { width: 100%; cursor: crosshair; justify-self: end; }
  label { display: flex; gap: .8rem; align-items: center; margin-top: .6rem; }
  input { flex: 1; } output { min-width: 5rem; }
  pre { overflow-x: auto; font-size: .78rem; line-height: 1.45; }
  summary { cursor: pointer; color: #0b62a4; margin-top: .8rem; }
  [hidden] { display: none; }
</style>

<header>
  <h1>What $model sees</h1>
  <dl>
    <div><dt>image</dt><dd>$image</dd></div>
    <div><dt>as the model takes it</dt><dd>$size</dd></div>
    <div><dt>parameters</dt><dd>$parameters</dd></div>
    <div><dt>multiply-accumulates</dt><dd>$macs</dd></div>
  </dl>
</header>

<section>
  <div class="two">
    <img id="image" src="$image_png" alt="the image as the model takes it">
    <div>
      <h2>Prediction</h2>
      <ol>$predictions</ol>
    </div>
  </div>
</section>

<section id="explorer" hidden>
  <div class="two">
    <div>
      <h2>What does this patch look at?</h2>
      <p>Move the pointer over the image: the colours show which patches the one under it attends
        to, in the mean over heads, from none (dark) to most (yellow). Elsewhere, the class
        token, from which the prediction is read, is asked.</p>
      <label>block <input type="range" min="0" value="0"><output></output></label>
      <p><output id="query"></output></p>
    </div>
    <canvas></canvas>
  </div>
</section>

<section>
  <h2>Through all blocks: attention rollout</h2>
  <p>How much of each patch reaches the class token through all blocks and their residual
    connections (Abnar and Zuidema, 2020), beside its attention in the last block alone.</p>
  <img src="$rollout_png" alt="attention rollout drawn over the image">
</section>

<section>
  <h2>Attention of the class token, block by block</h2>
  <p>Mean over heads; each map from its smallest value to its largest.</p>
  <img src="$attention_png" alt="the class token's attention in each encoder block">
</section>

<section>
  <h2>Attention of the class token, head by head</h2>
  <p>The heads of the last block.</p>
  <img src="$heads_png" alt="the class token's attention in each head of the last block">
</section>

<section $stages_hidden>
  <h2>Attention in the Tokens-to-Token stages</h2>
  <p>What the token under the cross attends to. A Performer does not compute its attention; what is
    drawn is the attention that its random features imply.</p>
  <img src="$stages_png" alt="the attention of five tokens in each T2T block">
</section>

<section>
  <h2>Feature maps</h2>
  <p>The first channels of each layer, each from its smallest value (black) to its largest (white);
    dead channels are crossed out in red.</p>
  <img src="$feature_maps_png" alt="channels of each layer as images">
</section>

<section>
  <h2>Dead channels</h2>
  <p>Channels that tell nothing of the image, counted over $counted: zero, constant or, where there
    are several images, fixed, the same map for all of them. What is below 1 % of the layer's
    stronger channels (the 90th percentile) counts as nothing.</p>
  <img src="$dead_channels_png" alt="share of dead channels in each layer">
  <details><summary>as a table</summary><pre>$dead_table</pre></details>
</section>

<section>
  <h2>Cost</h2>
  <p>Parameters and multiply-accumulates (MACs) for one image. Dense MACs are those of linear layers
    and convolutions; MACs are those and the attention's matrix products.</p>
  <details><summary>layer by layer</summary><pre>$cost_table</pre></details>
</section>

<script>
const data = $explorer;
const section = document.querySelector("#explorer");
const canvas = section.querySelector("canvas");
const slider = section.querySelector("input");
const [blockName, queryName] = section.querySelectorAll("output");
const weights = Uint8Array.from(atob(data.weights), c => c.charCodeAt(0));
const patches = data.rows * data.columns;
// Five colours of viridis.
const stops = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const image = document.querySelector("#image");
let query = 0;  // the class token; patches count from one

function color(value) {
  const place = value * 4, index = Math.min(3, Math.floor(place)), part = place - index;
  return stops[index].map((low, i) => Math.round(low + part * (stops[index + 1][i] - low)));
}

function draw() {
  const context = canvas.getContext("2d");
  context.globalAlpha = 1;
  context.imageSmoothingEnabled = image.naturalWidth > 100;
  context.filter = "grayscale(1)";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  context.filter = "none";
  context.globalAlpha = 0.4;
  context.fillStyle = "black";
  context.fillRect(0, 0, canvas.width, canvas.height);
  const wide = canvas.width / data.columns, high = canvas.height / data.rows;
  const start = (slider.valueAsNumber * (patches + 1) + query) * patches;
  for (let patch = 0; patch < patches; patch++) {
    const value = weights[start + patch] / 255;
    context.globalAlpha = 0.2 + 0.6 * value;
    context.fillStyle = "rgb(" + color(value).join() + ")";
    const left = (patch % data.columns) * wide, up = Math.floor(patch / data.columns) * high;
    context.fillRect(left, up, wide, high);
    if (patch + 1 === query) {
      context.globalAlpha = 1;
      context.strokeStyle = "white";
      context.lineWidth = 3;
      context.strokeRect(left + 2, up + 2, wide - 4, high - 4);
    }
  }
  blockName.value = data.blocks[slider.valueAsNumber];
  queryName.value = query
    ? "asked: the patch in row " + (Math.floor((query - 1) / data.columns) + 1) + ", column "
      + ((query - 1) % data.columns + 1)
    : "asked: the class token";
}

canvas.addEventListener("pointermove", event => {
  const box = canvas.getBoundingClientRect();
  const at = (value, count) => Math.max(0, Math.min(count - 1, Math.floor(value * count)));
  query = 1 + at((event.clientY - box.top) / box.height, data.rows) * data.columns
    + at((event.clientX - box.left) / box.width, data.columns);
  draw();
});
canvas.addEventListener("pointerleave", () => { query = 0; draw(); });
slider.addEventListener("input", draw);
slider.max = data.blocks.length - 1;
slider.value = slider.max;
canvas.width = 672;
canvas.height = Math.round(672 * data.aspect);
section.hidden = false;
image.decode().then(draw);
</script>
</html>
"""
