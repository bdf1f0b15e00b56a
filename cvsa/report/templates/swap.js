// The interactive figure of Saliency Swap: controls and drawing; the geometry is in swap_geometry.js.
const root = document.getElementById("cvsa-swap");
const data = JSON.parse(root.querySelector(".cvsa-data").textContent);
const side = data.size; // of images and views, in pixels
const zoom = 4; // pixels of a canvas to one of a picture, so that lines are fine
const chosen = { reference: 0, first: 1, second: 2 };
const ORANGE = "#d55e00", BLUE = "#0072b2", YELLOW = "#f0e442";
let draws = [[0.35, 0.75, 0.1, 0.9], [0.45, 0.3, 0.95, 0.15]]; // at first the same for every reader
const drawCrops = () => { draws = [0, 1].map(() => [0, 1, 2, 3].map(() => Math.random())); };
const percent = (share) => `${Math.round(100 * share)} %`;

function load(address) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = reject;
    image.src = address;
  });
}

// The pictures of the strips, as the geometry takes them: red, green, blue and saliency.
function pictures(strips) {
  const pixels = strips.map((strip) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [strip.width, strip.height];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(strip, 0, 0);
    return (number) => context.getImageData(number * side, 0, side, side).data;
  });
  const plane = (bytes, channel) => new Float32Array(side * side).map((_, i) => bytes[4 * i + channel] / 255);
  return data.boxes.map((box, number) => {
    const [colours, saliency] = pixels.map((read) => read(number));
    const channels = [0, 1, 2].map((c) => plane(colours, c)).concat([plane(saliency, 0)]);
    return { height: side, width: side, channels, box: SaliencySwap.cleanBox(box, side, side) };
  });
}

function show(panel, channels, label) {
  const canvas = root.querySelector(`[data-panel="${panel}"]`);
  canvas.width = canvas.height = side * zoom;
  const small = document.createElement("canvas");
  small.width = small.height = side;
  const bytes = new ImageData(side, side);
  for (let i = 0; i < side * side; i++) {
    for (let c = 0; c < 3; c++) bytes.data[4 * i + c] = Math.round(255 * channels[c % channels.length][i]);
    bytes.data[4 * i + 3] = 255;
  }
  small.getContext("2d").putImageData(bytes, 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  canvas.setAttribute("aria-label", label);
  return context;
}

function outline(context, box, colour, dashed) {
  const [x, y, right, bottom] = box.map((value) => value * zoom);
  for (const [edge, width] of [["#fff", 9], [colour, 5]]) {
    context.strokeStyle = edge;
    context.lineWidth = width;
    context.setLineDash(dashed && edge === colour ? [18, 9] : []);
    context.strokeRect(x, y, right - x, bottom - y);
  }
}

function hatch(context, box) {
  const [x, y, right, bottom] = box.map((value) => value * zoom);
  context.save();
  context.beginPath();
  context.rect(x, y, right - x, bottom - y);
  context.clip();
  context.setLineDash([]);
  for (const [colour, width] of [["rgba(0, 0, 0, 0.5)", 6], [YELLOW, 3]]) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    for (let start = x - (bottom - y); start < right; start += 52) {
      context.beginPath();
      context.moveTo(start, bottom);
      context.lineTo(start + bottom - y, y);
      context.stroke();
    }
  }
  context.restore();
}

