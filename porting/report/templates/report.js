"use strict";
// Draws the figures; a curve that is thinned is thinned again, from all of its points, to what is zoomed in on.
(() => {
  const BUCKETS = 1000;
  const PRINTED = 690; // pixels between the margins of a page
  const read = (name) => JSON.parse(document.getElementById(name).textContent);
  const figures = read("figures");
  const places = [];

  const bytes = async (text) => {
    const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  };
  const unpack = async (full) => ({
    steps: full.steps ? new Int32Array(await bytes(full.steps)) : null,
    start: full.start, stride: full.stride,
    values: new Float32Array(await bytes(full.values)),
  });
  const step = (points, i) => (points.steps ? points.steps[i] : points.start + points.stride * i);
  const first = (points, wanted) => {
    let low = 0, high = points.values.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (step(points, middle) < wanted) low = middle + 1; else high = middle;
    }
    return low;
  };
  const thin = (points, from, to) => {
    const size = Math.max(1, Math.ceil((to - from) / BUCKETS));
    const x = [], y = [];
    const put = (i) => { x.push(step(points, i)); y.push(Number.isFinite(points.values[i]) ? points.values[i] : null); };
    for (let start = from; start < to; start += size) {
      const end = Math.min(to, start + size);
      const chosen = new Set();
      let least = -1, greatest = -1, broken = -1;
      for (let i = start; i < end; i++) {
        const value = points.values[i];
        if (!Number.isFinite(value)) { if (broken < 0) broken = i; continue; }
        if (least < 0 || value < points.values[least]) least = i;
        if (greatest < 0 || value > points.values[greatest]) greatest = i;
      }
      for (const i of [least, greatest, broken]) if (i >= 0) chosen.add(i);
      [...chosen].sort((a, b) => a - b).forEach(put);
    }
    return [x, y];
  };

  const zoomable = (place, { full, summed }) => {
    const traces = full.map((one) => one.trace);
    let points = null;
    place.on("plotly_relayout", async (change) => {
      if (!("xaxis.range[0]" in change || "xaxis.autorange" in change || "xaxis.range" in change)) return;
      points ??= await Promise.all(full.map(unpack));
      if (summed && points.length === full.length) {
        const [a, b] = [1, 2].map((i) => points[traces.indexOf(summed[i])]);
        points.push({ ...a, values: Float64Array.from(a.values, (value, i) => value + b.values[i]) });
        traces.push(summed[0]);
      }
      const [low, high] = place.layout.xaxis.range;
      const thinned = points.map((one) =>
        thin(one, Math.max(0, first(one, low) - 1), Math.min(one.values.length, first(one, high) + 1)));
      await Plotly.restyle(place, { x: thinned.map((t) => t[0]), y: thinned.map((t) => t[1]) }, traces);
      place.dataset.redrawn = Number(place.dataset.redrawn || 0) + 1;
    });
  };

  const drawn = figures.map(async (figure) => {
    const place = document.getElementById(figure.name);
    place.style.height = `${figure.layout.height}px`;
    await Plotly.newPlot(place, figure.data, figure.layout, {
      responsive: true, displaylogo: false, displayModeBar: "hover",
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
    });
    if (figure.full.length && "DecompressionStream" in window) zoomable(place, figure);
    places.push(place);
  });
  Promise.all(drawn).then(() => { document.body.dataset.drawn = places.length; });

  document.querySelectorAll("details").forEach((one) => one.addEventListener("toggle", () => {
    one.querySelectorAll(".js-plotly-plot").forEach((place) => { if (one.open) Plotly.Plots.resize(place); });
  }));

  const opened = [];
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details:not([open])").forEach((one) => { one.open = true; opened.push(one); });
    places.forEach((place) => Plotly.relayout(place, { width: PRINTED }));
  });
  window.addEventListener("afterprint", () => {
    opened.splice(0).forEach((one) => { one.open = false; });
    places.forEach((place) => Plotly.relayout(place, { width: null, autosize: true }));
  });
})();
