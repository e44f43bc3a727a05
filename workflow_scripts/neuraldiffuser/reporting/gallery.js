"use strict";
// The gallery: one card per test image, in order and number as the controls say. Only cards in view
// exist; values come as scripts (addValues), because a page on a disk may not read files.

const GALLERY = JSON.parse(document.getElementById("gallery").textContent);
const METRICS = new Map(GALLERY.metrics.map((metric) => [metric.name, metric]));
const VARIANTS = new Map(GALLERY.variants.map((variant) => [variant.name, variant]));
const SUBJECTS = new Map(GALLERY.subjects.map((subject) => [subject.name, subject]));
const TRUTH = "stimulus"; // whose embeddings the ground-truth variants start from; always shown
const REPEATS = Math.max(1, ...GALLERY.runs.map((run) => run.repeats));
const NARROW = window.matchMedia("(max-width: 44rem)");
const EDGE = 12, CELL_GAP = 18, LINE_GAP = 8, OVER = 18, UNDER = 16; // pixels, as in gallery.css
const LABEL = 210; // width of a cell's heading at least
const GAP = 1 / 32; // between the pictures of a strip, of a picture's width, as in thumbnails.py
const BEYOND = 3; // cards that stand ready above and below the view

const $ = (id) => document.getElementById(id);
const view = $("view"), list = $("list"), large = $("large");

// --- what is shown: the state, and the address that holds it ---

const all = (names) => new Set(names);
const repeatNumbers = () => Array.from({ length: REPEATS }, (_, repeat) => repeat);

function begin() {
  const subjects = [...SUBJECTS.keys()];
  return {
    variants: all(GALLERY.start.length ? GALLERY.start : [...VARIANTS.keys()].slice(0, 2)),
    subjects: all(NARROW.matches ? subjects.slice(0, 1) : subjects),
    repeats: all(repeatNumbers()),
    metric: GALLERY.metrics.length ? GALLERY.metrics[0].name : "id",
    of: GALLERY.start[0] || "",
    as: "mean",
    reversed: false,
    find: "", low: "", high: "",
    size: 0, // 0: as fits
  };
}

const LISTS = { variants: VARIANTS, subjects: SUBJECTS };
const CHOICES = {
  metric: (value) => value === "id" || METRICS.has(value),
  of: (value) => value === "" || VARIANTS.has(value),
  as: (value) => value === "mean" || value === "spread" || VARIANTS.has(value),
};

function readAddress() {
  const found = begin(), said = new URLSearchParams(location.hash.slice(1));
  for (const [name, known] of Object.entries(LISTS))
    if (said.has(name)) found[name] = all(said.get(name).split(",").filter((each) => known.has(each)));
  if (said.has("repeats"))
    found.repeats = all(said.get("repeats").split(",").map((each) => each - 1).filter((each) => each >= 0 && each < REPEATS));
  for (const [name, allows] of Object.entries(CHOICES))
    if (said.has(name) && allows(said.get(name))) found[name] = said.get(name);
  for (const name of ["find", "low", "high"]) found[name] = said.get(name) || "";
  found.reversed = said.get("order") === "reversed";
  found.size = Math.min(160, Math.max(0, Number(said.get("size")) || 0));
  return found;
}

function writeAddress() {
  const said = new URLSearchParams({
    variants: [...state.variants].join(","),
    subjects: [...state.subjects].join(","),
    repeats: [...state.repeats].map((repeat) => repeat + 1).sort().join(","),
    metric: state.metric,
  });
  for (const name of ["of", "find", "low", "high"]) if (state[name]) said.set(name, state[name]);
  if (!state.of) said.set("of", "");
  if (state.as !== "mean") said.set("as", state.as);
  if (state.reversed) said.set("order", "reversed");
  if (state.size) said.set("size", state.size);
  history.replaceState(null, "", `#${said.toString().replaceAll("%2C", ",")}`);
}

let state = readAddress();
let order = [], scores = new Map(); // ids in order; what each is ordered by
let here = 0; // place of the current image in the order

// --- values: loaded by variant and subject when somebody looks at them ---

