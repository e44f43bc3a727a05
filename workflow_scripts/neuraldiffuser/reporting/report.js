"use strict";
// Plots are drawn once they come near the view: a page with many of them opens at once.

const PLOTS = JSON.parse(document.getElementById("plots").textContent);
const SETTINGS = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d"] };

function draw(place) {
  const { data, layout } = PLOTS[place.dataset.plot];
  Plotly.newPlot(place, data, layout, SETTINGS);
}

const near = new IntersectionObserver((seen) => {
  for (const { isIntersecting, target } of seen)
    if (isIntersecting) { near.unobserve(target); draw(target); }
}, { rootMargin: "600px" });

for (const place of document.querySelectorAll(".plot")) near.observe(place);
