"use strict";
// The page of an analysis: phase diagrams, curves of a cell, lines, and the table of cells. Its data is made by report_data.py.
// All words in the data are of unknown origin: they become text (textContent), or go through `plain` to plotly.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const cells = data.cells;
  const LINES = 50; // rows of the table that are shown at once
  const MOST_MARKS = 2000; // marks on a diagram: each is an element of the page
  const DASHES = ["solid", "dash", "dot", "dashdot"];
  const SYMBOLS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "star"];
  const LIGHT = ["#444444", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A0177"];
  const DARK = ["#d0d0d0", "#56B4E9", "#F28E4B", "#33CC99", "#E39CC4", "#F0B93A", "#8FD0F5", "#F0E442"];
  const CURVES = [ // panels: title, and metrics with name, colour
    ["training accuracy", { clean_accuracy: ["clean", 3], noisy_accuracy: ["mislabelled", 2] }],
    ["test error (true labels)", { test_error: ["test error", 0] }],
    ["coefficient (max)", { signal_coef: ["signal γ", 1], noise_coef_clean: ["noise ρ, clean", 3], noise_coef_noisy: ["noise ρ, mislabelled", 2] }],
    ["training loss", { clean_loss: ["clean", 3], noisy_loss: ["mislabelled", 2], train_loss: ["all", 0] }],
  ];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  // Only buttons that need no network.
  const CONFIG = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]] };

  // ---- small helpers
  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children);
    return made;
  }
  // plotly reads a small part of HTML in its texts.
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const colour = (number) => (dark.matches ? DARK : LIGHT)[number % LIGHT.length];
  const shown = (number, digits = 4) => (number === null ? "–" : String(Number(number.toPrecision(digits))));
  const range = (count) => Array.from({ length: count }, (_, i) => i);
  const levelText = (key, code) => (code < 0 ? "null" : key.numeric ? shown(key.levels[code], 6) : key.levels[code]);

  function layout(more) {
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(name).trim();
    const axis = { gridcolor: read("--line"), linecolor: read("--soft"), zeroline: false, automargin: true, ticks: "outside", tickcolor: read("--line") };
    const made = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 56, r: 12, t: 28, b: 44 }, showlegend: false,
      font: { color: read("--text"), size: 12, family: "system-ui, sans-serif" }, hoverlabel: { align: "left" }, dragmode: false,
      modebar: { bgcolor: "rgba(0,0,0,0)", color: read("--soft"), activecolor: read("--text") }, ...more,
    };
    for (const name of Object.keys(made)) if (/^[xy]axis/.test(name)) made[name] = { ...axis, ...made[name] };
    return made;
  }
  const title = (text) => ({ text: plain(text), font: { size: 12 } });
  function numericAxis(key) {
    const few = key.levels.length <= 8 ? { tickvals: key.levels, ticktext: key.levels.map((level) => shown(level)) } : {};
    return { title: title(key.label), type: key.log ? "log" : "linear", ...few };
  }
  function menu(name, text, options, chosen, change) {
    const made = element("select", { name, onchange: (event) => change(Number(event.target.value)) });
    for (const [value, word] of options) made.append(element("option", { value, selected: value === chosen }, word));
    return element("label", {}, text, made);
  }

  // ---- what is said of a cell
  function cellLines(i) {
    const value = cells.values[state.value];
    const lines = cells.keys.map((key) => `${key.label} = ${levelText(key, key.codes[i])}`);
    const half = value.half && value.half[i];
    const interval = value.half && half !== null ? ` ± ${shown(half, 2)} (95 %)` : "";
    lines.push(moves() ? `${value.label} at ${timeText()}: ${shown(valueOf(i))}` : `${value.label}: ${shown(value.mean[i])}${interval}`);
    const { n, diverged, failed, missing } = cells.counts;
    const few = n[i] > 0 && n[i] < cells.fewest ? `, no interval below ${cells.fewest} seeds` : "";
    lines.push(`${n[i]} ${n[i] === 1 ? "seed" : "seeds"}, ${missing[i]} missing` + (diverged[i] ? `, ${diverged[i]} diverged` : "") + (failed[i] ? `, ${failed[i]} failed` : "") + few);
    return lines;
  }

  // ---- time: the end of training, or a recorded step
  const clocks = (typeof data.curves === "object" && data.curves.clocks) || {};
  const CLOCKS = { step: ["in steps", (time) => `step ${shown(time, 6)}`], t1: ["in T₁", (time) => `${shown(time, 3)} T₁`] };
  const lineOf = () => cells.values[state.value] && data.curves.lines[cells.values[state.value].name];
  const moves = () => state.clock !== null && Boolean(lineOf());
  const timeText = () => CLOCKS[state.clock][1](clocks[state.clock].times[state.at]);
  // Of a cell at this time: the mean of its last recorded step up to then; none beyond its last step.
  function valueOf(i) {
    if (!moves()) return cells.values[state.value].mean[i];
    const number = data.curves.grid[i];
    if (number < 0) return null;
    const { times, unit } = clocks[state.clock];
    const steps = data.curves.grids[number], now = times[state.at] * unit[i], rounding = 1e-6 * now;
    if (now > steps.at(-1) + rounding) return null;
    const last = steps.findLastIndex((step) => step <= now + rounding);
    return last < 0 ? null : lineOf()[i][last];
  }
  // The place of the last time that a cell of this facet reaches.
  function lastPlace() {
    const { times, unit } = clocks[state.clock];
    const ends = range(cells.count).filter((i) => data.curves.grid[i] >= 0 && inFacet(i)).map((i) => data.curves.grids[data.curves.grid[i]].at(-1) / unit[i]);
    return Math.max(0, times.findLastIndex((time) => time <= Math.max(...ends) * (1 + 1e-6)));
  }
  // One scale of colours for all times.
  function colourRange() {
    const [low, high] = cells.values[state.value].range;
    if (!moves()) return [low, high];
    const all = limits(lineOf().flatMap((line) => (line ? line.filter((mean) => mean !== null) : [])));
    return [Math.min(low, all[0]), Math.max(high, all[1])];
  }
  let player = null; // the timer of a diagram that plays
  function stop() {
    clearInterval(player);
    player = null;
    const button = byId("choices").querySelector("button[name=play]");
    if (button) button.textContent = "play";
  }
  function timeChoices() {
    const options = [["", "end of training"], ...Object.keys(clocks).map((clock) => [clock, CLOCKS[clock][0]])];
    const made = element("select", { name: "clock", disabled: !lineOf(), onchange: (event) => setClock(event.target.value || null) });
    for (const [value, word] of options) made.append(element("option", { value, selected: value === (moves() ? state.clock : "") }, word));
    const box = element("label", {}, "time", made);
    if (!moves()) return [box];
    const last = lastPlace();
    state.at = Math.min(state.at, last);
    const slider = element("input", { type: "range", name: "time", min: 0, max: last, step: 1, value: state.at, "aria-label": "time" });
    const said = element("output", { class: "small", name: "now" }, timeText());
    const show = (at) => { state.at = at; slider.value = at; said.textContent = timeText(); drawMap(); };
    slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
    const play = element("button", { type: "button", name: "play", onclick: () => {
      if (player !== null) return stop();
      if (state.at === last) show(0);
      play.textContent = "pause";
      player = setInterval(() => (state.at < last ? show(state.at + 1) : stop()), 150);
    } }, "play");
    return [box, element("span", { class: "time" }, slider, play, said)];
  }
  function setClock(clock) {
    state.clock = clock;
    state.at = clock === null ? 0 : lastPlace();
    startLevel();
    redraw();
  }

  // ---- the phase diagram
  const state = { value: 0, level: null, cell: null, facet: {}, clock: null, at: 0 };
  let map = null; // what the diagram shows: its axes and, for each place, the number of its cell
  function others() {
    return cells.keys.map((_, i) => i).filter((i) => i !== state.x && i !== state.y);
  }
  function inFacet(i) {
    return others().every((k) => cells.keys[k].codes[i] === state.facet[k]);
  }
  // The facet of a cell: where options have settings of their own, not all combinations of levels have cells.
  function choose(k, code) {
    state.facet[k] = code;
    if (range(cells.count).some(inFacet)) return;
    const first = range(cells.count).find((i) => cells.keys[k].codes[i] === code);
    for (const other of others()) state.facet[other] = cells.keys[other].codes[first];
  }
  function startLevel() {
    const value = cells.values[state.value];
    const ofCell = (i) => (moves() ? lineOf()[i] || [] : [value.mean[i]]);
    const means = range(cells.count).filter(inFacet).flatMap(ofCell).filter((mean) => mean !== null);
    const [low, high] = means.length ? limits(means) : [0, 1];
    const given = data.phase.level !== null && value.name === data.phase.value;
    state.low = low;
    state.high = high;
    state.level = given ? data.phase.level : Number(((low + high) / 2).toPrecision(3));
  }
  function limits(values) { // without spreading: there may be more values than a call takes
    let low = Infinity, high = -Infinity;
    for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
    return [low, high];
  }
  function choices() {
    stop();
    const numeric = range(cells.keys.length).filter((i) => cells.keys[i].numeric && cells.keys[i].levels.length > 1);
    const made = [menu("value", "value", cells.values.map((value, i) => [i, value.label]), state.value, (i) => { state.value = i; startLevel(); redraw(); })];
    if (numeric.length > 2) {
      for (const axis of ["x", "y"]) {
        made.push(menu(axis, axis, numeric.map((i) => [i, cells.keys[i].label]), state[axis], (i) => setAxis(axis, i)));
      }
    }
    for (const k of others()) {
      const key = cells.keys[k];
      const codes = [...new Set(key.codes)].sort((a, b) => a - b);
      made.push(menu(`facet-${key.name}`, key.label, codes.map((code) => [code, levelText(key, code)]), state.facet[k], (code) => { choose(k, code); startLevel(); redraw(); }));
    }
    if (Object.keys(clocks).length) made.push(...timeChoices());
    const step = (state.high - state.low) / 200 || 0.01;
    const input = element("input", { type: "number", name: "level", step: "any", value: state.level });
    const slider = element("input", { type: "range", name: "slider", min: state.low, max: state.high, step, value: state.level, "aria-label": "level" });
    const set = (event, other) => {
      const number = Number(event.target.value);
      if (event.target.value === "" || !Number.isFinite(number)) return;
      state.level = Number(number.toPrecision(4));
      other.value = state.level;
      drawLevel();
    };
    input.addEventListener("input", (event) => set(event, slider));
    slider.addEventListener("input", (event) => set(event, input));
    if (!data.phase.refined) made.push(element("label", {}, "level of the line", input, slider));
    byId("choices").replaceChildren(...made);
  }
  function setAxis(axis, i) {
    const other = axis === "x" ? "y" : "x";
    if (state[other] === i) state[other] = state[axis];
    state[axis] = i;
    resetFacet();
    startLevel();
    redraw();
  }
  function resetFacet() {
    state.facet = {};
    const first = state.cell === null ? 0 : state.cell;
    for (const k of others()) state.facet[k] = cells.keys[k].codes[first];
  }
  function grid() {
    const [x, y] = [cells.keys[state.x], cells.keys[state.y]];
    const value = cells.values[state.value];
    const empty = (filling) => y.levels.map(() => new Array(x.levels.length).fill(filling));
    const found = { x, y, cell: empty(null), z: empty(null), text: empty(data.phase.refined ? "not trained" : "not planned"), absent: empty(null), partial: [] };
    // With refine=boundary cells have different numbers of seeds on purpose.
    const most = limits(range(cells.count).filter(inFacet).map((i) => cells.counts.n[i]))[1];
    const enough = data.phase.refined ? Math.min(cells.fewest, most) : most;
    let absent = 0;
    for (let i = 0; i < cells.count; i++) {
      const [column, row] = [x.codes[i], y.codes[i]];
      if (column < 0 || row < 0 || !inFacet(i)) continue;
      found.cell[row][column] = i;
      found.z[row][column] = valueOf(i);
      found.text[row][column] = cellLines(i).map(plain).join("<br>");
      if (cells.counts.n[i] === 0) { found.absent[row][column] = 1; absent++; }
      else if (cells.counts.missing[i] > 0 || cells.counts.n[i] < enough) found.partial.push([x.levels[column], y.levels[row]]);
    }
    return Object.assign(found, { absentCount: absent, value });
  }
  function contours() {
    return { coloring: "none", showlabels: false, start: state.level, end: state.level, size: 1 };
  }
  function drawMap() {
    map = grid();
    const { x, y, value } = map, [low, high] = colourRange();
    const marks = map.partial.slice(0, MOST_MARKS);
    const traces = [
      { type: "heatmap", x: x.edges, y: y.edges, z: map.z, text: map.text, hovertemplate: "%{text}<extra></extra>", colorscale: "Viridis",
        zmin: low, zmax: high, colorbar: { title: { text: plain(value.label), side: "right", font: { size: 12 } }, thickness: 12, outlinewidth: 0 } },
      { type: "contour", x: x.levels, y: y.levels, z: map.z, hoverinfo: "skip", showscale: false, autocontour: false, contours: contours(), line: { color: "#000000", width: 4, smoothing: 0 } },
      { type: "contour", x: x.levels, y: y.levels, z: map.z, hoverinfo: "skip", showscale: false, autocontour: false, contours: contours(), line: { color: "#ffffff", width: 2, smoothing: 0 } },
      { type: "heatmap", x: x.edges, y: y.edges, z: map.absent, hoverinfo: "skip", showscale: false, colorscale: [[0, "#8a8a8a"], [1, "#8a8a8a"]], opacity: 0.5 },
      { type: "scatter", mode: "markers", x: marks.map((mark) => mark[0]), y: marks.map((mark) => mark[1]), hoverinfo: "skip", marker: { color: "#fff", size: 4, line: { color: "#000", width: 0.5 } } },
    ];
    const more = { xaxis: { ...numericAxis(x), showgrid: false }, yaxis: { ...numericAxis(y), showgrid: false }, shapes: selection(), hovermode: "closest" };
    for (const trace of traces) if (trace.type === "contour") trace.visible = !data.phase.refined;
    Plotly.react("map", traces, layout(more), CONFIG);
    // A line through the few cells of a refined sweep would have gaps and no band.
    const words = [data.phase.refined ? "cells near the boundary are trained, and a few others; the figure below has the boundary with its band" : "line: where cell means cross the level"];
    if (moves()) words.unshift(`${timeText()}: each cell at its last recorded step up to then, empty beyond its end`);
    else if (!Object.keys(clocks).length) words.push(`no time but the end of training: ${typeof data.curves === "string" ? data.curves : "no curves"}`);
    if (map.absentCount) words.push(`grey: ${map.absentCount} planned cells without a completed run`);
    if (map.partial.length) words.push(`dots: ${map.partial.length} cells with fewer seeds than planned or than others${map.partial.length > MOST_MARKS ? `, the first ${MOST_MARKS} are marked` : ""}`);
    if (data.phase.shared) words.push(data.phase.shared);
    byId("legend").textContent = `${words.join("; ")}. A click on a cell shows its ${typeof data.curves === "string" ? "numbers" : "curves"}.`;
  }
  function drawLevel() {
    Plotly.restyle("map", { contours: contours() }, [1, 2]);
  }
  function selection() {
    if (state.cell === null || !inFacet(state.cell)) return [];
    const [x, y] = [map.x.codes[state.cell], map.y.codes[state.cell]];
    if (x < 0 || y < 0) return [];
    return [{ type: "rect", x0: map.x.edges[x], x1: map.x.edges[x + 1], y0: map.y.edges[y], y1: map.y.edges[y + 1], line: { color: "#ff3b30", width: 2.5 } }];
  }
  function redraw() {
    choices();
    drawMap();
  }
  function startMap() {
    const number = (name) => cells.keys.findIndex((key) => key.name === name);
    [state.x, state.y] = [number(data.phase.x), number(data.phase.y)];
    resetFacet();
    startLevel();
    byId("explorer").hidden = false;
    byId("map").closest(".beside").append(byId("cell"));
    redraw();
    byId("map").on("plotly_click", (event) => {
      const point = event.points.find((one) => one.curveNumber === 0);
      if (!point) return;
      const [row, column] = point.pointNumber;
      const cell = map.cell[row][column];
      if (cell !== null) showCell(cell);
    });
  }

  // ---- one cell
  function showCell(i) {
    state.cell = i;
    const box = byId("cell");
    const rows = cells.values.map((value) => {
      const half = value.half && value.half[i] !== null ? ` ± ${shown(value.half[i], 2)}` : "";
      return element("tr", {}, element("td", { class: "word" }, value.label), element("td", {}, shown(value.mean[i]) + half));
    });
    const lines = cellLines(i);
    box.replaceChildren(
      element("h3", {}, lines.slice(0, -2).join(", ") || "all runs"),
      element("p", { class: "small" }, lines.at(-1)),
      element("div", { id: "curves" }),
      element("details", { open: !hasCurves(i) }, element("summary", {}, "means over seeds"), element("div", { class: "scroll" }, element("table", {}, ...rows))),
    );
    box.hidden = false;
    drawCurves(i);
    if (map) Plotly.relayout("map", { shapes: selection() });
    for (const row of document.querySelectorAll("#cells tbody tr")) row.classList.toggle("chosen", Number(row.dataset.cell) === i);
  }
  const hasCurves = (i) => typeof data.curves === "object" && data.curves.grid[i] >= 0;
  function drawCurves(i) {
    const box = byId("curves");
    if (!hasCurves(i)) {
      box.append(element("p", { class: "small" }, `No curves: ${typeof data.curves === "string" ? data.curves : "none was saved of this cell"}.`));
      return;
    }
    const steps = data.curves.grids[data.curves.grid[i]];
    const theory = data.curves.theory && data.curves.theory[i];
    const panels = CURVES.filter(([, metrics]) => Object.keys(metrics).some((metric) => data.curves.lines[metric] && data.curves.lines[metric][i].some((v) => v !== null)));
    const traces = [], more = { margin: { l: 52, r: 12, t: 4, b: 44 }, hovermode: "x" };
    more.xaxis = { title: title("gradient step"), type: "log", dtick: 1, anchor: panels.length > 1 ? `y${panels.length}` : "y" };
    more.annotations = [];
    panels.forEach(([text, metrics], number) => {
      const axis = number ? `y${number + 1}` : "y";
      const height = 1 / panels.length;
      more[number ? `yaxis${number + 1}` : "yaxis"] = { domain: [1 - (number + 1) * height + 0.02, 1 - number * height - 0.05], rangemode: "tozero", nticks: 5 };
      const names = [];
      for (const [metric, [name, hue]] of Object.entries(metrics)) {
        const line = data.curves.lines[metric];
        if (!line || !line[i].some((v) => v !== null)) continue;
        const common = { type: "scatter", mode: "lines", yaxis: axis, name, line: { color: colour(hue), width: 2 } };
        traces.push({ ...common, x: steps, y: line[i], hovertemplate: `${name}: %{y:.3g}<extra></extra>` });
        if (theory && theory.lines[metric]) traces.push({ ...common, x: theory.steps, y: theory.lines[metric], hoverinfo: "skip", line: { color: colour(hue), width: 2, dash: "dot" } });
        names.push(Object.keys(metrics).length > 1 ? `<span style="color:${colour(hue)}">${name}</span>` : "");
      }
      const about = names.filter(Boolean).length ? `${text}: ${names.join(", ")}` : text;
      more.annotations.push({ text: about, x: 0, xref: "paper", xanchor: "left", y: 1 - number * height - 0.05, yref: "paper", yanchor: "bottom", showarrow: false, font: { size: 11 } });
    });
    box.style.height = `${9.5 * panels.length + 2}rem`;
    Plotly.newPlot(box, traces, layout(more), { ...CONFIG, displayModeBar: false });
    const dotted = theory ? " Dotted: mean-field theory at the label counts of one of the runs, nothing fitted." : "";
    box.after(element("p", { class: "small" }, `Means over seeds at ${steps.length} recorded steps; step 0 has no place on a log axis.${dotted}`));
  }

  // ---- lines, with a legend that switches them
  function drawLines(box) {
    const plot = data.plots[box.dataset.plot];
    if (!plot) return;
    const names = [...new Map(plot.panels.flatMap((panel) => panel.lines).map((line) => [line.name, line.looks]))];
    const hidden = new Set();
    const panels = plot.panels.map(() => element("div", { class: "panel" }));
    const draw = () => plot.panels.forEach((panel, number) => {
      const traces = panel.lines.map((line) => {
        const [hue, style] = line.looks;
        return {
          type: "scatter", name: plain(line.name), x: line.x.map((level) => (typeof level === "string" ? plain(level) : level)), y: line.mean, visible: !hidden.has(line.name),
          mode: plot.options ? "markers" : "lines+markers", line: { color: colour(hue), dash: DASHES[style % DASHES.length], width: 2 },
          marker: { symbol: SYMBOLS[hue % SYMBOLS.length] + (style ? "-open" : ""), size: 7, color: colour(hue) },
          error_y: { type: "data", array: line.half.map((half) => (half === null ? 0 : half)), visible: line.half.some((half) => half !== null), thickness: 1, width: 3 },
          text: line.half.map((half) => (half === null ? "" : ` ± ${shown(half, 2)}`)), hovertemplate: `${plain(line.name)}: %{y:.4g}%{text}<extra></extra>`,
        };
      });
      const xaxis = plot.options ? { type: "category", categoryorder: "array", categoryarray: plot.options.map(plain) } : { type: plot.log ? "log" : "linear" };
      const offset = plot.options ? { scattermode: "group", scattergap: 0.4 } : {};
      Plotly.react(panels[number], traces, layout({ xaxis: { ...xaxis, title: title(plot.x) }, yaxis: { title: title(panel.label), ...heights(panel) }, hovermode: "x", ...offset }), { ...CONFIG, displayModeBar: false });
    });
    const chips = names.map(([name, [hue, style]]) => {
      const made = element("button", { type: "button", class: "chip", "aria-pressed": "true" });
      made.dataset.hue = hue;
      made.append(sample(hue, style), name || "all");
      made.addEventListener("click", () => {
        if (!hidden.delete(name)) hidden.add(name);
        made.setAttribute("aria-pressed", String(!hidden.has(name)));
        draw();
      });
      return made;
    });
    box.replaceChildren(...(names.length > 1 ? [element("div", { class: "controls legend" }, ...chips)] : []), element("div", { class: "panels" }, ...panels));
    draw();
  }
  // Intervals of what is never negative may reach below 0: the axis does not.
  function heights(panel) {
    const means = panel.lines.flatMap((line) => line.mean).filter((mean) => mean !== null);
    const tops = panel.lines.flatMap((line) => line.mean.map((mean, i) => mean + line.half[i]));
    if (!means.length || Math.min(...means) < 0) return {};
    return { range: [-0.04, 1.06].map((share) => share * (Math.max(...tops) || 1)) };
  }
  function sample(hue, style) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const line = document.createElementNS(svg.namespaceURI, "line");
    const looks = { x1: 0, x2: 26, y1: 6, y2: 6, stroke: colour(hue), "stroke-width": 3, "stroke-dasharray": ["none", "6 4", "2 3", "8 3 2 3"][style % 4] };
    for (const [name, value] of Object.entries(looks)) line.setAttribute(name, value);
    svg.append(line);
    return svg;
  }

  // ---- the table of cells
  const table = { sort: null, down: false, page: 0, rows: [] };
  function columns() {
    const keys = cells.keys.map((key) => ({ name: key.name, label: key.label, text: (i) => levelText(key, key.codes[i]), number: (i) => (key.numeric && key.codes[i] >= 0 ? key.levels[key.codes[i]] : null), words: !key.numeric }));
    const counts = Object.entries(cells.counts).map(([name, list]) => ({ name, label: name, text: (i) => String(list[i]), number: (i) => list[i] }));
    const values = cells.values.map((value) => ({
      name: value.name, label: value.label, number: (i) => value.mean[i],
      text: (i) => shown(value.mean[i]) + (value.half && value.half[i] !== null ? ` ± ${shown(value.half[i], 2)}` : ""),
    }));
    return [...keys, ...counts, ...values];
  }
  const COMPARE = { "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b, "=": (a, b) => a === b, "!=": (a, b) => a !== b };
  // Terms: COLUMN < NUMBER (also <=, >, >=, =, !=), COLUMN = WORD, or a word that a swept key must hold. All must hold.
  function condition(all, term) {
    const found = /^(.+?)(<=|>=|!=|<|>|=)(.+)$/.exec(term);
    const column = found && all.find((one) => one.name === found[1] || one.label === found[1]);
    if (column && found[3].trim() !== "" && Number.isFinite(Number(found[3]))) {
      const wanted = Number(found[3]);
      return (i) => column.number(i) !== null && COMPARE[found[2]](column.number(i), wanted);
    }
    if (column && (found[2] === "=" || found[2] === "!=")) return (i) => (column.text(i) === found[3]) === (found[2] === "=");
    const keys = all.slice(0, cells.keys.length);
    return (i) => keys.some((key) => key.text(i).toLowerCase().includes(term.toLowerCase()));
  }
  function updateRows() {
    const all = columns();
    const terms = byId("filter").value.replace(/\s*(<=|>=|!=|<|>|=)\s*/g, "$1").split(/\s+/).filter(Boolean);
    const tests = terms.map((term) => condition(all, term));
    table.rows = range(cells.count).filter((i) => tests.every((test) => test(i)));
    const column = all.find((one) => one.name === table.sort);
    if (column) {
      const sign = table.down ? -1 : 1;
      const value = (i) => (column.words ? column.text(i) : column.number(i));
      table.rows.sort((a, b) => {
        const [one, other] = [value(a), value(b)];
        if (one === null || other === null) return (one === null) - (other === null); // what is missing comes last
        return sign * (one < other ? -1 : one > other ? 1 : 0) || a - b;
      });
    }
    table.page = 0;
    drawTable(all);
  }
  function drawTable(all = columns()) {
    const pages = Math.max(1, Math.ceil(table.rows.length / LINES));
    table.page = Math.min(Math.max(table.page, 0), pages - 1);
    const rows = table.rows.slice(table.page * LINES, (table.page + 1) * LINES);
    byId("found").textContent = `${table.rows.length} of ${cells.count} cells` + (pages > 1 ? `, page ${table.page + 1} of ${pages}` : "");
    byId("before").disabled = table.page === 0;
    byId("next").disabled = table.page === pages - 1;
    const head = element("tr", {}, ...all.map((column) => {
      const sorted = column.name === table.sort ? (table.down ? "descending" : "ascending") : null;
      const press = () => { table.down = column.name === table.sort && !table.down; table.sort = column.name; updateRows(); };
      return element("th", { "aria-sort": sorted, title: column.name }, element("button", { type: "button", onclick: press }, column.label + (sorted ? (table.down ? " ↓" : " ↑") : "")));
    }));
    document.querySelector("#cells thead").replaceChildren(head);
    document.querySelector("#cells tbody").replaceChildren(...rows.map((i) => {
      const show = () => { showCell(i); byId("cell").scrollIntoView({ block: "nearest" }); };
      const press = (event) => { if (event.key === "Enter") show(); };
      return element("tr", { "data-cell": i, tabindex: 0, class: i === state.cell ? "chosen" : null, onclick: show, onkeydown: press }, ...all.map((column) => element("td", {}, column.text(i))));
    }));
  }
  function startTable() {
    byId("cells").hidden = false;
    if (!data.phase) byId("cells").before(byId("cell"));
    byId("filter").addEventListener("input", updateRows);
    byId("before").addEventListener("click", () => { table.page--; drawTable(); });
    byId("next").addEventListener("click", () => { table.page++; drawTable(); });
    updateRows();
  }

  // ---- all of it
  const plots = [...document.querySelectorAll("[data-plot]")];
  plots.forEach(drawLines);
  if (cells && cells.values.length) {
    if (data.phase) startMap();
    startTable();
    if (cells.count === 1) showCell(0);
  }
  dark.addEventListener("change", () => {
    plots.forEach(drawLines);
    if (map) drawMap();
    if (state.cell !== null) showCell(state.cell);
  });
  addEventListener("beforeprint", () => document.querySelectorAll(".figure details").forEach((one) => { one.open = true; }));
})();
