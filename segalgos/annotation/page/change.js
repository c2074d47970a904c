// Changes of the open image: one after the other, each on the state that the last one left.

import { get, post } from "./api.js";
import { state, take, tell } from "./state.js";

const message = document.getElementById("message");
const saved = document.getElementById("saved");
let queue = Promise.resolve();
let waiting = 0;
let hiding = 0;

export function show(text, kind = "bad") {
  message.textContent = text;
  message.className = kind === "note" ? "note" : "";
  message.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => (message.hidden = true), kind === "note" ? 3500 : 9000);
}

export function hideMessage() {
  message.hidden = true;
}

function showSaved(text, kind = "") {
  saved.textContent = text;
  saved.className = kind;
}

// Runs `work` after all that was asked for before; tells what went wrong.
export function inTurn(work) {
  waiting += 1;
  showSaved("saving …", "busy");
  queue = queue.then(work).then(
    (answer) => {
      waiting -= 1;
      if (waiting === 0) showSaved("saved");
      return answer;
    },
    async (error) => {
      waiting -= 1;
      showSaved(error.kind === "gone" ? "no server" : "saved", error.kind === "gone" ? "lost" : "");
      show(error.message);
      if (error.kind === "stale") await reload();
      return null;
    },
  );
  return queue;
}

async function reload() {
  try {
    takeClasses(await get("/api/overview"), true);
    if (state.open) await openImage(state.open.id, { keepView: true });
  } catch (error) {
    show(error.message);
  }
}

export function takeClasses(answer, withImages = false) {
  state.classes = answer.classes;
  state.classesRevision = answer.classes_revision;
  if (!state.classes.some((one) => one.id === state.classId) && state.classId !== 0) {
    state.classId = state.classes[0]?.id ?? null;
  }
  if (withImages) state.images = answer.images;
  tell("classes");
  if (withImages) tell("images");
}

export function takeRow(row) {
  const place = state.images.findIndex((one) => one.id === row.id);
  if (place >= 0) state.images[place] = row;
  tell("images");
}

let opening = 0;

// Until the image is there nothing can be drawn: it would be meant for the one that is still seen.
function showOpening(on) {
  state.opening = on;
  document.body.classList.toggle("opening", on);
}

export async function openImage(id, { keepView = false } = {}) {
  const mine = ++opening;
  showOpening(true);
  try {
    if (!keepView) await queue; // what was drawn on the one before is saved first
    const answer = await get(`/api/images/${id}`);
    if (mine === opening) takeImage(id, answer, keepView); // or another one was asked for meanwhile
  } catch (error) {
    if (mine === opening) takeBroken(id, error);
  } finally {
    if (mine === opening) showOpening(false);
  }
}

function takeImage(id, answer, keepView) {
  state.broken = null;
  state.open = { ...answer, id };
  delete state.open.items;
  state.items.clear();
  answer.items.forEach(take);
  if (!keepView) state.forest = null;
  if (!state.items.has(state.selected) || !keepView) state.selected = null;
  takeRow(answer.image);
  tell(keepView ? "reopened" : "open", "items", "selection", "forest");
}

function takeBroken(id, error) {
  const row = state.images.find((one) => one.id === id);
  state.open = null;
  state.items.clear();
  state.selected = null;
  state.forest = null;
  state.broken = { id, name: row?.name ?? "", error: error.message };
  if (row) row.error = error.message;
  tell("open", "items", "selection", "images", "forest");
}

// Asks for a change; gives the answer, or null if it was refused.
export function change(action, content = {}) {
  const id = state.open?.id;
  if (id === undefined) return Promise.resolve(null);
  return inTurn(async () => {
    if (state.open?.id !== id) return null;
    const filled = typeof content === "function" ? content() : content;
    const answer = await post(`/api/images/${id}/change`, { revision: state.open.revision, action, ...filled });
    takeRow(answer.image);
    takeClasses(answer);
    if (state.open?.id !== id) return answer;
    Object.assign(state.open, { revision: answer.revision, undo: answer.undo, redo: answer.redo });
    answer.removed.forEach((key) => state.items.delete(key));
    answer.put.forEach(take);
    state.items = new Map([...state.items].sort((one, other) => one[0] - other[0]));
    if (!state.items.has(state.selected)) state.selected = null;
    tell("items", "selection");
    return answer;
  });
}