const values = new Map(); // "variant/subject" -> {row: id -> row, metrics}
const loading = new Map();

window.addValues = (variant, subject, found) => {
  const row = new Map(found.ids.map((id, place) => [id, place]));
  values.set(`${variant}/${subject}`, { row, metrics: found.metrics });
};

function load(run) {
  const name = `${run.variant}/${run.subject}`;
  if (!loading.has(name)) {
    loading.set(name, new Promise((resolve) => {
      const script = element("script", { src: `values/${name}.js` });
      script.onload = () => resolve();
      script.onerror = () => { missing.add(`values/${name}.js`); resolve(); };
      document.head.append(script);
    }));
  }
  return loading.get(name);
}
const missing = new Set();

function valueOf(run, metric, id, repeat) {
  const found = values.get(`${run.variant}/${run.subject}`);
  const all = found && found.metrics[metric], row = found && found.row.get(id);
  if (!all || row === undefined) return null;
  const each = all.length / found.row.size; // 1 where a value is of all repeats together
  return repeat < each ? all[row * each + repeat] : each === 1 ? all[row] : null;
}

function repeatsOf(run) {
  // A selection shows the one repeat that it chose, whichever are switched on.
  return run.repeats === 1 ? [0] : [...state.repeats].filter((r) => r < run.repeats).sort((a, b) => a - b);
}

function listValues(run, metric, id) {
  return repeatsOf(run).map((repeat) => valueOf(run, metric, id, repeat)).filter((value) => value !== null);
}

const mean = (some) => (some.length ? some.reduce((sum, value) => sum + value, 0) / some.length : null);

function spread(some) {
  if (some.length < 2) return null;
  const centre = mean(some);
  return Math.sqrt(some.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (some.length - 1));
}

const present = (value) => value !== null;
const runsOf = (variant) => GALLERY.runs.filter(
  (run) => run.variant === variant && (run.subject === TRUTH || state.subjects.has(run.subject)));
const shownRuns = () => GALLERY.variants.filter((v) => state.variants.has(v.name)).flatMap((v) => runsOf(v.name));
const orderingRuns = () => (state.of ? runsOf(state.of) : shownRuns());

function score(id) {
  if (state.metric === "id") return id;
  const over = (runs, measure) => mean(runs.map((run) => measure(listValues(run, state.metric, id))).filter(present));
  if (state.as === "mean") return over(orderingRuns(), mean);
  if (state.as === "spread") return over(orderingRuns(), spread);
  const [ours, theirs] = [over(orderingRuns(), mean), over(runsOf(state.as), mean)];
  return ours === null || theirs === null ? null : ours - theirs;
}

function highestFirst() {
  if (state.metric === "id" || state.as === "spread") return state.reversed;
  return METRICS.get(state.metric).higher !== state.reversed;
}

// --- order and filter ---

function readIds(text) {
  // "77, 100-200" as a test of ids; everything where nothing is said, nothing that is no number.
  const parts = text.split(/[\s,;]+/).filter(Boolean).map((part) => part.match(/^(\d+)(?:[-–](\d+))?$/));
  if (!parts.length) return () => true;
  const ranges = parts.filter(Boolean).map(([, low, high]) => [Number(low), Number(high || low)]);
  return (id) => ranges.some(([low, high]) => id >= low && id <= high);
}

function arrange() {
  const asked = readIds(state.find), percent = isPercent() ? 100 : 1;
  const low = state.low === "" ? -Infinity : Number(state.low) / percent;
  const high = state.high === "" ? Infinity : Number(state.high) / percent;
  const bounded = state.low !== "" || state.high !== "";
  scores = new Map(GALLERY.ids.map((id) => [id, score(id)]));
  const kept = GALLERY.ids.filter((id) => {
    const value = scores.get(id);
    return asked(id) && (value === null ? !bounded : value >= low && value <= high);
  });
  const sign = highestFirst() ? -1 : 1;
  order = kept.sort((a, b) => {
    const [x, y] = [scores.get(a), scores.get(b)];
    if (x === null || y === null) return (x === null) - (y === null) || a - b;
    return sign * (x - y) || a - b;
  });
}

