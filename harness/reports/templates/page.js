"use strict";
(() => {
  const find = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  async function data(id) {
    const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
  }

  function make(tag, text = "", name = "") {
    const element = document.createElement(tag);
    if (text !== "") element.textContent = text;
    if (name) element.className = name;
    return element;
  }

  // Theme: auto follows the system; the choice is kept where the browser allows it for files.
  const themes = ["auto", "dark", "light"];
  const kept = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  function setTheme(theme) {
    document.documentElement.dataset.theme = theme;
    find("#theme").textContent = `Theme: ${theme}`;
    find("#theme").setAttribute("aria-label", `Colour theme: ${theme}`);
    try { localStorage.setItem("theme", theme); } catch { /* the page works without */ }
  }
  setTheme(themes.includes(kept()) ? kept() : "auto");
  find("#theme").addEventListener("click", () => {
    setTheme(themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % themes.length]);
  });

  // Sorting: rows move in groups (an encoder with what was published for it) and stay within their section.
  function keyOf(rows, column) {
    const cell = rows[0].cells[column];
    if (column === 0) return cell.textContent.trim();
    const value = parseFloat(cell.textContent);
    return Number.isNaN(value) ? null : value;
  }
  function compare(a, b, sign) {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
  }
  function sortBody(body, column, sign) {
    const groups = new Map();
    for (const row of all("tr[data-group]", body)) {
      if (!groups.has(row.dataset.group)) groups.set(row.dataset.group, []);
      groups.get(row.dataset.group).push(row);
    }
    const order = [...groups.values()].map((rows) => [keyOf(rows, column), rows]);
    order.sort((a, b) => compare(a[0], b[0], sign));
    for (const [, rows] of order) body.append(...rows);
  }
  function sortBy(button, direction) {
    const head = button.closest("th"), table = button.closest("table"), column = Number(button.dataset.column);
    for (const th of all("thead th", table)) th.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", direction);
    for (const body of table.tBodies) sortBody(body, column, direction === "ascending" ? 1 : -1);
  }
  for (const button of all(".sort")) {
    button.addEventListener("click", () => {
      const first = button.dataset.column === "0" ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      sortBy(button, button.closest("th").getAttribute("aria-sort") === first ? other : first);
      keep({ sort: `${button.closest("section").id}:${button.dataset.column}:${button.closest("th").getAttribute("aria-sort")}` });
    });
  }

  // What is shown is kept in the address, so that a link shows the same.
  const state = new URLSearchParams(location.hash.slice(1).includes("=") ? location.hash.slice(1) : "");
  function keep(changes) {
    for (const [key, value] of Object.entries(changes)) value ? state.set(key, value) : state.delete(key);
    history.replaceState(null, "", state.size ? `#${state}` : location.pathname + location.search);
  }

  // A link to a table opens it.
  function reveal(section) {
    for (const details of all(".more", section)) details.open = true;
    section.scrollIntoView();
  }
  function follow() {
    const section = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (section && section.tagName === "SECTION") reveal(section);
  }
  addEventListener("hashchange", follow);
  follow();

  // Filter of encoders, published rows, and columns.
  function filter(text) {
    const wanted = text.trim().toLowerCase();
    for (const body of all("section[id] > .scroll tbody")) {
      const rows = all("tr[data-group]", body);
      const shown = new Set(rows
        .filter((row) => { const name = find(".name", row); return name && `${name.textContent} ${name.title}`.toLowerCase().includes(wanted); })
        .map((row) => row.dataset.group));
      for (const row of rows) row.classList.toggle("hidden", wanted !== "" && !shown.has(row.dataset.group));
      const folded = body.closest(".more");
      if (folded && wanted !== "" && shown.size) folded.open = true;
    }
  }
  find("#filter").addEventListener("input", (event) => { filter(event.target.value); keep({ filter: event.target.value.trim() }); });
  find("#published").addEventListener("change", (event) => {
    find("main").classList.toggle("no-published", !event.target.checked);
    keep({ published: event.target.checked ? "" : "no" });
  });
  const heads = [...new Set(all("thead .sort").filter((b) => b.dataset.column !== "0").map((b) => b.textContent))];
  const hiddenHeads = new Set((state.get("without") ?? "").split("|").filter(Boolean));
  function showColumns() {
    for (const table of all("section[id] > .scroll > table")) {
      all("thead th", table).forEach((th, i) => {
        const button = find(".sort", th);
        const gone = i > 0 && button !== null && hiddenHeads.has(button.textContent);
        for (const row of [table.tHead.rows[0], ...table.tBodies[0].rows]) if (row.cells.length > 1) row.cells[i].classList.toggle("hidden", gone);
      });
    }
    keep({ without: [...hiddenHeads].join("|") });
  }
  for (const head of heads) {
    const label = make("label"), box = make("input");
    box.type = "checkbox";
    box.checked = !hiddenHeads.has(head);
    box.addEventListener("change", () => { box.checked ? hiddenHeads.delete(head) : hiddenHeads.add(head); showColumns(); });
    label.append(box, head);
    find("#columns div").append(label);
  }
  if (hiddenHeads.size) showColumns();
  if (state.get("filter")) { find("#filter").value = state.get("filter"); filter(state.get("filter")); }
  if (state.get("published") === "no") { find("#published").checked = false; find("main").classList.add("no-published"); }
  if (state.get("sort")) {
    const [name, column, direction] = state.get("sort").split(":");
    const section = document.getElementById(name);
    const button = section && all(".sort", section).find((one) => one.dataset.column === column);
    if (button) { sortBy(button, direction === "ascending" ? direction : "descending"); reveal(section); }
  }

  // Provenance of one number.
  let sources = null;
  function listing(entries) {
    const list = make("dl");
    for (const [key, value] of entries) {
      if (value === null || value === "" || (Array.isArray(value) && !value.length)) continue;
      const text = Array.isArray(value) ? value.join("; ") : String(value);
      list.append(make("dt", key), make("dd", text, /^[0-9a-f]{64}$/.test(text) ? "hash" : ""));
    }
    return list;
  }
  function folded(title, entries) {
    const details = make("details");
    details.append(make("summary", `${title} (${entries.length})`), listing(entries));
    return details;
  }
  async function showResults(numbers) {
    sources ??= await data("provenance-data");
    const bodies = numbers.map((number) => bodyOf(number));
    find("#card-title").textContent = numbers.length > 1 ? `${numbers.length} runs, of which this is the mean` : bodies[0][0];
    find("#card-body").replaceChildren(...bodies.flatMap(([title, parts]) => numbers.length > 1 ? [make("h3", title), ...parts] : parts));
    find("#card").showModal();
  }
  function showEvidence(button) {
    const row = button.closest("tr"), head = button.closest("table").tHead.rows[0].cells[button.closest("td").cellIndex];
    find("#card-title").textContent = `${find(".name", row).textContent}, ${head.textContent.trim()}: ${button.textContent}`;
    find("#card-body").replaceChildren(make("p", button.dataset.evidence));
    find("#card").showModal();
  }
  function bodyOf(number) {
    const result = sources.results[number], card = sources.cards[result.card], run = sources.runs[result.run];
    const given = Object.entries(card.parameters).filter(([, value]) => value !== null);
    const commit = run.commit ? run.commit.slice(0, 12) + (run.dirty ? " with changes" : "") : "no checkout";
    return [`${card.name} on ${result.task}`, [
      listing([
        ["Protocol", result.protocol], ["Flags", result.flags], ["Seed of the task", result.seed],
        ["Counted", Object.entries(result.counts).map(([key, value]) => `${value} ${key}`).join(", ")],
        ["Method", card.method], ["Parameters", given.map(([key, value]) => `${key}=${value}`).join(", ")], ["Backbone", card.backbone], ["Revision", card.revision],
        ["Weights sha256", card.weights_sha256], ["Pooling", card.pooling],
        ["Vectors", `${card.dim} × ${card.dtype}${card.normalized ? ", of length 1" : ""}`], ["Max. tokens", card.max_tokens],
        ["Fitted on", card.fitted_on], ["Trained on", card.trained_on], ["Seed", card.seed],
        ["Started", result.started], ["Seconds", `${result.seconds.toFixed(2)}, and ${result.encoding_seconds.toFixed(1)} to encode all tasks of the run`],
        ["Machine", Object.entries(run.machine).map(([key, value]) => `${key} ${value}`).join(", ")],
        ["Device", `${run.device}, ${run.threads} threads`], ["Commit", commit], ["Per-item scores", result.items],
      ]),
      folded("Scores", Object.entries(result.scores)),
      folded("Packages", Object.entries(run.packages)),
      folded("Data files, sha256", Object.entries(sources.data[result.data])),
    ]];
  }
  for (const button of all(".number")) {
    button.addEventListener("click", () => button.dataset.evidence ? showEvidence(button) : showResults(button.dataset.results.split(" ").map(Number)));
  }
  find("#card").addEventListener("click", (event) => { if (event.target === find("#card")) find("#card").close(); });

  // Figures lie in the page compressed.
  const images = all("#figures img");
  if (images.length) data("figures-data").then((texts) => images.forEach((image, i) => { image.src = `data:image/svg+xml,${encodeURIComponent(texts[i])}`; }));

  // Pairs of sentences.
  const form = find("#explorer");
  if (form) data("explorer-data").then((held) => explore(form, held));
  function explore(form, { encoders, names, tasks }) {
  const step = 25;
  let limit = step;
  const field = (name) => form.elements[name];
  function fill(select, entries, chosen) {
    select.replaceChildren(...entries.map(([value, text]) => {
      const option = make("option", text);
      option.value = value;
      return option;
    }));
    if (entries.some(([value]) => String(value) === String(chosen))) select.value = chosen;
  }
  fill(field("task"), tasks.map((task, i) => [i, task.name]));
  const task = () => tasks[Number(field("task").value)];

  function offer() {
    const known = Object.keys(task().ranks).map((i) => [i, encoders[i]]);
    const [first, second] = [field("first").value, field("second").value];
    fill(field("first"), known, first);
    fill(field("second"), known, known.some(([i]) => i === second) ? second : (known[1] ?? known[0])[0]);
    fill(field("subset"), [["", "all"], ...task().subsets.map((name, i) => [i, name])], field("subset").value);
    field("text").closest("label").classList.toggle("hidden", task().left === null);
    field("second").closest("label").classList.toggle("hidden", field("view").value === "residual");
  }
  function within(value, low, high) {
    return (low === "" || value >= Number(low)) && (high === "" || value <= Number(high));
  }
  function passes(t, i) {
    const wanted = field("text").value.trim().toLowerCase();
    return (field("subset").value === "" || t.subset[i] === Number(field("subset").value))
      && within(t.words[i], field("minWords").value, field("maxWords").value)
      && within(t.overlap[i], field("minOverlap").value, field("maxOverlap").value)
      && (wanted === "" || t.left === null || `${t.left[i]} ${t.right[i]}`.toLowerCase().includes(wanted));
  }
  function tick(percentile, name) {
    const mark = make("i", "", name);
    mark.style.left = `${percentile}%`;
    return mark;
  }
  function fact(text, name, title = "") {
    const span = make("span");
    span.title = title;
    span.append(make("span", "", `key ${name}`), text);
    return span;
  }
  function item(t, i, value, first, second) {
    const line = make("li"), meta = make("div", "", "meta"), strip = make("div", "", "strip");
    strip.setAttribute("aria-hidden", "true");
    strip.append(tick(t.goldRank[i], "gold"), tick(t.ranks[first][i], "first"));
    meta.append(
      make("b", `${value > 0 ? "+" : ""}${value.toFixed(1)}`), make("span", t.subsets[t.subset[i]]),
      fact(`gold ${t.gold[i]}, percentile ${t.goldRank[i]}`, "gold"),
      fact(`${encoders[first]}: cosine ${t.cosines[first][i]}, percentile ${t.ranks[first][i]}`, "first", names[first]),
    );
    if (second !== null) {
      strip.append(tick(t.ranks[second][i], "second"));
      meta.append(fact(`${encoders[second]}: cosine ${t.cosines[second][i]}, percentile ${t.ranks[second][i]}`, "second", names[second]));
    }
    meta.append(make("span", `${t.words[i]} words, overlap ${t.overlap[i]} %`));
    if (t.left !== null) line.append(make("p", t.left[i]), make("p", t.right[i]));
    line.append(strip, meta);
    return line;
  }
  function show() {
    const t = task(), residual = field("view").value === "residual";
    const first = field("first").value, second = residual ? null : field("second").value;
    const other = residual ? t.goldRank : t.ranks[second];
    const rows = t.gold.map((_, i) => i).filter((i) => passes(t, i))
      .map((i) => [t.ranks[first][i] - other[i], i])
      .sort((a, b) => Math.abs(b[0]) - Math.abs(a[0]));
    find("#list").replaceChildren(...rows.slice(0, limit).map(([value, i]) => item(t, i, value, first, second)));
    find("#shown").textContent = (t.left === null ? "The sentences of this task are not in the page. " : "")
      + `${Math.min(limit, rows.length)} of ${rows.length} pairs that pass; the page holds `
      + `${t.gold.length} of the task's ${t.total}: the largest residuals of each encoder`
      + (t.depth ? ` and the ${t.depth} largest disagreements of each two.` : ".");
    find("#more").hidden = rows.length <= limit;
  }
  function react(event) {
    if (event.type === "change" && event.target.tagName !== "SELECT") return;  // what is typed was seen as input
    limit = step;
    offer();
    show();
    const chosen = [...new FormData(form)].filter(([, value]) => value !== "");
    keep({ pairs: new URLSearchParams(chosen).toString() });
  }
  for (const kind of ["input", "change"]) form.addEventListener(kind, react);
  form.addEventListener("submit", (event) => event.preventDefault());
  find("#more").addEventListener("click", () => { limit += step; show(); });
  // Selects know their choices once the task is known, so what a link says is set from the first field on.
  const linked = new URLSearchParams(state.get("pairs") ?? "");
  offer();
  for (const name of ["task", "view", "first", "second", "subset", "minWords", "maxWords", "minOverlap", "maxOverlap", "text"]) {
    if (linked.has(name)) { field(name).value = linked.get(name); offer(); }
  }
  show();
  if (linked.size) find("#pairs").scrollIntoView();
  }
})();
