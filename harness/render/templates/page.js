"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "descending" || (head.getAttribute("aria-sort") === "none" && !head.classList.contains("number"));
      heads.forEach((other) => other.setAttribute("aria-sort", other === head ? (down ? "ascending" : "descending") : "none"));
      const value = (row) => row.cells[column].dataset.value;
      for (const body of table.tBodies) {
        const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
        rows.sort((a, b) => {
          const [x, y] = [value(a), value(b)];
          if (x === "" || y === "") return (x === "") - (y === "");
          const order = head.classList.contains("number") ? x - y : x.localeCompare(y, undefined, { numeric: true });
          return down ? order : -order;
        });
        body.append(...rows);
      }
    });
  });
}
for (const box of document.querySelectorAll(".scroll")) {
  const cue = document.createElement("p");
  cue.className = "cue";
  cue.textContent = "more columns to the right: scroll →";
  const look = () => { cue.hidden = box.scrollWidth <= box.clientWidth + 1; };
  box.before(cue);
  look();
  addEventListener("resize", look);
  box.closest("details")?.addEventListener("toggle", look);
}
let opened = [];
addEventListener("beforeprint", () => { opened = [...document.querySelectorAll("details:not([open])")]; opened.forEach((d) => { d.open = true; }); });
addEventListener("afterprint", () => { opened.forEach((d) => { d.open = false; }); opened = []; });
const store = document.getElementById("samples-data");
if (store) {
  const { runs, tasks, samples } = JSON.parse(store.textContent);
  const STATES = ["right", "partly right", "wrong", "failed"], CLASSES = ["right", "partly", "wrong", "failed"], TALL = 32;
  const make = (tag, text, cls) => { const e = document.createElement(tag); if (text !== undefined) e.textContent = text; if (cls) e.className = cls; return e; };
  const root = document.getElementById("browser");
  root.hidden = false;
  const form = make("form");
  const field = (name, control) => { const l = make("label", name); l.append(control); form.append(l); return control; };
  const choice = (name, options) => { const s = make("select"); options.forEach(([value, text]) => { const o = make("option", text); o.value = value; s.append(o); }); return field(name, s); };
  const words = field("search", make("input"));
  words.type = "search";
  const task = choice("task", [["", "all"], ...tasks.map((t, i) => [i, t])]);
  const run = choice("run", [["", "any"], ...runs.map((r, i) => [i, r])]);
  const state = choice("answer", [["", "any"], ["0", "right"], ["1", "partly right"], ["2", "wrong"], ["3", "failed"], ["cut", "prompt cut"], ["lost", "answer lost by cutting"], ["differ", "runs differ"]]);
  const count = make("p", "", "cue");
  count.setAttribute("role", "status");
  const list = make("div", undefined, "list"), space = make("div"), chosen = make("div", undefined, "chosen");
  list.setAttribute("role", "group");
  list.setAttribute("aria-label", "samples");
  chosen.setAttribute("aria-live", "polite");
  list.append(space);
  root.append(form, count, list, chosen);
  const texts = samples.map(() => null);
  const text = (i) => texts[i] ??= [samples[i][1], samples[i][2], samples[i][3], samples[i][4], ...samples[i][6], ...samples[i][7].map((a) => (a ? a[2] : ""))].join("\n").toLowerCase();
  const fits = (a, want) => a && (want === "" || (want === "cut" ? a[3] & 1 : want === "lost" ? a[3] & 2 : a[0] === +want));
  let found = [], at = -1;
  const filter = () => {
    const t = task.value, r = run.value, want = state.value, parts = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = [];
    samples.forEach((s, i) => {
      if (t !== "" && s[0] !== +t) return;
      const answers = r === "" ? s[7] : [s[7][+r]];
      if (want === "differ") {
        const kinds = new Set(s[7].filter(Boolean).map((a) => a[0] + "/" + a[1]));
        if (kinds.size < 2) return;
      } else if (!answers.some((a) => fits(a, want))) return;
      if (parts.length && !parts.every((p) => text(i).includes(p))) return;
      found.push(i);
    });
    count.textContent = `${found.length.toLocaleString("en")} of ${samples.length.toLocaleString("en")} samples`;
    space.style.height = `${Math.min(found.length * TALL, 1.6e7)}px`;
    list.scrollTop = 0;
    draw();
    show(found.length ? 0 : -1);
  };
  const top = () => { const all = found.length * TALL, tall = Math.min(all, 1.6e7); return all > tall ? Math.round((list.scrollTop / (tall - list.clientHeight)) * (found.length - list.clientHeight / TALL)) : Math.floor(list.scrollTop / TALL); };
  const draw = () => {
    const first = Math.max(0, top() - 3), last = Math.min(found.length, first + Math.ceil(list.clientHeight / TALL) + 8);
    const shift = found.length * TALL > 1.6e7 ? list.scrollTop - top() * TALL : 0;
    const focused = list.contains(document.activeElement);
    list.querySelectorAll("button").forEach((b) => b.remove());
    for (let n = first; n < last; n++) {
      const s = samples[found[n]], b = make("button");
      b.type = "button";
      b.style.top = `${n * TALL + shift}px`;
      b.setAttribute("aria-pressed", n === at);
      b.append(`${tasks[s[0]]} ${s[1]}: `);
      s[7].forEach((a, i) => { if (a) b.append(i ? " · " : "", make("span", a[1] === null ? "failed" : a[1].toFixed(0), CLASSES[a[0]])); });
      b.addEventListener("click", () => show(n, true));
      list.append(b);
      if (n === at && focused) b.focus({ preventScroll: true });
    }
  };
  const show = (n, focus) => {
    at = n;
    if (focus) {
      const y = n * TALL;
      if (y < list.scrollTop) list.scrollTop = y;
      if (y + TALL > list.scrollTop + list.clientHeight) list.scrollTop = y + TALL - list.clientHeight;
    }
    draw();
    if (focus) list.querySelector('[aria-pressed="true"]')?.focus({ preventScroll: true });
    chosen.replaceChildren();
    if (n < 0) return;
    const [t, id, question, begin, end, place, accepted, answers] = samples[found[n]];
    chosen.append(make("h3", `${tasks[t]}, ${id}`));
    const facts = make("dl");
    [["question", question], ["context begins", begin], ["and ends", end], ["the answer stands at", place], ["accepted", accepted.join("\n")]].forEach(([name, value]) => { if (value) facts.append(make("dt", name), make("dd", value)); });
    const beside = make("div", undefined, "beside");
    answers.forEach((a, i) => {
      const one = make("div");
      one.append(make("b", runs[i]));
      if (!a) { one.append(make("p", "was not asked this", "told")); beside.append(one); return; }
      const told = [STATES[a[0]] + (a[1] === null ? "" : `, ${a[1]}`), a[4], a[3] & 1 ? "prompt cut" : "", a[3] & 2 ? "answer lost by cutting" : ""].filter(Boolean).join("; ");
      one.append(make("p", told, "told"));
      const said = make("pre", a[2]);
      said.tabIndex = 0;
      one.append(said);
      if (a[5]) {
        const line = make("p", "ratio of each interval: ", "ratios");
        a[5].forEach((r, k) => line.append(k ? " " : "", make(k === a[6] ? "mark" : "span", (r || "raw") + (k === a[6] ? " (answer here)" : ""))));
        one.append(line);
      }
      beside.append(one);
    });
    chosen.append(facts, beside);
  };
  list.addEventListener("scroll", draw);
  list.addEventListener("keydown", (e) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[e.key];
    if (!step || at < 0) return;
    e.preventDefault();
    show(Math.min(found.length - 1, Math.max(0, at + step)), true);
  });
  form.addEventListener("submit", (e) => e.preventDefault());
  let wait;
  words.addEventListener("input", () => { clearTimeout(wait); wait = setTimeout(filter, 120); });
  [task, run, state].forEach((s) => s.addEventListener("change", filter));
  filter();
}
