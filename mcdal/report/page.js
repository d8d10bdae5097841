// Answers a pointer over the figures, and hides and shows strategies. Without it the page says the same.
"use strict";

(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const ROWS = 12; // of a reading; with more lines, those nearest to the pointer

  document.documentElement.classList.add("scripted-page");

  const linesOf = (chapter, line) => chapter.querySelectorAll(`[data-line="${line}"]`);

  function toggles(chapter) {
    for (const name of chapter.querySelectorAll("[data-toggle]")) {
      const line = name.dataset.toggle;
      if (!linesOf(chapter, line).length) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.className = name.className;
      button.dataset.toggle = line;
      button.title = "Hide or show its lines";
      button.setAttribute("aria-pressed", "true");
      button.append(...name.childNodes);
      name.replaceWith(button);
      button.addEventListener("click", () => {
        const shown = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(shown));
        for (const part of linesOf(chapter, line)) part.classList.toggle("hidden", !shown);
      });
      const stress = (on) => emphasize(chapter, on ? line : null);
      button.addEventListener("pointerenter", () => stress(true));
      button.addEventListener("pointerleave", () => stress(false));
      button.addEventListener("focus", () => stress(true));
      button.addEventListener("blur", () => stress(false));
    }
  }

  function emphasize(chapter, line) {
    for (const part of chapter.querySelectorAll("[data-line]")) {
      part.classList.toggle("dim", line !== null && part.dataset.line !== String(line));
    }
  }

  const isHidden = (box, line) => box.querySelector(`[data-line="${line}"].hidden`) !== null;

  function readings(chapter, box) {
    const plot = JSON.parse(box.dataset.plot);
    const svg = box.querySelector("svg");
    const [left, top, width, height] = plot.panel;
    const [x0, x1, y0, y1] = plot.limits;
    const at = [...new Set(plot.lines.flatMap((l) => l.points.map((p) => p[0])))].sort((a, b) => a - b);
    if (!at.length) return;
    const toX = (x) => left + ((x - x0) / (x1 - x0)) * width;
    const toY = (y) => top + ((y1 - y) / (y1 - y0)) * height;

    const rule = document.createElementNS(SVG, "line");
    rule.setAttribute("class", "rule");
    rule.setAttribute("y1", top);
    rule.setAttribute("y2", top + height);
    const dot = document.createElementNS(SVG, "circle");
    dot.setAttribute("class", "dot");
    dot.setAttribute("r", 4.5);
    const reading = document.createElement("div");
    reading.className = "reading-box";
    box.append(reading);

    const leave = () => {
      rule.remove();
      dot.remove();
      reading.classList.remove("open");
      emphasize(chapter, null);
    };

    const move = (event) => {
      const corner = svg.getBoundingClientRect();
      const scale = svg.viewBox.baseVal.width / corner.width;
      const [x, y] = [(event.clientX - corner.left) * scale, (event.clientY - corner.top) * scale];
      if (x < left - 8 || x > left + width + 8 || y < top - 8 || y > top + height + 8) return leave();
      const labels = at.reduce((best, n) => (Math.abs(toX(n) - x) < Math.abs(toX(best) - x) ? n : best));
      const there = plot.lines
        .filter((l) => !isHidden(box, l.line))
        .map((l) => ({ ...l, point: l.points.find((p) => p[0] === labels) }))
        .filter((l) => l.point)
        .sort((a, b) => b.point[1] - a.point[1]);
      if (!there.length) return leave();
      const distance = (l) => Math.abs(toY(l.point[1]) - y);
      const nearest = there.reduce((best, l) => (distance(l) < distance(best) ? l : best));
      const place = there.indexOf(nearest);
      const first = Math.max(0, Math.min(place - Math.floor(ROWS / 2), there.length - ROWS));
      show(there, first, nearest, labels, corner);
    };

    const show = (there, first, nearest, labels, corner) => {
      for (const [name, value] of [["x1", toX(labels)], ["x2", toX(labels)]]) rule.setAttribute(name, value);
      dot.setAttribute("cx", toX(labels));
      dot.setAttribute("cy", toY(nearest.point[1]));
      dot.style.fill = `var(${nearest.color})`;
      svg.append(rule, dot);
      if (there.length > 4) emphasize(chapter, nearest.line);
      const rows = there.slice(first, first + ROWS).map((l) => {
        const row = document.createElement("li");
        if (l === nearest) row.className = "nearest";
        const swatch = document.createElement("i");
        swatch.style.background = `var(${l.color})`;
        const name = document.createElement("span");
        name.textContent = l.title;
        const value = document.createElement("b");
        value.textContent = l.point[3];
        row.append(swatch, name, value);
        return row;
      });
      const head = document.createElement("p");
      head.textContent = `${nearest.point[2]} labels`;
      const list = document.createElement("ul");
      list.append(...rows);
      reading.replaceChildren(head, list);
      reading.classList.add("open");
      const scale = corner.width / svg.viewBox.baseVal.width;
      const beside = (left + width) * scale + 10; // over the names, not over the lines
      const most = document.documentElement.clientWidth - corner.left - reading.offsetWidth - 6;
      reading.style.left = `${Math.min(beside, most)}px`;
      reading.style.top = `${(top - 14) * scale}px`;
    };

    svg.addEventListener("pointermove", move);
    svg.addEventListener("pointerdown", move);
    svg.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && leave());
    document.addEventListener("pointerdown", (event) => box.contains(event.target) || leave());
  }

  for (const chapter of document.querySelectorAll(".chapter")) {
    toggles(chapter);
    for (const box of chapter.querySelectorAll("[data-plot]")) readings(chapter, box);
  }
})();
