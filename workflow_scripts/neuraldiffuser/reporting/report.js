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

// What is folded on the screen is open on paper.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const part of folded) part.open = true;
});
addEventListener("afterprint", () => {
  for (const part of folded) part.open = false;
});
