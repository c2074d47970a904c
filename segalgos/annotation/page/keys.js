// The keyboard: everything can be done by it, drawing too.

import { change } from "./change.js";
import { chooseClass, editClass, element } from "./lists.js";
import { listen, objects, selectedObject, state, tell } from "./state.js";
import { TOOLS, choose, chooseTool, closePolygon, drop, move, press, release } from "./tools.js";
import { fit, pan, redraw, view, zoomBy } from "./view.js";
import * as steps from "./steps.js";

const byId = (id) => document.getElementById(id);
const canvas = byId("canvas");

const HELP = [
  ...Object.values(TOOLS).map((tool) => [tool.key.toUpperCase(), tool.name]),
  ["M", "next method"],
  ["1 – 9", "class, of the chosen object too"],
  ["0", "whole image; with the forest: background"],
  ["A", "new class"],
  ["Enter", "end the object, close the polygon"],
  ["Esc", "drop what is being drawn, choose nothing"],
  ["Tab / Shift+Tab", "next object, previous (on the image)"],
  ["Del", "delete the chosen object"],
  ["Ctrl+Z", "undo"],
  ["Ctrl+Shift+Z, Ctrl+Y", "redo"],
  ["Right button, Alt", "beside the object"],
  ["[ and ]", "size of brush and scribble"],
  ["Wheel, + and −", "larger, smaller"],
  ["H + drag, middle button", "move the image"],
  ["Ctrl + arrows", "move the image"],
  ["Arrows (Shift: far)", "move a cursor"],
  ["Space (Alt: beside)", "press and lift at the cursor"],
  ["T", "take all that the forest found"],
  ["Page down / up", "next, previous image"],
  ["N", "most useful next image"],
  ["Shift+Enter", "done, and on"],
  ["Shift+X", "skip, and on"],
  ["X", "export"],
  ["?", "this list"],
];

byId("help-table").replaceChildren(
  ...HELP.map(([key, what]) => element("div", {}, element("span", { text: what }), element("kbd", { text: key }))),
);

export const showHelp = () => byId("help-dialog").showModal();

function moveCursor(event) {
  const step = (event.shiftKey ? 25 : 4) / view.zoom;
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const [dx, dy] = ways[event.key];
  if (event.ctrlKey) return pan(-60 * dx, -60 * dy);
  const { width, height } = state.open;
  const from = view.cursor ?? { x: width / 2, y: height / 2 };
  view.cursor = {
    x: Math.min(width - 0.5, Math.max(0.5, from.x + dx * step)),
    y: Math.min(height - 0.5, Math.max(0.5, from.y + dy * step)),
    byKeys: true,
  };
  if (pressed) move(view.cursor);
  tell("cursor");
  redraw();
}

// Space presses at the cursor, and lifts with the next Space; a click needs one.
let pressed = false;

function pressAtCursor(event) {
  if (!view.cursor || state.opening) return;
  const drawn = !["click", "polygon", "select"].includes(state.tool);
  if (pressed || !drawn) {
    if (!drawn) press(view.cursor, { outside: event.altKey });
    else release(view.cursor);
    pressed = false;
  } else {
    press(view.cursor, { outside: event.altKey, control: event.ctrlKey });
    pressed = true;
  }
}

function nextObject(back) {
  const all = objects();
  if (!all.length) return;
  const place = all.findIndex((item) => item.id === state.selected);
  const next = place < 0 ? (back ? all.length - 1 : 0) : (place + (back ? -1 : 1) + all.length) % all.length;
  choose(all[next].id);
}

const resize = (factor) => {
  state.radius = Math.round(Math.min(100, Math.max(1, state.radius * factor + (factor > 1 ? 1 : -1))));
  tell("radius");
};

function command(event) {
  const { key } = event;
  const control = event.ctrlKey || event.metaKey;
  if (control && key.toLowerCase() === "z") return () => change(event.shiftKey ? "redo" : "undo");
  if (control && key.toLowerCase() === "y") return () => change("redo");
  if (key.startsWith("Arrow") && state.open) return () => moveCursor(event);
  if (control || event.metaKey) return null;
  if (key === " ") return () => state.open && pressAtCursor(event);
  if (event.altKey) return null;
  if (key === "Tab" && document.activeElement === canvas && objects().length) return () => nextObject(event.shiftKey);
  if (/^[1-9]$/.test(key)) return () => state.classes[key - 1] && chooseClass(state.classes[key - 1].id);
  if (key === "0") return () => (state.tool === "forest" ? chooseClass(0) : fit());
  if (event.shiftKey && key === "Enter") return () => steps.mark("done");
  if (event.shiftKey && key.toLowerCase() === "x") return () => steps.mark("skipped");
  const tool = Object.keys(TOOLS).find((name) => TOOLS[name].key === key.toLowerCase());
  if (tool) return () => chooseTool(tool);
  return {
    Enter: () => (view.draft?.corners ? closePolygon() : choose(null)),
    Escape: () => {
      pressed = false;
      if (view.draft) drop();
      else choose(null);
    },
    Delete: () => selectedObject() && change("delete", () => ({ ids: [state.selected] })),
    Backspace: () => selectedObject() && change("delete", () => ({ ids: [state.selected] })),
    "[": () => resize(0.8),
    "]": () => resize(1.25),
    "+": () => zoomBy(1.3),
    "=": () => zoomBy(1.3),
    "-": () => zoomBy(1 / 1.3),
    PageDown: () => steps.go(1),
    PageUp: () => steps.go(-1),
    n: steps.goUseful,
    a: () => editClass(),
    m: steps.nextMethod,
    t: () => state.tool === "forest" && change("accept"),
    x: steps.showExport,
    "?": showHelp,
  }[key.length === 1 ? key.toLowerCase() : key];
}

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  const { target } = event;
  const types = target.tagName === "INPUT" && !["range", "checkbox"].includes(target.type);
  if (types || (target.tagName === "SELECT" && !event.ctrlKey)) return;
  if (event.key.toLowerCase() === "h" && !event.ctrlKey) state.spacePan = true;
  if (["Enter", " "].includes(event.key) && !event.shiftKey) {
    if (target.tagName === "BUTTON" || target.tagName === "INPUT") return; // presses it
    if (target.classList.contains("entry")) return target.click();
  }
  const wanted = command(event);
  if (!wanted) return;
  event.preventDefault();
  wanted();
});

document.addEventListener("keyup", (event) => {
  if (event.key.toLowerCase() === "h") state.spacePan = false;
});

listen("tool", () => (pressed = false));
listen("open", () => (pressed = false));