// --- numbers as people read them ---

const isPercent = () => state.metric !== "id" && METRICS.get(state.metric).percent;

function write(value, metric, { signed = false } = {}) {
  if (value === null || value === undefined) return "–";
  const shown = metric.percent ? 100 * value : value;
  const text = Math.abs(shown).toFixed(metric.percent || Math.abs(shown) >= 10 ? 1 : 3);
  const sign = shown < 0 && Number(text) !== 0 ? "\u2212" : signed ? "+" : "";
  return sign + text + (metric.percent && signed ? " points" : metric.percent ? " %" : "");
}

function writeScore(id) {
  if (state.metric === "id") return "";
  const metric = METRICS.get(state.metric), gain = VARIANTS.has(state.as);
  const mark = gain ? "\u0394 " : state.as === "spread" ? "± " : "";
  return mark + write(scores.get(id), metric, { signed: gain });
}

// --- cards ---

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (value !== false) made.setAttribute(name, value === true ? "" : value);
  made.append(...children);
  return made;
}

const dot = (variant) => element("span", { class: "dot", style: `background:${variant.colour}` });
const subjectLabel = (name) => (SUBJECTS.has(name) ? SUBJECTS.get(name).label : "");
const nameStrip = (place, id) => `thumbnails/${place}/${String(id).padStart(5, "0")}.webp`;

const span = (count, size) => size * (count + (count - 1) * GAP); // width of some pictures
const describeRun = (run) => [VARIANTS.get(run.variant).label, subjectLabel(run.subject)].filter(Boolean).join(", ");

function stimulus(id, size) {
  return element("img", { src: nameStrip("stimulus", id), alt: `Stimulus ${id}`, width: size, height: size, decoding: "async" });
}

function strip(run, id, size) {
  const repeats = run.repeats > 1 ? `, repeats 1 to ${run.repeats}` : "";
  return element("img", { src: nameStrip(`${run.variant}/${run.subject}`, id), alt: `Image ${id} by ${describeRun(run)}${repeats}`,
    width: span(run.repeats, size), height: size, decoding: "async" });
}

function tile(run, id, repeat, size) {
  // A square of the strip (object-fit: cover); the position says which.
  const position = run.repeats > 1 ? (100 * repeat) / (run.repeats - 1) : 50;
  return element("img", { src: nameStrip(`${run.variant}/${run.subject}`, id), alt: `Image ${id} by ${describeRun(run)}, repeat ${repeat + 1}`,
    class: "cut", width: size, height: size, decoding: "async", style: `object-position:${position}% 50%` });
}

let layout = { lines: [], size: 72, height: 100 };

function measureLayout() {
  // Lines of cells, alike for all cards: a variant begins a new line where it does not fit.
  const narrow = NARROW.matches, runs = shownRuns();
  const padding = parseFloat(getComputedStyle(document.documentElement).fontSize) * (narrow ? 0.8 : 1.2);
  const width = view.clientWidth - 2 * padding;
  const counts = new Map(runs.map((run) => [run, repeatsOf(run).length]));
  const drawn = runs.filter((run) => counts.get(run) > 0);
  const size = chooseSize(drawn, counts, width, narrow);
  const place = width - (narrow ? 0 : size + 24);
  const wide = (run) => Math.max(span(counts.get(run), size), LABEL);
  const lines = [];
  let used = 0;
  for (const variant of VARIANTS.keys()) {
    const cells = drawn.filter((run) => run.variant === variant);
    const needed = cells.reduce((sum, run) => sum + wide(run) + CELL_GAP, 0);
    if (cells.length && lines.length && used + needed - CELL_GAP > place) used = Infinity;
    for (const run of cells) {
      if (!lines.length || used + wide(run) > place) { lines.push([]); used = 0; }
      lines.at(-1).push({ run, width: wide(run) });
      used += wide(run) + CELL_GAP;
    }
  }
  const line = OVER + size + UNDER, seen = OVER + size + UNDER;
  const cells = lines.length * (line + LINE_GAP) - LINE_GAP;
  const padded = 2 * (narrow ? 10 : EDGE) + 1;
  layout = { lines, size, height: padded + (narrow ? size + (lines.length ? LINE_GAP + cells : 0) : Math.max(seen, cells)) };
}

