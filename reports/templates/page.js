"use strict";
// The page says everything without this script; it moves through the samples and reads the time lines out.
(() => {
  const viewer = document.querySelector(".viewer");
  const controls = document.querySelector(".controls");
  if (!controls) return;
  const views = new Map(viewer ? [[viewer.querySelector(".view").dataset.key, viewer.querySelector(".view")]] : []);
  let leader = null;

  // the page holds a picture once: in the view that it opens with, or in a store of those that wait
  const pictures = new Map();
  const stored = document.querySelector("template.pictures");
  for (const image of [...document.querySelectorAll("[data-picture]"), ...(stored ? stored.content.children : [])])
    pictures.set(image.dataset.picture, image.src);

  const ranges = [...controls.querySelectorAll("input[type=range]")];
  const current = () => viewer ? viewer.querySelector(".view") : document.querySelector("main");
  const chosen = name => controls.elements[name];

  function show() {
    const key = [chosen("piece") ? chosen("piece").value : 0, ...ranges.map(range => range.value)].join("-");
    for (const range of ranges) {
      const text = JSON.parse(range.dataset.values)[range.value];
      range.setAttribute("aria-valuetext", text);
      range.parentElement.querySelector("output").value = text;
    }
    const before = current(), open = before.querySelector("details.original")?.open;
    if (!views.has(key)) {
      const stored = viewer.querySelector(`template[data-key="${key}"]`);
      views.set(key, stored ? stored.content.firstElementChild : nothing());
    }
    const after = views.get(key), tops = [...before.querySelectorAll("pre")].map(progress);
    for (const image of after.querySelectorAll("[data-picture]:not([src])")) image.src = pictures.get(image.dataset.picture);
    for (const player of before.querySelectorAll("audio")) player.pause();
    before.replaceWith(after);
    for (const details of after.querySelectorAll("details.original")) details.open = open;
    const top = Math.max(0, ...tops);
    for (const pre of after.querySelectorAll("pre")) pre.scrollTop = top * (pre.scrollHeight - pre.clientHeight);
    dress();
  }

  function nothing() {
    const view = document.createElement("div");
    view.className = "view";
    view.innerHTML = "<p>Nothing is on file here.</p>";
    return view;
  }

  function dress() {
    const sent = chosen("sent").checked;
    current().classList.toggle("long", Boolean(chosen("long")?.checked));
    current().classList.toggle("plain", chosen("holes")?.checked === false);
    current().classList.toggle("sent", sent);
    for (const shown of current().querySelectorAll(":is(img, audio).restored")) {
      shown.dataset.came ??= shown.src;
      const source = sent ? shown.closest(".example").querySelector(`${shown.localName}.original`).src : shown.dataset.came;
      if (shown.src !== source) shown.src = source;
    }
    for (const run of current().querySelectorAll("i[data-sent]")) {
      run.dataset.came ??= run.textContent;
      run.textContent = sent ? run.dataset.sent : run.dataset.came;
    }
    for (const line of current().querySelectorAll(".example svg.air")) {
      line.tabIndex = 0;
      line.setAttribute("role", "slider");
      line.setAttribute("aria-valuemin", 1);
      line.setAttribute("aria-valuemax", line.viewBox.baseVal.width);
      line.setAttribute("aria-valuenow", 1);
    }
  }

  // panels of one item scroll together, so that the same place of the text is in sight in all of them
  const progress = pre => pre.scrollTop / Math.max(1, pre.scrollHeight - pre.clientHeight);
  function follow(event) {
    if (event.target !== leader) return;
    const at = progress(leader);
    for (const pre of leader.closest(".example").querySelectorAll("pre"))
      if (pre !== leader) pre.scrollTop = at * (pre.scrollHeight - pre.clientHeight);
  }

  // one cursor for all time lines of an item: arms that lie under it are on the air at the same time
  function point(line, slot) {
    for (const other of line.closest(".example").querySelectorAll("svg.air")) {
      const total = +other.viewBox.baseVal.width, caption = other.previousElementSibling;
      other.querySelector(".cursor")?.remove();
      caption.dataset.text ??= caption.textContent;
      caption.textContent = slot === null ? caption.dataset.text : said(other, slot, total);
      if (slot === null || slot >= total) continue;
      const cursor = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      for (const [name, value] of Object.entries({class: "cursor", x: slot, y: 0, width: 1, height: 10})) cursor.setAttribute(name, value);
      other.append(cursor);
    }
    line.dataset.slot = slot ?? 0;
  }

  function said(line, slot, total) {
    if (slot >= total) return "nothing on the air any more";
    for (const burst of line.querySelectorAll("rect.x")) {
      const first = +burst.getAttribute("x"), length = +burst.getAttribute("width");
      if (first <= slot && slot < first + length)
        return `slot ${slot + 1} of ${total}: lost` + (length > 1 ? `, ${slot - first + 1} of ${length} in a row` : "");
    }
    return `slot ${slot + 1} of ${total}: arrived`;
  }

  function hover(event) {
    const line = event.target.closest(".example svg.air");
    if (!line) return;
    const box = line.getBoundingClientRect(), total = line.viewBox.baseVal.width;
    point(line, Math.max(0, Math.min(total - 1, Math.floor((event.clientX - box.left) / box.width * total))));
  }

  function step(event) {
    const line = event.target.closest(".example svg.air");
    const move = {ArrowLeft: -1, ArrowRight: 1, PageDown: 10, PageUp: -10, Home: -1e9, End: 1e9}[event.key];
    if (!line || move === undefined) return;
    event.preventDefault();
    const last = line.viewBox.baseVal.width - 1, slot = Math.max(0, Math.min(last, +(line.dataset.slot ?? 0) + move));
    point(line, slot);
    line.setAttribute("aria-valuenow", slot + 1);
    line.setAttribute("aria-valuetext", said(line, slot, last + 1));
  }

  const leave = event => { const line = event.target.closest(".example svg.air"); if (line) point(line, null); };

  controls.hidden = false;
  controls.addEventListener("submit", event => event.preventDefault());
  controls.addEventListener("input", event => viewer && !["sent", "long", "holes"].includes(event.target.name) ? show() : dress());
  for (const name of ["pointerover", "focusin"])
    document.addEventListener(name, event => { leader = event.target.closest(".example pre") ?? leader; });
  document.addEventListener("scroll", follow, true);
  document.addEventListener("pointermove", hover);
  document.addEventListener("pointerout", leave);
  document.addEventListener("focusout", leave);
  document.addEventListener("keydown", step);
  dress();
})();
