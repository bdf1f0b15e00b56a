// The compute form: what the reader tells goes into every cell.
const root = document.getElementById("cvsa-compute");
const data = JSON.parse(root.querySelector(".cvsa-data").textContent);
const [choice, rate, seeds] = ["select", "[name=rate]", "[name=seeds]"].map((q) => root.querySelector(q));
const told = root.querySelector(".cvsa-told");

function write(table, values, overhead) {
  for (const line of root.querySelectorAll(`[data-table="${table}"] tbody tr`)) {
    const key = line.dataset.key;
    line.querySelectorAll("td").forEach((cell, number) => { cell.textContent = shown(values[key][number]); });
    const mark = line.querySelector("[data-measured]");
    if (mark) mark.hidden = !(key in overhead);
  }
}

function update() {
  // The field shows a measured rate rounded.
  const speed = choice.value === "own" ? Number(rate.value) : data.records[choice.value].rate;
  const count = Math.round(Number(seeds.value));
  const valid = speed > 0 && Number.isFinite(speed) && count >= 1;
  told.textContent = valid ? "" : "Give a rate above 0 and at least one seed.";
  if (!valid) return;
  const overhead = choice.value === "own" ? {} : data.records[choice.value].overhead;
  const cost = bill(data, speed, overhead);
  for (const name in cost.totals) cost.totals[name] = [cost.totals[name], count * cost.totals[name]];
  for (const table of ["rows", "first", "totals"]) write(table, cost[table], overhead);
  root.querySelector("[data-seeds]").textContent = count;
  const whole = cost.totals["table 1"][1];
  const text = choice.value === "own" ? "The passes alone, at the rate you gave" : "At the measured throughput";
  told.textContent = `${text}: the first table with ${count} seed${count > 1 ? "s" : ""} takes ${shown(whole)} hours of one device.`;
}

choice.addEventListener("change", () => {
  if (choice.value !== "own") rate.value = data.records[choice.value].rate.toPrecision(3);
  update();
});
rate.addEventListener("input", () => { choice.value = "own"; update(); });
seeds.addEventListener("input", update);
update();
for (const part of root.querySelectorAll(".cvsa-live")) part.hidden = false;