function chooseSize(runs, counts, width, narrow) {
  // As wished, as far as one cell fits; by itself so that one variant's subjects share a line.
  const most = Math.max(1, ...counts.values());
  const ceiling = Math.floor((width - (narrow ? 0 : 24)) / span(most + (narrow ? 0 : 1), 1));
  if (state.size) return Math.max(24, Math.min(state.size, ceiling));
  const widest = Math.max(1, ...[...VARIANTS.keys()].map(
    (name) => runs.filter((run) => run.variant === name).reduce((sum, run) => sum + counts.get(run), 0)));
  if (narrow) return Math.min(ceiling, 104);
  const fitting = Math.floor((width - 24 - SUBJECTS.size * CELL_GAP) / span(widest + 1, 1));
  return Math.max(24, Math.min(ceiling, Math.max(56, Math.min(fitting, 128))));
}

function card(place) {
  const id = order[place], size = layout.size;
  const made = element("div", { class: "card", role: "listitem", "data-id": id, tabindex: "-1",
    "aria-posinset": place + 1, "aria-setsize": order.length,
    style: `height:${layout.height}px;transform:translateY(${place * layout.height}px)` });
  const known = METRICS.get(state.metric), best = known && bestTile(id, known);
  const label = element("div", { class: "over" }, element("b", {}, `#${id}`));
  const under = element("div", { class: "under" }, writeScore(id));
  const seen = stimulus(id, size);
  made.append(element("div", { class: "seen" },
    ...(NARROW.matches ? [seen, element("div", {}, label, under)] : [label, seen, under])));
  made.append(element("div", { class: "lines" }, ...layout.lines.map((cells) =>
    element("div", { class: "line" }, ...cells.map((cell) => drawCell(cell, id, size, known, best))))));
  if (place === here) made.classList.add("here");
  return made;
}

function drawCell({ run, width }, id, size, metric, best) {
  const variant = VARIANTS.get(run.variant), repeats = repeatsOf(run);
  const summary = metric ? write(mean(listValues(run, metric.name, id)), metric) : "";
  const title = [variant.phrase, subjectLabel(run.subject)].filter(Boolean).join("; ");
  const numbers = repeats.map((repeat) => {
    const value = metric ? valueOf(run, metric.name, id, repeat) : null;
    const chosen = best !== null && value === best;
    return element("span", { class: chosen ? "best" : false, style: `width:${size}px` }, value === null ? "" : write(value, metric));
  });
  // One picture for the whole strip where all of it is shown: a card of 40 scrolls poorly.
  const pictures = repeats.length === run.repeats && !large.open ? [strip(run, id, size)]
    : repeats.map((repeat) => tile(run, id, repeat, size));
  const style = `gap:${size * GAP}px`;
  return element("div", { style: `width:${width}px` },
    element("div", { class: "over", title }, dot(variant), element("b", {}, variant.label),
      element("span", {}, [subjectLabel(run.subject), summary].filter(Boolean).join(" · "))),
    element("div", { class: "tiles", style }, ...pictures),
    element("div", { class: "under", style }, ...numbers));
}

function bestTile(id, metric) {
  // The best value among the tiles of a card, where there is more than one.
  const found = shownRuns().flatMap((run) => listValues(run, metric.name, id));
  if (found.length < 2) return null;
  return metric.higher ? Math.max(...found) : Math.min(...found);
}

// --- drawing: only what is in view ---

const drawn = new Map(); // place in the order -> card
let waiting = 0;

function draw() {
  waiting = 0;
  const first = Math.max(0, Math.floor(view.scrollTop / layout.height) - BEYOND);
  const last = Math.min(order.length, Math.ceil((view.scrollTop + view.clientHeight) / layout.height) + BEYOND);
  for (const [place, old] of drawn)
    if (place < first || place >= last) { old.remove(); drawn.delete(place); }
  for (let place = first; place < last; place++)
    if (!drawn.has(place)) { const made = card(place); drawn.set(place, made); list.append(made); }
}

