"use strict";
// Sorts, filters and downloads the page's tables, and opens what a link leads to. Without it all is readable.
(() => {
const collator = new Intl.Collator("en", { numeric: true });
const done = new WeakSet();
let printing = false;

// as number_text of shown.py
function numberText(value) {
  if (value === null) return "–";
  const size = Math.abs(value);
  const text = Number.isInteger(value) || size >= 1000 ? size.toFixed(0)
    : size < 0.001 ? size.toExponential(0) : String(Number(size.toPrecision(3)));
  return (value < 0 ? "−" : "") + text;
}

// as names_text of shown.py
function namesText(joined) {
  return (joined.match(/(?:\\.|[^;\\])+/g) || []).map(part => part.replace(/\\(.)/g, "$1")).join(", ");
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function shown(value, kind) {
  if (kind === "number" || kind === "bar") return numberText(value);
  return kind === "names" ? namesText(value ?? "") : value ?? "–";
}

function bar(value, largest) {
  const element = make("span", { className: value < 0 ? "bar minus" : "bar" });
  element.style.setProperty("--w", `${largest ? 100 * Math.abs(value) / largest : 0}%`);
  return element;
}

// --- a table as data: columns {name, kind} and rows {values, deviations, element}

function dataOf(table) {
  const block = table.parentElement.querySelector(":scope > script[type='application/json']");
  return block ? embedded(JSON.parse(block.textContent)) : written(table);
}

// all rows are in a block of JSON, the first of them also in the page
function embedded(block) {
  const columns = block.columns.map(([name, kind], place) => ({
    name, kind, largest: kind === "bar" ? Math.max(0, ...block.rows.map(row => Math.abs(row[place]))) : 0,
  }));
  return { columns, rows: block.rows.map(values => ({ values, deviations: [], element: null })) };
}

// the page itself has all rows; data-v holds the number behind a text, data-sd its deviation
function written(table) {
  const columns = [...table.tHead.rows[0].cells].map(cell => ({ name: cell.textContent.trim(), kind: "text" }));
  const rows = [...table.tBodies[0].rows].map(element => ({
    element,
    values: [...element.cells].map(valueOf),
    deviations: [...element.cells].map(cell => "sd" in cell.dataset ? Number(cell.dataset.sd) : null),
  }));
  return { columns, rows };
}

function valueOf(cell) {
  if ("v" in cell.dataset) return Number(cell.dataset.v);
  const text = cell.textContent.trim();
  return text === "–" ? null : text;
}

function elementOf(row, columns) {
  row.element ??= make("tr", {}, ...row.values.map((value, place) => {
    const { kind, largest } = columns[place];
    const look = { number: "number", bar: "number", text: "" }[kind] ?? "long";
    const cell = make(place ? "td" : "th", { className: look }, shown(value, kind));
    if (!place) cell.scope = "row";
    if (kind === "bar" && value !== null) cell.append(bar(value, largest));
    return cell;
  }));
  return row.element;
}

// --- sort, filter, download

function compared(one, other) {
  const numbers = [Number(one), Number(other)];
  if (!numbers.some(Number.isNaN)) return numbers[0] - numbers[1];
  return collator.compare(one, other);
}

function isEmpty(value) {
  return value === null || value === "";
}

// empty values come last in either direction
function sorted(rows, { place, sign }) {
  return rows.map((row, order) => ({ row, order })).sort((a, b) => {
    const [one, other] = [a.row.values[place], b.row.values[place]];
    if (isEmpty(one) || isEmpty(other)) return isEmpty(one) - isEmpty(other) || a.order - b.order;
    return sign * compared(one, other) || a.order - b.order;
  }).map(({ row }) => row);
}

function holds(row, columns, words) {
  row.text ??= row.values.map((value, place) => shown(value ?? "", value === null ? "text" : columns[place].kind))
    .join(" ").toLowerCase();
  return words.every(word => row.text.includes(word));
}

function show(state) {
  const words = state.query.toLowerCase().split(/\s+/).filter(Boolean);
  let rows = words.length ? state.rows.filter(row => holds(row, state.columns, words)) : state.rows;
  if (state.order.sign) rows = sorted(rows, state.order);
  const first = words.length || state.all ? rows : rows.slice(0, state.first);
  state.body.replaceChildren(...first.map(row => elementOf(row, state.columns)));
  state.status.textContent = first.length === state.rows.length ? "" : `${first.length} of ${state.rows.length} rows`;
}

function quoted(value) {
  const text = value === null ? "" : String(value);
  return /[\t\n\r"]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// full values; a column of means is followed by one of their standard deviations
function tsvOf({ columns, rows }) {
  const deviates = columns.map((_, place) => rows.some(row => (row.deviations[place] ?? null) !== null));
  const line = (values, beside) => values
    .flatMap((value, place) => deviates[place] ? [value, beside(place)] : [value]).map(quoted).join("\t");
  const lines = [line(columns.map(({ name }) => name), place => `${columns[place].name} (sd)`)];
  for (const row of rows) lines.push(line(row.values, place => row.deviations[place] ?? null));
  return lines.join("\n") + "\n";
}

function download(state, name) {
  const blob = new Blob([tsvOf(state)], { type: "text/tab-separated-values" });
  const link = make("a", { href: URL.createObjectURL(blob), download: `${document.body.dataset.atlas}_${name}.tsv` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// --- the controls of a table

function addSorting(state, table) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, place) => {
    const button = make("button", { type: "button", className: "sort" }, ...header.childNodes);
    header.append(button);
    // the largest number first, text from A to Z, then the other way round, then as it was
    const numbers = state.rows.some(row => typeof row.values[place] === "number");
    const signs = numbers ? [-1, 1, 0] : [1, -1, 0];
    button.addEventListener("click", () => {
      const now = state.order.place === place ? state.order.sign : 0;
      state.order = { place, sign: signs[(signs.indexOf(now) + 1) % 3] };
      for (const other of headers) other.removeAttribute("aria-sort");
      if (state.order.sign) header.ariaSort = state.order.sign > 0 ? "ascending" : "descending";
      show(state);
    });
  });
}

function addTools(state, table) {
  const title = table.caption?.textContent.trim() || table.parentElement.ariaLabel;
  state.status = make("span", { className: "status", role: "status" });
  const tools = make("div", { className: "tools" });
  if (state.rows.length > 3) {
    const filter = make("input", { type: "search", placeholder: "filter rows", ariaLabel: `Filter: ${title}` });
    filter.addEventListener("input", () => { state.query = filter.value; show(state); });
    tools.append(filter);
  }
  if (state.rows.length > state.first) {
    const all = make("button", { type: "button", ariaPressed: "false" }, `Show all ${state.rows.length}`);
    all.addEventListener("click", () => {
      state.all = !state.all;
      all.ariaPressed = String(state.all);
      show(state);
    });
    tools.append(all);
  }
  const save = make("button", { type: "button", ariaLabel: `Download TSV: ${title}` }, "Download TSV");
  save.addEventListener("click", () => download(state, table.dataset.name));
  tools.append(save, state.status);
  const region = table.parentElement;
  region.before(tools);
  // the status says it from here on
  if (region.nextElementSibling?.matches(".rest")) region.nextElementSibling.remove();
}

function enhance(table) {
  if (done.has(table) || !table.tBodies.length || table.closest("details:not([open])")) return;
  done.add(table);
  const state = { ...dataOf(table), body: table.tBodies[0], order: { place: 0, sign: 0 }, query: "", all: false };
  // rows that stand in the page already need not be made again
  [...state.body.rows].forEach((element, place) => { state.rows[place].element = element; });
  state.first = state.body.rows.length;
  addSorting(state, table);
  addTools(state, table);
  show(state);
}

function enhanceAll(root) {
  for (const table of root.querySelectorAll("table")) enhance(table);
}

// --- folded parts

function reveal(moveFocus) {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  target.scrollIntoView();
  if (moveFocus) target.querySelector(":scope > summary")?.focus({ preventScroll: true });
}

function addFolding(section) {
  const parts = [...section.querySelectorAll("details")];
  const button = (words, open) => {
    const element = make("button", { type: "button" }, words);
    element.addEventListener("click", () => { for (const part of parts) part.open = open; });
    return element;
  };
  section.prepend(make("div", { className: "tools" }, button("Open all factors", true), button("Close all", false)));
}

document.addEventListener("toggle", event => {
  if (event.target.open && !printing) enhanceAll(event.target);
}, true);
window.addEventListener("hashchange", () => reveal(true));
// a link to where the page stands already changes no address; the browser has moved the focus by then
document.addEventListener("click", event => {
  const link = event.target.closest("a[href^='#']");
  if (link && link.hash === location.hash) setTimeout(reveal, 0, true);
});
let folded = [];
window.addEventListener("beforeprint", () => {
  printing = true;
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const part of folded) part.open = true;
});
window.addEventListener("afterprint", () => {
  for (const part of folded) part.open = false;
  printing = false;
});
enhanceAll(document);
document.querySelectorAll(".factors").forEach(addFolding);
reveal(false);
})();
