// The interactive figure of attention against training epoch.
const root = document.getElementById("cvsa-attention");
const data = JSON.parse(root.querySelector(".cvsa-data").textContent);
const [slider, overlay, button] = ["input[type=range]", "input[type=checkbox]", "button"].map((q) => root.querySelector(q));
const told = root.querySelector(".cvsa-told");
const { epochs, birds, height, width, size } = data;
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const [values, inside, palette] = [data.attention, data.inside, data.palette].map(bytes);
// Nothing moves but at the reader's wish, and slowly for those who asked for little motion.
const pause = window.matchMedia("(prefers-reduced-motion: reduce)").matches ? 1500 : 350;
let timer = null;

const canvases = {};
for (const row of ["views", "others", "masks", "attention"]) {
  const list = root.querySelector(`[data-row="${row}"]`);
  list.style.gridTemplateColumns = `repeat(${birds}, 1fr)`;
  canvases[row] = Array.from({ length: birds }, (_, bird) => {
    const panel = document.createElement("div");
    const caption = document.createElement("div");
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = size;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${list.previousElementSibling.textContent}, bird ${bird + 1}`);
    caption.className = "cvsa-caption";
    panel.append(canvas, caption);
    list.append(panel);
    return canvas;
  });
}

// Mean attention of a bird inside and outside of its mask.
function ends(frame, bird) {
  const cells = height * width;
  const sums = [0, 0], weights = [0, 0];
  for (let i = 0; i < cells; i++) {
    const share = inside[bird * cells + i] / 255;
    const value = values[(frame * birds + bird) * cells + i] / 255;
    [share, 1 - share].forEach((weight, side) => { sums[side] += weight * value; weights[side] += weight; });
  }
  return sums.map((sum, side) => sum / Math.max(weights[side], 1e-6));
}

function draw(frame, bird, strip) {
  const canvas = canvases.attention[bird];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(strip, bird * size, 0, size, size, 0, 0, size, size);
  const image = context.getImageData(0, 0, size, size);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const cell = Math.floor((y * height) / size) * width + Math.floor((x * width) / size);
      const value = values[(frame * birds + bird) * height * width + cell];
      const at = 4 * (y * size + x);
      const grey = 0.299 * image.data[at] + 0.587 * image.data[at + 1] + 0.114 * image.data[at + 2];
      for (let c = 0; c < 3; c++) {
        const heat = palette[3 * value + c];
        image.data[at + c] = overlay.checked ? data.share * heat + (1 - data.share) * grey : heat;
      }
    }
  }
  context.putImageData(image, 0, 0);
  const [within, beyond] = ends(frame, bird).map((mean) => mean.toFixed(2));
  canvas.setAttribute("aria-label", `attention of bird ${bird + 1}: ${within} inside of the mask, ${beyond} outside`);
  canvas.nextElementSibling.textContent = `in\u00a0${within} out\u00a0${beyond}`;
}

function update(strip) {
  const frame = Number(slider.value);
  const epoch = epochs[frame];
  const name = epoch ? `After epoch ${epoch} of ${epochs[epochs.length - 1]}` : "Before training";
  root.querySelector("output").textContent = name;
  slider.setAttribute("aria-valuetext", name);
  for (let bird = 0; bird < birds; bird++) draw(frame, bird, strip);
  const mark = root.querySelector(".cvsa-mark");
  mark.setAttribute("cx", data.curve[frame][0]);
  mark.setAttribute("cy", data.curve[frame][1]);
  told.textContent = `${name} the attention inside of the mask exceeds that outside by ` +
    `${data.gap[frame].toFixed(2)} on average.`;
}

function stop() {
  clearInterval(timer);
  timer = null;
  button.textContent = "Play";
  told.setAttribute("aria-live", "polite");
}

function play(strip) {
  if (Number(slider.value) === epochs.length - 1) slider.value = 0;
  button.textContent = "Pause";
  told.setAttribute("aria-live", "off"); // a reader of the screen would be told every frame
  update(strip);
  timer = setInterval(() => {
    slider.value = Number(slider.value) + 1;
    if (Number(slider.value) === epochs.length - 1) stop();
    update(strip);
  }, pause);
}

const load = (address) => new Promise((resolve, reject) => {
  const image = new Image();
  image.onload = () => resolve(image);
  image.onerror = reject;
  image.src = address;
});
Promise.all([data.views, data.others, data.masks].map(load)).then((strips) => {
  ["views", "others", "masks"].forEach((row, which) => canvases[row].forEach((canvas, bird) => {
    canvas.getContext("2d").drawImage(strips[which], bird * size, 0, size, size, 0, 0, size, size);
  }));
  const bar = root.querySelector(".cvsa-scale").getContext("2d");
  for (let i = 0; i < 256; i++) {
    bar.fillStyle = `rgb(${palette.slice(3 * i, 3 * i + 3).join(",")})`;
    bar.fillRect(i, 0, 1, 1);
  }
  slider.addEventListener("input", () => { stop(); update(strips[0]); });
  overlay.addEventListener("change", () => update(strips[0]));
  button.addEventListener("click", () => (timer ? stop() : play(strips[0])));
  root.querySelector(".cvsa-live").hidden = false;
  update(strips[0]);
});
