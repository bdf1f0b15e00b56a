// Hours of the paper's experiments, as cvsa.report.compute_form computes them.
const hours = (data, count, rate, overhead) => (count * overhead) / (data.withBackward * rate * 3600);

// One seed of everything, at images per second of the backbone, forward and backward, and the overhead of
// whole steps over their passes, by row, where it is known.
function bill(data, rate, overhead) {
  const factor = (row) => overhead[row] ?? 1;
  const each = (rows) => Object.fromEntries(Object.entries(rows).map(
    ([row, counts]) => [row, counts.map((count) => hours(data, count, rate, factor(row)))]));
  const rows = each(data.rows), first = each(data.first);
  const finetune = data.finetune.map((count) => hours(data, count, rate, 1));
  const sum = (values) => values.reduce((a, b) => a + b, 0);
  const lines = (name) => sum(data.tables[name].map(([, row]) => sum(finetune) + (row ? sum(rows[row]) : 0)));
  const totals = { "table 1": lines("second_stage_only") };
  data.generic.forEach((name, number) => {
    totals[`table 2, ${name}`] = lines("dual_stage") + sum(Object.values(first).map((values) => values[number]));
  });
  const swept = data.tables.scale_ablation.map(([, row]) => rows[row][0] + finetune[0]);
  totals["scale ablation"] = data.scales * sum(swept);
  return { rows: { finetune, ...rows }, first, totals };
}

function shown(value) {
  if (value >= 10) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(value >= 0.1 ? 2 : 1)));
}
