"use strict";
(() => {
  const box = document.getElementById("find"), said = document.getElementById("found");
  const units = Array.from(document.querySelectorAll("main tbody tr, main .unit"));
  const texts = units.map((unit) => unit.textContent.toLowerCase());
  const folds = Array.from(document.querySelectorAll("main details"));
  const groups = Array.from(document.querySelectorAll("main .group, main section")).reverse();
  let before = null, timer = 0;

  function find() {
    const words = box.value.trim().toLowerCase();
    if (words && !before) before = new Map(folds.map((fold) => [fold, fold.open]));
    let number = 0;
    units.forEach((unit, at) => {
      const hit = !words || texts[at].includes(words);
      unit.hidden = !hit;
      number += hit;
    });
    for (const fold of folds) {
      const own = fold.querySelector("summary").textContent.toLowerCase();
      if (words && own.includes(words)) {
        for (const unit of fold.querySelectorAll("tbody tr, .unit")) unit.hidden = false;
      }
    }
    const shown = (part) => !words || part.querySelector("tbody tr:not([hidden]), .unit:not([hidden])") !== null;
    for (const fold of folds) {
      fold.hidden = !shown(fold);
      if (words) fold.open = !fold.hidden;
      else if (before) fold.open = before.get(fold);
    }
    for (const group of groups) group.hidden = !shown(group);
    if (!words) before = null;
    said.textContent = !words ? "" : number === 1 ? "1 row" : number + " rows";
  }

  box.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(find, 120); });
  box.parentNode.hidden = false;
})();
