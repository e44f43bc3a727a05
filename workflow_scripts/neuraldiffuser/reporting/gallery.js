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
const LABEL = 224; // width of a cell's heading at least
const GAP = 1 / 32; // between the pictures of a strip, of a picture's width, as in thumbnails.py
const BESIDE = 40; // between the stimulus and its reconstructions, enlarged
const LARGEST = GALLERY.enlarged; // an enlarged picture at most: larger ones would be blurred
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
    image: null, // the id of the enlarged image
  };
}

const hasSpread = (metric) => metric === "id" || !METRICS.get(metric).together;

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
  found.image = said.has("image") ? Number(said.get("image")) : null;
  if (!hasSpread(found.metric) && found.as === "spread") found.as = "mean";
  return found;
}

function tellAddress({ withImage = true } = {}) {
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
  if (withImage && state.image !== null) said.set("image", state.image);
  return `#${said.toString().replaceAll("%2C", ",")}`;
}

const writeAddress = () => history.replaceState(history.state, "", tellAddress());

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

function rowOf(run, metric, id) {
  // What was measured of an image: a value per repeat, or one of all repeats together.
  const found = values.get(`${run.variant}/${run.subject}`);
  const all = found && found.metrics[metric], row = found && found.row.get(id);
  if (!all || row === undefined) return [];
  const each = all.length / found.row.size;
  return all.slice(row * each, (row + 1) * each);
}

const isTogether = (run, metric) => run.repeats > 1 && METRICS.get(metric).together;

function repeatsOf(run) {
  // A selection shows the one repeat that it chose, whichever are switched on.
  return run.repeats === 1 ? [0] : [...state.repeats].filter((r) => r < run.repeats).sort((a, b) => a - b);
}

function valuesOf(run, metric, id) {
  // One value for each repeat that is shown; null where it has none of its own.
  const row = isTogether(run, metric) ? [] : rowOf(run, metric, id);
  return repeatsOf(run).map((repeat) => row[repeat] ?? null);
}

const listValues = (run, metric, id) => valuesOf(run, metric, id).filter(present);

function summarise(run, metric, id) {
  // The mean over the repeats that are shown, or what all repeats have together.
  return isTogether(run, metric) ? rowOf(run, metric, id)[0] ?? null : mean(listValues(run, metric, id));
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
  const over = (runs, measure) => mean(runs.map((run) => measure(run, state.metric, id)).filter(present));
  if (state.as === "mean") return over(orderingRuns(), summarise);
  if (state.as === "spread") return over(orderingRuns(), (...of) => spread(listValues(...of)));
  const [ours, theirs] = [orderingRuns(), runsOf(state.as)].map((runs) => over(runs, summarise));
  return ours === null || theirs === null ? null : ours - theirs;
}

function highestFirst() {
  if (state.metric === "id" || state.as === "spread") return state.reversed;
  return METRICS.get(state.metric).higher !== state.reversed;
}

// --- order and filter ---

const splitIds = (text) => text.split(/[\s,;]+/).filter(Boolean).map((part) => part.match(/^(\d+)(?:[-–](\d+))?$/));
const areIds = (text) => splitIds(text).every(Boolean);

