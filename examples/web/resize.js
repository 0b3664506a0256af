// Resizing as Pillow does it, to the last bit: the browser's own has another kernel, and the model
// would see other pixels than in training. (Where the height shrinks much more than the width,
// Pillow 13 takes the height first; images that keep their aspect ratio are not concerned.)

const KERNELS = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    support: 2,
    weight(x) {
      const a = -0.5;
      const d = Math.abs(x);
      if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
      return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
    },
  },
};
const ONE = 2 ** 22; // Pillow's weights are fixed-point numbers with 22 bits behind the point.

/**
 * Resizes an opaque image, width first, then height, rounding after each.
 *
 * @param {ImageData | {data: Uint8ClampedArray, width: number, height: number}} image
 * @param {"bilinear" | "bicubic"} interpolation
 * @returns {{data: Uint8ClampedArray, width: number, height: number}} RGBA too
 */
export function resize({ data, width, height }, newWidth, newHeight, interpolation) {
  if (newWidth !== width) {
    const lines = { count: height, step: 4 * width, newStep: 4 * newWidth };
    data = resizeLines(data, windows(width, newWidth, KERNELS[interpolation]), lines, 4);
  }
  if (newHeight !== height) {
    const lines = { count: newWidth, step: 4, newStep: 4 };
    data = resizeLines(data, windows(height, newHeight, KERNELS[interpolation]), lines, 4 * newWidth);
  }
  return { data, width: newWidth, height: newHeight };
}

// For each output position the first input position that it reads, and its weights.
function windows(size, newSize, kernel) {
  const scale = size / newSize;
  const stretch = Math.max(scale, 1); // Antialiasing: where it shrinks, it reads further.
  const support = kernel.support * stretch;
  return Array.from({ length: newSize }, (_, position) => {
    const center = (position + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const end = Math.min(size, Math.trunc(center + support + 0.5));
    const weights = [];
    for (let i = first; i < end; i++) weights.push(kernel.weight((i - center + 0.5) * (1 / stretch)));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { first, weights: weights.map((weight) => roundHalfUp((weight / sum) * ONE)) };
  });
}

function roundHalfUp(value) {
  return Math.trunc(value + 0.5 * Math.sign(value));
}

function resizeLines(data, table, lines, step) {
  const result = new Uint8ClampedArray(lines.count * table.length * 4);
  for (let line = 0; line < lines.count; line++) {
    table.forEach(({ first, weights }, position) => {
      const from = line * lines.step + first * step;
      const to = line * lines.newStep + position * step;
      for (let channel = 0; channel < 4; channel++) {
        let sum = ONE / 2;
        for (let i = 0; i < weights.length; i++) sum += weights[i] * data[from + channel + i * step];
        result[to + channel] = Math.floor(sum / ONE);
      }
    });
  }
  return result;
}
