// The geometry of Saliency Swap, as in cvsa/views/swap.py and resample.py; a test holds the two together.
// No DOM here. A picture is {height, width, channels: [Float32Array, ...]}, values in [0, 1], row by row.
const SaliencySwap = (() => {
  "use strict";
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  // The box x1, y1, x2, y2 within the image; the whole image where nothing of it is left.
  function cleanBox(box, height, width) {
    const limit = [width, height, width, height];
    const [x1, y1, x2, y2] = box.map((value, i) => Math.min(Math.max(value, 0), limit[i]));
    return x2 > x1 && y2 > y1 ? [x1, y1, x2, y2] : [0, 0, width, height];
  }

  // A crop inside the box. draws: four numbers in [0, 1), of its area, its aspect and its place along x and y.
  function boxCrop(box, scale, draws, ratio = [3 / 4, 4 / 3]) {
    const area = scale + (1 - scale) * draws[0];
    const bound = -Math.log(area);
    const [low, high] = ratio.map((value) => clamp(Math.log(value), -bound, bound));
    const aspect = Math.exp(low + draws[1] * (high - low));
    const share = [Math.sqrt(area * aspect), Math.sqrt(area / aspect)].map((value) => Math.min(value, 1));
    const first = [0, 1].map((i) => box[i] + draws[2 + i] * (1 - share[i]) * (box[2 + i] - box[i]));
    const last = [0, 1].map((i) => Math.min(first[i] + share[i] * (box[2 + i] - box[i]), box[2 + i]));
    return [...first, ...last];
  }

  // Where the crop goes: the background's box in pixels of the view, rounded outward. In single precision,
  // as in Python, so that both round alike.
  function destination(box, height, width, size) {
    const scaled = box.map((value, i) => Math.fround(Math.fround(value * size) / (i % 2 ? height : width)));
    const first = scaled.slice(0, 2).map((value) => clamp(Math.floor(value), 0, size - 1));
    const last = scaled.slice(2).map((value, i) => Math.max(Math.min(Math.ceil(value), size), first[i] + 1));
    return [...first, ...last];
  }

  // For each output pixel from outStart to outStop the input pixels it averages: the triangle filter.
  function axis(start, stop, outStart, outStop) {
    const scale = (stop - start) / (outStop - outStart);
    const support = Math.max(scale, 1);
    const rows = [];
    for (let position = outStart; position < outStop; position++) {
      const centre = start + (position + 0.5 - outStart) * scale;
      const from = Math.max(Math.floor(start), Math.floor(centre - support - 0.5));
      const to = Math.min(Math.ceil(stop), Math.ceil(centre + support + 0.5));
      const weights = [];
      for (let pixel = from; pixel < to; pixel++) {
        weights.push(Math.max(0, 1 - Math.abs((pixel + 0.5 - centre) / support)));
      }
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      rows.push({ from, weights: weights.map((weight) => weight / total) });
    }
    return rows;
  }

  // One channel, box `source` of it resized into box `target` of a square canvas, which is painted over.
  function paint(channel, width, source, target, canvas, size) {
    const down = axis(source[1], source[3], target[1], target[3]);
    const across = axis(source[0], source[2], target[0], target[2]);
    down.forEach((row, i) => across.forEach((column, j) => {
      let sum = 0;
      row.weights.forEach((a, y) => column.weights.forEach((b, x) => {
        sum += a * b * channel[(row.from + y) * width + column.from + x];
      }));
      canvas[(target[1] + i) * size + target[0] + j] = sum;
    }));
    return canvas;
  }

  // The background at the size of the view; where it is resized, none of its object's pixels are mixed in.
  function scene(background, box, size) {
    const { height, width } = background;
    const channels = background.channels.slice(0, 3);
    if (height === size && width === size) return channels.map((channel) => channel.slice());
    const outside = new Float32Array(height * width).map((_, i) => {
      const x = (i % width) + 0.5;
      const y = Math.floor(i / width) + 0.5;
      return x >= box[0] && x < box[2] && y >= box[1] && y < box[3] ? 0 : 1;
    });
    const resize = (channel) =>
      paint(channel, width, [0, 0, width, height], [0, 0, size, size], new Float32Array(size * size), size);
    const weight = resize(outside);
    return channels.map((channel) => resize(channel.map((value, i) => value * outside[i]))
      .map((value, i) => value / Math.max(weight[i], 1e-4)));
  }

  // The view: the crop of the reference pasted over the background's object, and the view's mask.
  function view(reference, crop, background, box, size, mask = "rectangle") {
    const target = destination(box, background.height, background.width, size);
    const canvas = scene(background, box, size);
    const channels = canvas.map((channel, c) =>
      paint(reference.channels[c], reference.width, crop, target, channel, size));
    const empty = new Float32Array(size * size);
    const ones = new Float32Array(reference.width * reference.height).fill(1);
    const inside = mask === "saliency" ? reference.channels[3] : ones;
    return { target, channels, mask: paint(inside, reference.width, crop, target, empty, size) };
  }

  // What two crops share, or null.
  function common(first, second) {
    const box = [0, 1, 2, 3].map((i) => (i < 2 ? Math.max : Math.min)(first[i], second[i]));
    return box[2] > box[0] && box[3] > box[1] ? box : null;
  }

  // Where a part of the reference, inside the crop, lies in the view.
  function inView(part, crop, target) {
    return part.map((value, i) => {
      const low = i % 2;
      const share = (value - crop[low]) / (crop[low + 2] - crop[low]);
      return target[low] + share * (target[low + 2] - target[low]);
    });
  }

  const area = (box) => (box ? (box[2] - box[0]) * (box[3] - box[1]) : 0);
  return { cleanBox, boxCrop, destination, view, common, inView, area };
})();
if (typeof module !== "undefined") module.exports = SaliencySwap;
