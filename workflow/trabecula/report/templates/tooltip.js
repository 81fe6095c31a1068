"use strict";
// Shows a point's text: under the pointer, or by the arrow keys when its group has the focus.
(() => {
  const tip = document.createElement("div");
  tip.className = "tooltip";
  tip.hidden = true;
  tip.setAttribute("role", "status");
  (document.querySelector("main") || document.body).append(tip);
  let chosen = null;
  const leave = () => {
    if (chosen) chosen.classList.remove("chosen");
    chosen = null;
    tip.hidden = true;
  };
  const show = (mark) => {
    leave();
    chosen = mark;
    mark.classList.add("chosen");
    tip.textContent = mark.dataset.says;
    tip.hidden = false;
    const box = mark.getBoundingClientRect();
    const left = Math.min(box.right + 8, document.documentElement.clientWidth - tip.offsetWidth - 4);
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${Math.max(4, box.top - tip.offsetHeight - 4)}px`;
  };
  for (const group of document.querySelectorAll("g.marks")) {
    // The browser's own tooltip comes late and not by keyboard: ours takes its text.
    for (const mark of group.children) {
      mark.dataset.says = mark.textContent;
      mark.querySelector("title").remove();
      mark.addEventListener("pointerenter", () => show(mark));
      mark.addEventListener("pointerleave", leave);
    }
    group.addEventListener("blur", leave);
    group.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") leave();
      if (!step) return;
      event.preventDefault();
      const marks = [...group.children];
      const at = marks.indexOf(chosen);
      show(marks[at < 0 ? 0 : (at + step + marks.length) % marks.length]);
    });
  }
  addEventListener("scroll", leave, { passive: true });
})();
