// The table of all runs: a filter, the runs a link asks for (?runs=abc,def), and buttons that copy commands.
const root = document.getElementById("cvsa-runs");
const box = root.querySelector("input"), told = root.querySelector("output");
const rows = [...root.querySelectorAll("tbody tr")];
const words = rows.map((row) => row.textContent.toLowerCase());
root.querySelector(".runs-filter").hidden = false;

function show(keep) {
  let count = 0;
  rows.forEach((row, i) => { row.hidden = !keep(i); count += !row.hidden; });
  told.textContent = count === rows.length ? `all ${count} runs` : `${count} of ${rows.length} runs`;
}
function filter() {
  const wanted = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  show((i) => wanted.every((word) => words[i].includes(word)));
}
box.addEventListener("input", filter);

const asked = (new URLSearchParams(location.search).get("runs") || "").split(",").filter(Boolean);
if (asked.length) show((i) => asked.some((id) => rows[i].id.startsWith(`run-${id}`)));
else filter();
root.querySelector("button").addEventListener("click", () => { box.value = ""; filter(); box.focus(); });
// A link to a hidden line shows it.
window.addEventListener("hashchange", () => {
  const row = document.getElementById(location.hash.slice(1));
  if (row && row.hidden) { show(() => true); row.scrollIntoView(); }
});

root.addEventListener("toggle", (event) => {
  const fold = event.target;
  if (!fold.open || fold.querySelector("button")) return;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "copy";
  button.addEventListener("click", async () => {
    const command = fold.querySelector("pre");
    try {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(command);
      button.textContent = "selected";
    }
  });
  fold.append(button);
}, true);