function redraw() {
  for (const old of drawn.values()) old.remove();
  drawn.clear();
  list.style.height = `${order.length * layout.height}px`;
  $("nothing").hidden = order.length > 0;
  draw();
}

view.addEventListener("scroll", () => { waiting = waiting || requestAnimationFrame(draw); }, { passive: true });
new ResizeObserver(() => { if (order.length) keepPlace(() => { measureLayout(); redraw(); }); }).observe(view);

function keepPlace(change) {
  const place = view.scrollTop / layout.height;
  change();
  view.scrollTop = place * layout.height;
  draw();
}

// --- changing what is shown ---

let changes = 0;

async function update({ toTop = true } = {}) {
  const change = ++changes, kept = order[here];
  showControls();
  writeAddress();
  const needed = [...shownRuns(), ...orderingRuns(), ...(VARIANTS.has(state.as) ? runsOf(state.as) : [])];
  await Promise.all(needed.map(load));
  if (change !== changes) return; // somebody changed something else meanwhile
  const share = view.scrollTop / layout.height;
  arrange();
  measureLayout();
  $("size").value = layout.size;
  here = toTop ? 0 : Math.max(0, order.indexOf(kept));
  redraw();
  view.scrollTop = (toTop ? 0 : share) * layout.height;
  draw();
  showCount();
  document.body.dataset.ready = String(change);
}

function showCount() {
  const count = GALLERY.ids.length;
  const images = order.length === count ? `${count} images` : `${order.length} of ${count} images`;
  $("count").textContent = missing.size
    ? `${[...missing].join(", ")} cannot be read; run the workflow again.` : images;
}

const LISTED = {
  variants: () => GALLERY.variants.map((v) => [v.name, v.label, v.phrase, v.colour]),
  subjects: () => GALLERY.subjects.map((s) => [s.name, s.label, "", ""]),
  repeats: () => repeatNumbers().map((repeat) => [repeat, String(repeat + 1), `repeat ${repeat + 1}`, ""]),
};

function buildControls() {
  for (const [kind, rows] of Object.entries(LISTED)) {
    $(kind).append(...rows().map(([name, label, title, colour]) => {
      const chip = element("button", { type: "button", class: "chip", title, "data-name": name });
      chip.append(...(colour ? [dot({ colour })] : []), label);
      chip.addEventListener("click", () => toggle(kind, name));
      chip.addEventListener("dblclick", () => { state[kind] = all([name]); update({ toTop: false }); });
      return chip;
    }));
    $(kind).parentElement.hidden = rows().length < 2;
  }
  const groups = new Map();
  for (const metric of GALLERY.metrics) groups.set(metric.group, [...(groups.get(metric.group) || []), metric]);
  $("metric").append(...[...groups].map(([label, some]) => element("optgroup", { label },
    ...some.map((metric) => element("option", { value: metric.name }, metric.label)))));
  $("metric").append(element("option", { value: "id" }, "image id"));
  const variants = (prefix) => GALLERY.variants.map((v) => element("option", { value: v.name }, prefix + v.label));
  $("of").append(element("option", { value: "" }, "all that is shown"), ...variants(""));
  $("as").append(element("option", { value: "mean" }, "mean"), element("option", { value: "spread" }, "spread over repeats"),
    element("optgroup", { label: "gain" }, ...variants("minus ")));
  for (const name of ["metric", "of", "as", "find", "low", "high"])
    $(name).addEventListener("input", () => set({ [name]: $(name).value }));
  $("size").addEventListener("input", () => set({ size: Number($("size").value) }, { toTop: false }));
  $("order").addEventListener("click", () => set({ reversed: !state.reversed }));
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("open-controls").addEventListener("click", () => openControls($("controls").classList.contains("closed")));
  $("open-keys").addEventListener("click", () => $("keys").showModal());
  openControls(!NARROW.matches);
}

