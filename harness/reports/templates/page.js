"use strict";
(() => {
  const find = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const data = (id) => JSON.parse(document.getElementById(id).textContent);

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
  for (const button of all(".sort")) {
    button.addEventListener("click", () => {
      const head = button.closest("th"), table = button.closest("table"), column = Number(button.dataset.column);
      const first = column === 0 ? "ascending" : "descending";
      const other = column === 0 ? "descending" : "ascending";
      const next = head.getAttribute("aria-sort") === first ? other : first;
      for (const th of all("thead th", table)) th.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", next);
      for (const body of table.tBodies) sortBody(body, column, next === "ascending" ? 1 : -1);
    });
  }

  // Filter of measured encoders.
  find("#filter").addEventListener("input", (event) => {
    const wanted = event.target.value.trim().toLowerCase();
    for (const body of all("tbody.own")) {
      const shown = new Set(all("tr.measured, tr.mean", body)
        .filter((row) => find(".name", row).textContent.toLowerCase().includes(wanted))
        .map((row) => row.dataset.group));
      for (const row of all("tr[data-group]", body)) row.classList.toggle("hidden", !shown.has(row.dataset.group));
    }
  });
  find("#published").addEventListener("change", (event) => {
    find("main").classList.toggle("no-published", !event.target.checked);
  });

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
  function showResult(number) {
    sources ??= data("provenance-data");
    const result = sources.results[number], card = sources.cards[result.card], run = sources.runs[result.run];
    const given = Object.entries(card.parameters).filter(([, value]) => value !== null);
    const commit = run.commit ? run.commit.slice(0, 12) + (run.dirty ? " with changes" : "") : "no checkout";
    find("#card-title").textContent = `${card.name} on ${result.task}`;
    find("#card-body").replaceChildren(
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
    );
    find("#card").showModal();
  }
  for (const button of all(".number")) button.addEventListener("click", () => showResult(Number(button.dataset.result)));
  find("#card").addEventListener("click", (event) => { if (event.target === find("#card")) find("#card").close(); });

  // Pairs of sentences.
  const form = find("#explorer");
  if (!form) return;
  const { encoders, tasks } = data("explorer-data");
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
  function fact(text, name) {
    const span = make("span");
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
      fact(`${encoders[first]}: cosine ${t.cosines[first][i]}, percentile ${t.ranks[first][i]}`, "first"),
    );
    if (second !== null) {
      strip.append(tick(t.ranks[second][i], "second"));
      meta.append(fact(`${encoders[second]}: cosine ${t.cosines[second][i]}, percentile ${t.ranks[second][i]}`, "second"));
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
  form.addEventListener("input", () => { limit = step; offer(); show(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  find("#more").addEventListener("click", () => { limit += step; show(); });
  offer();
  show();
})();
