// The lists beside the canvas. All text goes in as text, never as HTML.

import { post } from "./api.js";
import { change, inTurn, openImage, takeClasses } from "./change.js";
import { BACKGROUND, classOf, listen, objects, scribbles, selectedObject, state, tell } from "./state.js";
import { choose } from "./tools.js";

const byId = (id) => document.getElementById(id);

export function element(tag, { text, ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// A line drawing in a square of 24.
export function icon(line, filled = false) {
  const space = "http://www.w3.org/2000/svg";
  const made = document.createElementNS(space, "svg");
  made.setAttribute("viewBox", "0 0 24 24");
  made.setAttribute("class", filled ? "icon filled" : "icon");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", line);
  made.append(path);
  return made;
}

function swatch(color) {
  const made = element("span", { class: "swatch" });
  made.style.background = color;
  return made;
}

// --- images ---

const ABOUT = { done: "✓ done", skipped: "skipped" };
const rows = new Map(); // by id: the element and what it shows
const lazy = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      lazy.unobserve(target);
      target.src = target.dataset.src;
    }
  },
  { root: byId("images"), rootMargin: "300px" },
);

function imageRow(row) {
  const picture = element("img", { alt: "", "data-src": `/api/images/${row.id}/thumbnail` });
  const about = element("div", { class: "about" });
  const made = element(
    "div",
    { class: "picture", role: "option", title: row.name, "data-id": row.id },
    row.error ? element("div", { class: "blank" }) : picture,
    element("div", { class: "text" }, element("div", { class: "name", text: row.name }), about),
  );
  picture.addEventListener("error", () => {
    picture.replaceWith(element("div", { class: "blank" }));
    const known = state.images.find((one) => one.id === row.id);
    known.error ??= "cannot be read";
    showImages();
  });
  if (!row.error) lazy.observe(picture);
  made.addEventListener("click", () => openImage(row.id));
  return { made, about };
}

function showImages() {
  const filter = byId("filter").value;
  const list = byId("images");
  const openId = state.open?.id ?? state.broken?.id;
  for (const row of state.images) {
    if (!rows.has(row.id)) {
      rows.set(row.id, imageRow(row));
      list.append(rows.get(row.id).made);
    }
    const { made, about } = rows.get(row.id);
    const count = row.objects === 1 ? "1 object" : `${row.objects} objects`;
    about.textContent = row.error ? "cannot be read" : [ABOUT[row.mark], row.objects ? count : null].filter(Boolean).join(", ") || "open";
    made.className = `picture ${row.error ? "broken" : row.mark}`;
    made.setAttribute("aria-selected", row.id === openId);
    made.hidden = filter !== "all" && row.mark !== filter && row.id !== openId;
  }
  const usable = state.images.filter((row) => !row.error);
  const done = usable.filter((row) => row.mark === "done").length;
  const skipped = usable.filter((row) => row.mark === "skipped").length;
  byId("progress-text").replaceChildren(
    element("b", { text: `${done} of ${usable.length}` }),
    ` done${skipped ? `, ${skipped} skipped` : ""}`,
  );
  byId("progress-bar").style.width = `${(100 * (done + skipped)) / Math.max(1, usable.length)}%`;
}

byId("filter").addEventListener("change", showImages);

function scrollToOpen() {
  rows.get(state.open?.id ?? state.broken?.id)?.made.scrollIntoView({ block: "nearest" });
}

// --- classes ---

function showClasses() {
  const entries = state.classes.map((one, i) => {
    const edit = element("button", { class: "edit", text: "✎", title: "Rename, colour, remove" });
    edit.addEventListener("click", (event) => {
      event.stopPropagation();
      editClass(one);
    });
    return classEntry(one, i < 9 ? String(i + 1) : "", String(one.objects), edit);
  });
  if (state.tool === "forest") entries.push(classEntry(BACKGROUND, "0", ""));
  byId("classes").replaceChildren(...entries);
  if (!state.classes.length) {
    byId("classes").prepend(element("div", { class: "empty", text: "What do you want to label? Add a first class." }));
  }
}

function classEntry(one, key, count, ...more) {
  const made = element(
    "div",
    { class: "entry", role: "option", tabindex: 0, "aria-selected": one.id === state.classId, title: one.countable ? "Objects, counted one by one" : "One area in an image" },
    swatch(one.color),
    element("span", { class: "name", text: one.name }),
    element("span", { class: "about", text: count }),
    ...(key ? [element("kbd", { text: key })] : []),
    ...more,
  );
  made.addEventListener("click", () => chooseClass(one.id));
  return made;
}