function openControls(open) {
  $("controls").classList.toggle("closed", !open);
  $("open-controls").setAttribute("aria-expanded", String(open));
}

function set(changed, how) {
  Object.assign(state, changed);
  update(how);
}

function toggle(kind, name) {
  const names = new Set(state[kind]);
  if (!names.delete(name)) names.add(name);
  set({ [kind]: names }, { toTop: false });
}

function showControls() {
  for (const kind of Object.keys(LISTED))
    for (const chip of $(kind).children) {
      const name = kind === "repeats" ? Number(chip.dataset.name) : chip.dataset.name;
      chip.setAttribute("aria-pressed", String(state[kind].has(name)));
    }
  for (const name of ["metric", "of", "as", "find", "low", "high"])
    if ($(name).value !== state[name]) $(name).value = state[name];
  for (const name of ["of", "as"]) $(name).disabled = state.metric === "id";
  $("order").textContent = tellOrder();
}

function tellOrder() {
  if (state.metric === "id") return state.reversed ? "highest first" : "lowest first";
  if (state.as === "spread") return state.reversed ? "most varied first" : "steadiest first";
  return state.reversed ? "worst first" : "best first";
}

// --- one image, enlarged ---

function enlarge(place) {
  if (!order.length) return;
  go(place);
  const id = order[here], runs = shownRuns();
  const button = (text, name, act) => {
    const made = element("button", { type: "button", "aria-label": name }, text);
    made.addEventListener("click", act);
    return made;
  };
  const known = METRICS.get(state.metric), best = known ? bestTile(id, known) : null;
  const size = chooseLargeSize(runs), wide = (run) => Math.max(LABEL, span(repeatsOf(run).length, size));
  const lines = [...VARIANTS.keys()].map((name) => runs.filter((run) => run.variant === name && repeatsOf(run).length));
  const cells = (some) => some.map((run) => drawCell({ run, width: wide(run) }, id, size, known, best));
  $("large-inside").replaceChildren(
    element("div", { class: "bar" }, element("h2", {}, `Image ${id}`),
      element("p", {}, [`${here + 1} of ${order.length}`, writeScore(id)].filter(Boolean).join(" · ")),
      button("←", "previous image", () => enlarge(here - 1)), button("→", "next image", () => enlarge(here + 1)),
      button("Close", "close", () => large.close())),
    element("div", { class: "pictures" },
      element("div", { class: "seen" }, element("div", { class: "over" }, element("b", {}, "stimulus")),
        stimulus(id, Math.max(size, NARROW.matches ? 160 : 224))),
      element("div", { class: "lines" },
        ...lines.filter((some) => some.length).map((some) => element("div", { class: "line" }, ...cells(some))))),
    element("div", { class: "scroll" }, tableOf(id, runs)),
    element("p", { class: "note" }, "Means over the repeats that are shown; the best of each line stands out."));
  if (!large.open) large.showModal();
  large.focus();
}

function chooseLargeSize(runs) {
  // Large enough to look at; where it can be, with all subjects of a variant on one line.
  const narrow = NARROW.matches, place = window.innerWidth - (narrow ? 40 : 380);
  const counts = [...VARIANTS.keys()].map((name) => runs.filter((run) => run.variant === name)
    .reduce((sum, run) => sum + repeatsOf(run).length, 0));
  const fitting = Math.floor((place - SUBJECTS.size * CELL_GAP) / span(Math.max(1, ...counts), 1));
  return Math.max(narrow ? Math.floor(place / span(2.4, 1)) : 112, Math.min(fitting, 224));
}

