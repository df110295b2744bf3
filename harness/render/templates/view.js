"use strict";
const [line, problem, follow, again, report] = ["line", "problem", "follow", "again", "report"].map((id) => document.getElementById(id));
let shown = null, known = null, loading = false, asked = 0, took = 0, y = 0;
const load = () => {
  loading = true;
  asked = performance.now();
  y = report.contentWindow?.scrollY ?? 0;
  shown = known;
  again.hidden = true;
  report.src = `report?${encodeURIComponent(known)}`;
};
report.addEventListener("load", () => {
  if (shown === null) return;
  loading = false;
  took = performance.now() - asked;
  report.contentWindow.scrollTo(0, y);
});
// Somebody who reads a sample is not to lose it.
const reading = () => Boolean(report.contentDocument?.activeElement?.closest(".browser"));
const look = async () => {
  try {
    const state = await (await fetch("state")).json();
    line.textContent = state.line;
    problem.textContent = state.problem;
    problem.hidden = !state.problem;
    known = state.stamp;
    const due = performance.now() - asked > Math.max(3000, 5 * took);
    if (known !== shown && !loading && state.any) {
      if (shown === null || (follow.checked && due && !reading())) load();
      else again.hidden = follow.checked && !reading();
    }
  } catch {
    line.textContent = "harness view has ended; what is shown is what there was";
  }
  setTimeout(look, 1500);
};
again.addEventListener("click", load);
look();