// The class of the next object, and of the one that is chosen.
export function chooseClass(id) {
  const chosen = selectedObject();
  state.classId = id;
  tell("classes");
  if (chosen && id !== 0 && chosen.class !== id) change("reclass", { ids: [chosen.id], class: id });
}

const dialog = byId("class-dialog");
let edited = null;

export function editClass(one = null) {
  edited = one;
  byId("class-title").textContent = one ? "Class" : "New class";
  byId("class-name").value = one?.name ?? "";
  byId("class-color").value = one?.color ?? newColor();
  byId("class-countable").checked = one?.countable ?? true;
  byId("class-remove").hidden = !one;
  byId("class-problem").textContent = "";
  dialog.showModal();
  byId("class-name").focus();
}

// The colours that the command gives classes, in the same order.
const COLORS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#8c564b", "#17becf", "#bcbd22"];
const newColor = () => COLORS.find((color) => !state.classes.some((one) => one.color === color)) ?? "#aaaaaa";

async function sendClasses(classes) {
  let answer = null;
  await inTurn(async () => {
    try {
      answer = await post("/api/classes", { revision: state.classesRevision, classes });
    } catch (error) {
      if (error.kind === "stale") throw error;
      byId("class-problem").textContent = error.message;
      return;
    }
    takeClasses(answer);
  });
  if (answer) dialog.close();
  return answer;
}

const plain = ({ id, name, color, countable }) => ({ id, name, color, countable });

async function saveClass() {
  const filled = { id: edited?.id ?? 0, name: byId("class-name").value, color: byId("class-color").value, countable: byId("class-countable").checked };
  const classes = state.classes.map((one) => plain(one.id === edited?.id ? filled : one));
  if (!edited) classes.push(filled);
  const answer = await sendClasses(classes);
  if (answer && !edited) {
    state.classId = answer.classes[answer.classes.length - 1].id;
    tell("classes");
  }
}

byId("add-class").addEventListener("click", () => editClass());
byId("class-save").addEventListener("click", saveClass);
byId("class-cancel").addEventListener("click", () => dialog.close());
byId("class-remove").addEventListener("click", () => sendClasses(state.classes.filter((one) => one.id !== edited.id).map(plain)));
byId("class-name").addEventListener("keydown", (event) => event.key === "Enter" && saveClass());

// --- objects ---

function showObjects() {
  const all = objects();
  const n = scribbles().length;
  byId("object-count").textContent = all.length ? `· ${all.length}` : "";
  const numbers = new Map();
  const entries = all.map((item) => {
    const info = classOf(item.class);
    const number = (numbers.get(item.class) ?? 0) + 1;
    numbers.set(item.class, number);
    const remove = element("button", { class: "edit", text: "✕", title: "Delete  Del" });
    remove.addEventListener("click", (event) => {
      event.stopPropagation();
      change("delete", { ids: [item.id] });
    });
    const made = element(
      "div",
      { class: "entry", role: "option", tabindex: 0, "aria-selected": item.id === state.selected },
      swatch(info.color),
      element("span", { class: "name", text: info.countable ? `${info.name} ${number}` : info.name }),
      element("span", { class: "about", text: `${item.area.toLocaleString("en")} px` }),
      remove,
    );
    made.addEventListener("click", () => choose(item.id));
    return made;
  });
  if (state.tool === "forest" && n) {
    const clear = element("button", { class: "edit", text: "✕", title: "Delete all scribbles of this image" });
    clear.addEventListener("click", () => change("delete", { ids: scribbles().map((item) => item.id) }));
    entries.push(element("div", { class: "entry" }, element("span", { class: "name", text: `${n} scribble${n === 1 ? "" : "s"} for the forest` }), clear));
  }
  if (!entries.length) entries.push(element("div", { class: "empty", text: "Nothing yet." }));
  byId("objects").replaceChildren(...entries);
  byId("objects").querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
}

listen("images", showImages);
listen("open", () => {
  showImages();
  scrollToOpen();
});
listen("classes", () => {
  showClasses();
  showObjects();
});
listen("tool", () => {
  showClasses();
  showObjects();
});
for (const what of ["items", "selection"]) listen(what, showObjects);