function update(birds) {
  const slider = root.querySelector("input[type=range]");
  const scale = Number(slider.value);
  const mask = root.querySelector("select").value;
  root.querySelector("output").textContent = scale.toFixed(2);
  const reference = birds[chosen.reference];
  const crops = draws.map((four) => SaliencySwap.boxCrop(reference.box, scale, four));
  const shared = SaliencySwap.common(...crops);
  const covered = crops.map((crop, number) => {
    const background = birds[number ? chosen.second : chosen.first];
    const one = number + 1;
    const { target, channels, mask: values } =
      SaliencySwap.view(reference, crop, background, background.box, side, mask);
    const sketch = show(`${number}-crop`, reference.channels.slice(0, 3), `Reference with its saliency box and crop ${one}`);
    if (shared) hatch(sketch, shared);
    outline(sketch, reference.box, ORANGE, true);
    outline(sketch, crop, BLUE, false);
    const behind = show(`${number}-background`, background.channels.slice(0, 3), `Background ${one} with its saliency box`);
    outline(behind, background.box, ORANGE, true);
    const made = show(`${number}-view`, channels, `View ${one}: crop ${one} fills the saliency box of background ${one}`);
    const part = shared && SaliencySwap.inView(shared, crop, target);
    if (part) hatch(made, part);
    outline(made, target, BLUE, false);
    show(`${number}-mask`, [values], `Mask of view ${one}: white where the bird was pasted`);
    return SaliencySwap.area(part) / side ** 2;
  });
  const whole = SaliencySwap.area(reference.box);
  const sizes = crops.map((crop) => percent(SaliencySwap.area(crop) / whole));
  root.querySelector(".cvsa-told").textContent =
    `Crop 1 takes ${sizes[0]} of the reference's saliency box, crop 2 takes ${sizes[1]}. ` +
    (shared
      ? `They share ${percent(SaliencySwap.area(shared) / whole)} of it, which fills ${percent(covered[0])} of view 1 and ` +
        `${percent(covered[1])} of view 2, stretched differently. Nothing else is in both views.`
      : "They share nothing: the two views show different parts of the same bird.");
}

function thumbnails(render) {
  root.style.setProperty("--cvsa-sprite", `url("${data.colours}")`);
  for (const list of root.querySelectorAll(".cvsa-thumbs")) {
    data.names.forEach((name, number) => {
      const label = document.createElement("label");
      const input = document.createElement("input");
      const span = document.createElement("span");
      Object.assign(input, { type: "radio", name: `cvsa-swap-${list.dataset.choice}`, value: number });
      input.setAttribute("aria-label", name);
      span.style.backgroundSize = `${100 * data.names.length}% 100%`;
      span.style.backgroundPosition = `${(100 * number) / (data.names.length - 1)}% 0`;
      input.addEventListener("change", () => { chosen[list.dataset.choice] = number; render(); });
      label.append(input, span);
      label.title = name;
      list.append(label);
    });
  }
}

// A background is another image than the reference, and each view has its own.
function settle() {
  const free = (taken) => data.names.map((_, number) => number).filter((number) => !taken.includes(number));
  const pick = (numbers) => numbers[Math.floor(Math.random() * numbers.length)];
  if (chosen.first === chosen.reference) chosen.first = pick(free([chosen.reference, chosen.second]));
  if ([chosen.reference, chosen.first].includes(chosen.second)) {
    chosen.second = pick(free([chosen.reference, chosen.first]));
  }
  for (const input of root.querySelectorAll(".cvsa-thumbs input")) {
    const choice = input.closest(".cvsa-thumbs").dataset.choice;
    const number = Number(input.value);
    input.checked = chosen[choice] === number;
    input.disabled = choice !== "reference" &&
      [chosen.reference, choice === "first" ? chosen.second : chosen.first].includes(number);
  }
}

Promise.all([load(data.colours), load(data.saliency)]).then((strips) => {
  const birds = pictures(strips);
  const render = () => { settle(); update(birds); };
  thumbnails(render);
  root.querySelector("input[type=range]").addEventListener("input", render);
  root.querySelector("select").addEventListener("change", render);
  root.querySelector("[data-act=crops]").addEventListener("click", () => { drawCrops(); render(); });
  root.querySelector("[data-act=backgrounds]").addEventListener("click", () => {
    const others = data.names.map((_, number) => number).filter((number) => number !== chosen.reference);
    chosen.first = others.splice(Math.floor(Math.random() * others.length), 1)[0];
    chosen.second = others[Math.floor(Math.random() * others.length)];
    render();
  });
  root.querySelector(".cvsa-live").hidden = false;
  render();
});