function readIds(text) {
  // "77, 100-200" as a test of ids; everything where nothing is said, nothing that is no number.
  const parts = splitIds(text);
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

function nameScore() {
  // What the number under a stimulus is.
  if (state.metric === "id") return "";
  const of = state.of ? VARIANTS.get(state.of).label : "all that is shown";
  const measure = { mean: "mean", spread: "spread over repeats" }[state.as];
  const how = measure ? `${measure} of ${of}` : `${of} minus ${VARIANTS.get(state.as).label}`;
  return `${METRICS.get(state.metric).label}, ${how}`;
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
const nameLarge = (place, id) => nameStrip(`${place}/large`, id);

const span = (count, size) => size * (count + (count - 1) * GAP); // width of some pictures
const describeRun = (run) => [VARIANTS.get(run.variant).label, subjectLabel(run.subject)].filter(Boolean).join(", ");

function stimulus(id, size, name = nameStrip) {
  return element("img", { src: name("stimulus", id), alt: `Stimulus ${id}`, width: size, height: size, decoding: "async" });
}

function strip(run, id, size, name) {
  const repeats = run.repeats > 1 ? `, repeats 1 to ${run.repeats}` : "";
  return element("img", { src: name(`${run.variant}/${run.subject}`, id), alt: `Image ${id} by ${describeRun(run)}${repeats}`,
    width: span(run.repeats, size), height: size, decoding: "async" });
}

function tile(run, id, repeat, size, name) {
  // A square of the strip (object-fit: cover); the position says which.
  const position = run.repeats > 1 ? (100 * repeat) / (run.repeats - 1) : 50;
  return element("img", { src: name(`${run.variant}/${run.subject}`, id), alt: `Image ${id} by ${describeRun(run)}, repeat ${repeat + 1}`,
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
  const label = element("div", { class: "over" }, element("button", { type: "button", title: "enlarge" }, `#${id}`));
  const under = element("div", { class: "under", title: nameScore() }, writeScore(id));
  const seen = stimulus(id, size);
  made.append(element("div", { class: "seen" },
    ...(NARROW.matches ? [seen, element("div", {}, label, under)] : [label, seen, under])));
  made.append(element("div", { class: "lines" }, ...layout.lines.map((cells) =>
    element("div", { class: "line" }, ...cells.map((cell) => drawCell(cell, id, size, known, best))))));
  if (place === here) made.classList.add("here");
  return made;
}

function drawCell({ run, width }, id, size, metric, best, name = nameStrip) {
  // A run's name and value above its pictures, each repeat's own value below.
  const variant = VARIANTS.get(run.variant), repeats = repeatsOf(run), style = `gap:${size * GAP}px`;
  const title = [variant.phrase, subjectLabel(run.subject)].filter(Boolean).join("; ");
  const numbers = metric ? valuesOf(run, metric.name, id).map((value) => element("span",
    { class: value !== null && value === best ? "best" : false, style: `width:${size}px` },
    value === null ? "" : write(value, metric))) : [];
  // One picture for the whole strip where all of it is shown: a card of 40 scrolls poorly.
  const pictures = repeats.length === run.repeats ? [strip(run, id, size, name)]
    : repeats.map((repeat) => tile(run, id, repeat, size, name));
  return element("div", { style: `width:${width}px` },
    element("div", { class: "over", title }, dot(variant), element("b", {}, variant.label),
      element("span", {}, [subjectLabel(run.subject), metric ? writeSummary(run, metric, id) : ""].filter(Boolean).join(" · "))),
    element("div", { class: "tiles", style }, ...pictures),
    element("div", { class: "under", style }, ...numbers));
}

function writeSummary(run, metric, id) {
  return (isTogether(run, metric.name) ? "all repeats: " : "") + write(summarise(run, metric.name, id), metric);
}

function bestTile(id, metric) {
  // The best value among the tiles of a card, where there is more than one and each has its own.
  const found = shownRuns().flatMap((run) => listValues(run, metric.name, id));
  if (found.length < 2 || metric.together) return null;
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
  // Nobody has the focus at first and after a card with it is gone: then keys would scroll nothing.
  if (document.activeElement === document.body) view.focus({ preventScroll: true });
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
  showImage();
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
  const [metric, as] = [state.metric, state.as];
  Object.assign(state, changed);
  if (!hasSpread(state.metric) && state.as === "spread") state.as = "mean";
  const isOther = state.metric !== metric || state.as !== as;
  if (isOther) Object.assign(state, { low: "", high: "" }); // bounds of one measure mean nothing to another
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
  $("as").querySelector("[value=spread]").disabled = !hasSpread(state.metric);
  const unit = isPercent() && (VARIANTS.has(state.as) ? "points" : "%");
  $("low").placeholder = unit || "lowest";
  $("high").placeholder = unit || "highest";
  $("find").setAttribute("aria-invalid", String(!areIds(state.find)));
  $("nothing").textContent = areIds(state.find) ? "No image meets these conditions."
    : "Images are chosen by their numbers, such as 77, 100–200.";
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
  state.image = order[here];
  if (large.open) writeAddress();
  else history.pushState({ enlarged: true }, "", tellAddress());
  drawLarge();
}

function showImage() {
  // As the address says: one image, or none.
  const place = order.indexOf(state.image);
  if (place >= 0) { go(place); drawLarge(); return; }
  if (state.image !== null) { state.image = null; writeAddress(); }
  if (large.open) large.close();
}

function leaveImage() {
  // Back to the entry of the history that it was opened from, where there is one.
  state.image = null;
  returning = Boolean(history.state && history.state.enlarged);
  if (returning) history.back();
  else writeAddress();
}
let returning = false;

function drawLarge() {
  const id = order[here], runs = shownRuns().filter((run) => repeatsOf(run).length);
  const button = (text, name, act) => {
    const made = element("button", { type: "button", "aria-label": name }, text);
    made.addEventListener("click", act);
    return made;
  };
  if (!large.open) large.showModal(); // before its width is read
  const metric = METRICS.get(state.metric), best = metric ? bestTile(id, metric) : null;
  const size = chooseLargeSize(runs);
  const wide = (run) => Math.max(LABEL, span(repeatsOf(run).length, size));
  const cell = (run) => drawCell({ run, width: wide(run) }, id, size, metric, best, nameLarge);
  const lines = [...VARIANTS.keys()].map((name) => runs.filter((run) => run.variant === name));
  $("large-inside").replaceChildren(
    element("div", { class: "bar" }, element("h2", {}, `Image ${id}`),
      element("p", { title: nameScore() }, [`${here + 1} of ${order.length}`, writeScore(id)].filter(Boolean).join(" · ")),
      button("←", "previous image", () => enlarge(here - 1)), button("→", "next image", () => enlarge(here + 1)),
      button("Close", "close", () => large.close())),
    element("div", { class: "pictures" },
      element("div", { class: "seen" }, element("div", { class: "over" }, element("b", {}, "stimulus")),
        stimulus(id, size, nameLarge)),
      element("div", { class: "lines" },
        ...lines.filter((some) => some.length).map((some) => element("div", { class: "line" }, ...some.map(cell))))),
    element("div", { class: "scroll" }, tableOf(id, runs)),
    element("p", { class: "note" }, "Means over the repeats that are shown, except where a line says otherwise; the best of each line stands out."));
  large.focus();
}

function chooseLargeSize(runs) {
  // All subjects of a variant on a line where that enlarges; else the repeats of one, beside the stimulus.
  const inside = $("large-inside").clientWidth;
  if (NARROW.matches) return Math.floor(inside / span(2.4, 1)); // repeats scroll sideways
  const place = inside - BESIDE;
  const counts = (some) => some.reduce((sum, run) => sum + repeatsOf(run).length, 1);
  const fit = (pictures, gaps) => Math.floor((place - gaps * CELL_GAP) / span(pictures, 1));
  const variants = [...VARIANTS.keys()].map((name) => runs.filter((run) => run.variant === name));
  const together = Math.min(...variants.map((some) => fit(counts(some), Math.max(0, some.length - 1))));
  const alone = Math.min(LARGEST, ...runs.map((run) => fit(counts([run]), 0)));
  return Math.max(layout.size, together >= 1.3 * layout.size ? Math.min(together, LARGEST) : alone);
}

function tableOf(id, runs) {
  const head = runs.map((run) => {
    const variant = VARIANTS.get(run.variant);
    return element("th", { scope: "col" }, dot(variant), variant.label, element("small", {}, subjectLabel(run.subject) || "\u00a0"));
  });
  const rows = [];
  let group = "";
  for (const metric of GALLERY.metrics) {
    const found = runs.map((run) => summarise(run, metric.name, id));
    if (!found.some(present)) continue;
    if (metric.group !== group)
      rows.push(element("tr", { class: "group" }, element("th", { scope: "rowgroup", colspan: runs.length + 1 }, metric.group)));
    group = metric.group;
    const together = runs.filter((run) => isTogether(run, metric.name)).length;
    const compares = runs.length > 1 && (together === 0 || together === runs.length);
    const best = compares ? (metric.higher ? Math.max : Math.min)(...found.filter(present)) : null;
    rows.push(element("tr", { class: metric.name === state.metric ? "chosen" : "" },
      element("th", { scope: "row" }, `${metric.label} ${metric.higher ? "↑" : "↓"}`,
        ...(together ? [element("small", {}, "all repeats together")] : [])),
      ...found.map((value) => element("td", { class: value !== null && value === best ? "best" : "" }, write(value, metric)))));
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
large.addEventListener("close", () => { if (state.image !== null) leaveImage(); go(here); });

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
  a: () => set({ as: next(["mean", ...(hasSpread(state.metric) ? ["spread"] : []), ...VARIANTS.keys()], state.as, 1) }),
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

window.addEventListener("popstate", () => { if (returning) writeAddress(); returning = false; });
window.addEventListener("hashchange", () => {
  const before = tellAddress({ withImage: false });
  state = readAddress();
  if (tellAddress({ withImage: false }) === before) showImage();
  else update();
});
buildControls();
update();
