// Lines over the last two minutes, one point for each second.

export const LENGTH = 120;
const MARGIN = { left: 44, right: 6, top: 6, bottom: 4 };

function nice(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * power >= value) * power;
}

// series: [{ values, kind: "line p99", filled }], oldest first; null where there is nothing.
export function draw(svg, series, format) {
  const { width, height } = svg.getBoundingClientRect();
  if (!width || !height) return;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const most = nice(Math.max(0, ...series.flatMap((one) => one.values.map((value) => value ?? 0))));
  const bottom = height - MARGIN.bottom;
  const x = (index) => MARGIN.left + ((width - MARGIN.left - MARGIN.right) * index) / (LENGTH - 1);
  const y = (value) => bottom - ((bottom - MARGIN.top) * value) / most;
  let drawn = "";
  for (const part of [0, 0.5, 1]) {
    const at = y(most * part).toFixed(1);
    drawn += `<line class="axis" x1="${MARGIN.left}" x2="${width - MARGIN.right}" y1="${at}" y2="${at}"/>`;
    drawn += `<text x="${MARGIN.left - 6}" y="${Number(at) + 3.5}" text-anchor="end">${format(most * part)}</text>`;
  }
  for (const { values, kind, filled } of series) {
    const points = [];
    values.forEach((value, index) => {
      if (value !== null) points.push([x(LENGTH - values.length + index), y(value)]);
    });
    if (!points.length) continue;
    if (points.length === 1) points.unshift([points[0][0] - 3, points[0][1]]);
    const path = points.map((point, index) => `${index ? "L" : "M"}${point[0].toFixed(1)} ${point[1].toFixed(1)}`).join("");
    if (filled) drawn += `<path class="area" d="${path}L${points.at(-1)[0].toFixed(1)} ${bottom}L${points[0][0].toFixed(1)} ${bottom}Z"/>`;
    drawn += `<path class="${kind}" d="${path}"/>`;
  }
  svg.innerHTML = drawn;
}
