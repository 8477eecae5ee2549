// What pages do beyond links: keys, the slider of two images, choices that apply at once. All works without it too.
"use strict";

document.documentElement.classList.add("scripted");

function rows() {
  return [...document.querySelectorAll("a[data-row]")];
}

function step(by) {
  const all = rows();
  if (!all.length) return;
  const at = all.indexOf(document.activeElement);
  const next = at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + by, 0), all.length - 1);
  all[next].focus();
}

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  n: () => document.querySelector("a[data-next]")?.click(),
  "/": () => (document.querySelector("input[data-search]") ?? document.querySelector("main input:not([type=hidden])"))?.focus(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const action = KEYS[event.key];
  if (action) {
    event.preventDefault();
    action();
  }
});

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
});

document.addEventListener("input", (event) => {
  const slider = event.target.closest("[data-slider]");
  if (slider) slider.style.setProperty("--cut", `${event.target.value}%`);
});