function tableOf(id, runs) {
  const head = runs.map((run) => {
    const variant = VARIANTS.get(run.variant);
    return element("th", { scope: "col" }, dot(variant), variant.label, element("small", {}, subjectLabel(run.subject) || "\u00a0"));
  });
  const rows = [];
  let group = "";
  for (const metric of GALLERY.metrics) {
    const found = runs.map((run) => mean(listValues(run, metric.name, id)));
    if (!found.some(present)) continue;
    if (metric.group !== group)
      rows.push(element("tr", { class: "group" }, element("th", { scope: "rowgroup", colspan: runs.length + 1 }, metric.group)));
    group = metric.group;
    const best = (metric.higher ? Math.max : Math.min)(...found.filter(present));
    rows.push(element("tr", { class: metric.name === state.metric ? "chosen" : "" },
      element("th", { scope: "row" }, `${metric.label} ${metric.higher ? "↑" : "↓"}`),
      ...found.map((value) => element("td", { class: runs.length > 1 && value === best ? "best" : "" }, write(value, metric)))));
  }
  return element("table", {}, element("thead", {}, element("tr", {}, element("td"), ...head)), element("tbody", {}, ...rows));
}

// --- moving about ---

function go(place) {
  const before = drawn.get(here);
  if (before) before.classList.remove("here");
  here = Math.min(Math.max(place, 0), order.length - 1);
  const top = here * layout.height, bottom = top + layout.height - view.clientHeight;
  if (view.scrollTop > top) view.scrollTop = top;
  else if (view.scrollTop < bottom) view.scrollTop = Math.min(top, bottom);
  draw();
  const now = drawn.get(here);
  if (now) { now.classList.add("here"); if (!large.open) now.focus({ preventScroll: true }); }
}

list.addEventListener("click", (event) => {
  const found = event.target.closest(".card");
  if (found) enlarge(order.indexOf(Number(found.dataset.id)));
});
large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
large.addEventListener("close", () => go(here));

function next(names, current, step) {
  return names[(names.indexOf(current) + step + names.length) % names.length];
}

function showNext(kind, names) {
  const [only] = state[kind].size === 1 ? state[kind] : [];
  set({ [kind]: all([only === undefined ? names[0] : next(names, only, 1)]) }, { toTop: false });
}

function resize(step) {
  set({ size: Math.min(160, Math.max(40, (state.size || layout.size) + step)) }, { toTop: false });
}

const metricNames = [...METRICS.keys(), "id"];
const KEYS = {
  j: () => go(here + 1), ArrowDown: () => go(here + 1),
  k: () => go(here - 1), ArrowUp: () => go(here - 1),
  Home: () => go(0), End: () => go(order.length - 1),
  Enter: () => enlarge(here),
  s: () => set({ metric: next(metricNames, state.metric, 1) }),
  S: () => set({ metric: next(metricNames, state.metric, -1) }),
  o: () => set({ reversed: !state.reversed }),
  a: () => set({ as: next(["mean", "spread", ...VARIANTS.keys()], state.as, 1) }),
  v: () => showNext("variants", [...VARIANTS.keys()]),
  V: () => set({ variants: all(VARIANTS.keys()) }, { toTop: false }),
  b: () => showNext("subjects", [...SUBJECTS.keys()]),
  B: () => set({ subjects: all(SUBJECTS.keys()) }, { toTop: false }),
  0: () => set({ repeats: all(repeatNumbers()) }, { toTop: false }),
  f: () => { openControls(true); $("find").focus(); },
  "+": () => resize(8), "=": () => resize(8), "-": () => resize(-8), "−": () => resize(-8),
  r: () => set(begin()),
  "?": () => $("keys").showModal(),
};
const KEYS_ENLARGED = {
  ArrowLeft: () => enlarge(here - 1), k: () => enlarge(here - 1),
  ArrowRight: () => enlarge(here + 1), j: () => enlarge(here + 1),
  Enter: () => large.close(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
  const typing = event.target.closest("input, select");
  if (typing) { if (event.key === "Escape") { typing.blur(); view.focus(); } return; }
  if (event.key === "Enter" && event.target.closest("button, a")) return;
  const number = Number(event.key);
  const act = large.open ? KEYS_ENLARGED[event.key]
    : number >= 1 && number <= REPEATS ? () => toggle("repeats", number - 1) : KEYS[event.key];
  if (act) { event.preventDefault(); act(); }
});

window.addEventListener("hashchange", () => { state = readAddress(); update(); });
buildControls();
update();
