// What the pointer does with each tool. Keys move the same pointer: see keys.js.

import { change, hideMessage, show } from "./change.js";
import { classOf, selectedObject, state, tell } from "./state.js";
import { objectAt, pan, redraw, seen, toImage, view, zoomAt } from "./view.js";

const canvas = document.getElementById("canvas");

export const TOOLS = {
  click: { icon: "M12 3v6M12 15v6M3 12h6M15 12h6", name: "Click", key: "c", hint: "Click on an object; right-click (or Alt) beside it. Enter ends the object." },
  box: { icon: "M4 6h16v12H4z", name: "Box", key: "b", hint: "Draw a box around an object. Then click to refine it." },
  scribble: { icon: "M3 15c3-9 5-9 6-3s3 5 5-1 4-4 7 0", name: "Scribble", key: "s", hint: "Draw over an object; with the right button (or Alt) beside it. Enter ends the object." },
  brush: { icon: "M12 12m-6 0a6 6 0 1 0 12 0a6 6 0 1 0-12 0z", name: "Brush", key: "d", hint: "Paint the chosen object, or a new one. [ and ] change the size." },
  eraser: { icon: "M4 15l8-9 8 7-6 7H8zM8 10.5l8 7", name: "Eraser", key: "e", hint: "Erase from the chosen object, or from all. [ and ] change the size." },
  polygon: { icon: "M12 4l8 6-3 9H7L4 10z", name: "Polygon", key: "p", hint: "Click corner by corner; Enter or a double click closes it, Esc drops it." },
  forest: { icon: "M12 3l6 9h-4l4 6H6l4-6H6zM12 18v4", name: "Forest", key: "f", hint: "Scribble on each class and on background (0); the forest learns. Ctrl-click takes a piece as an object." },
  select: { icon: "M6 3l13 9-6 1-3 6z", name: "Choose", key: "v", hint: "Click on an object to choose it; drag to move the image." },
};

const SCREEN_CLICK = 4; // radius of a click, in pixels of the screen

let drag = null; // what the pressed button does

export function chooseTool(name) {
  view.draft = null;
  state.tool = name;
  tell("tool");
}

export function choose(id) {
  state.selected = id;
  const item = selectedObject();
  if (item) state.classId = item.class;
  tell("selection", "classes");
}

function needsClass() {
  if (state.classId !== null && state.classId !== 0) return true;
  show(state.classes.length ? "Choose a class on the right first: background is for the forest alone." : "Add a class first, on the right.");
  return false;
}

function at(event) {
  const { x, y } = toImage(event.offsetX, event.offsetY);
  return { x, y };
}

const within = ({ x, y }) => x >= 0 && y >= 0 && x < state.open.width && y < state.open.height;

canvas.addEventListener("contextmenu", (event) => event.preventDefault());

canvas.addEventListener("pointerdown", (event) => {
  canvas.focus();
  if (!state.open || state.opening) return;
  canvas.setPointerCapture(event.pointerId);
  const moves = event.button === 1 || state.spacePan;
  press(at(event), { outside: event.button === 2 || event.altKey, control: event.ctrlKey || event.metaKey, moves, screen: event });
  event.preventDefault();
});

canvas.addEventListener("pointermove", (event) => {
  if (!state.open) return;
  const place = at(event);
  view.cursor = { ...place };
  tell("cursor");
  if (drag?.screen) {
    pan(event.clientX - drag.screen.x, event.clientY - drag.screen.y);
    drag.moved += Math.abs(event.clientX - drag.screen.x) + Math.abs(event.clientY - drag.screen.y);
    drag.screen = { x: event.clientX, y: event.clientY };
    return;
  }
  move(place);
});

canvas.addEventListener("pointerup", (event) => {
  if (state.open) release(at(event));
});
canvas.addEventListener("pointercancel", drop);
canvas.addEventListener("pointerleave", () => {
  if (!drag) view.cursor = null;
  redraw();
});
canvas.addEventListener("dblclick", () => state.tool === "polygon" && closePolygon());

canvas.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    if (!state.open) return;
    if (event.shiftKey) pan(-event.deltaY - event.deltaX, 0);
    else zoomAt(event.offsetX, event.offsetY, Math.exp(-Math.max(-200, Math.min(200, event.deltaY)) / 500));
  },
  { passive: false },
);

export function press(place, { outside = false, control = false, moves = false, screen = null } = {}) {
  hideMessage();
  if (moves || (state.tool === "select" && screen)) {
    drag = { screen: { x: screen.clientX, y: screen.clientY }, moved: 0, start: place, chooses: !moves };
    return;
  }
  const radius = state.radius / view.zoom;
  const point = [place.y, place.x];
  switch (state.tool) {
    case "select":
      choose(objectAt(place.x, place.y)?.id ?? null);
      return;
    case "click":
      if (within(place)) clickAt(point, !outside);
      return;
    case "polygon":
      if (!view.draft) view.draft = { corners: [], color: classOf(state.classId).color };
      view.draft.corners.push(point);
      redraw();
      return;
    case "box":
      drag = { start: place };
      view.draft = { box: [place.y, place.x, place.y, place.x] };
      break;
    case "forest":
      if (control) {
        change("accept", { point });
        return;
      }
      if (state.classId === null) return show("Add a class first, on the right.");
      begin(point, radius, true, classOf(outside ? 0 : state.classId).color, outside ? 0 : state.classId);
      break;
    case "scribble":
      begin(point, radius, !outside, outside ? "#ff5a5a" : "#27e07a");
      break;
    default:
      begin(point, radius, state.tool === "brush" && !outside, state.tool === "brush" && !outside ? classOf(selectedObject()?.class ?? state.classId).color : "#ff5a5a");
  }
  redraw();
}

function begin(point, radius, inside, color, classId = null) {
  drag = { classId };
  view.draft = { stroke: { points: [point], radius, inside }, color };
}

export function move(place) {
  if (drag && view.draft?.box) {
    const { start } = drag;
    view.draft.box = [Math.min(start.y, place.y), Math.min(start.x, place.x), Math.max(start.y, place.y), Math.max(start.x, place.x)];
  } else if (drag && view.draft?.stroke) {
    const points = view.draft.stroke.points;
    const [row, col] = points[points.length - 1];
    if (Math.hypot(row - place.y, col - place.x) * view.zoom >= 1.5) points.push([place.y, place.x]);
  }
  redraw();
}

export function release(place) {
  const ended = drag;
  drag = null;
  if (!ended) return;
  if (ended.screen !== undefined) {
    if (ended.chooses && ended.moved < 4) choose(objectAt(ended.start.x, ended.start.y)?.id ?? null);
    return;
  }
  const draft = view.draft;
  const finish = () => {
    if (view.draft === draft) view.draft = null;
    redraw();
  };
  if (draft?.box) {
    const [row0, col0, row1, col1] = draft.box;
    if ((row1 - row0) * view.zoom < 4 || (col1 - col0) * view.zoom < 4 || !needsClass()) return finish();
    pointAt({ box: draft.box, object: null }).then(finish);
  } else if (draft?.stroke) {
    if (!draft.stroke.points.length) return finish();
    strokeEnded(draft.stroke, ended.classId).then(finish);
  }
}

export function drop() {
  drag = null;
  view.draft = null;
  redraw();
}

function strokeEnded(stroke, classId) {
  if (state.tool === "forest") return change("scribble", { class: classId, stroke });
  if (state.tool === "scribble") {
    if (!selectedObject() && !needsClass()) return Promise.resolve();
    return pointAt({ stroke });
  }
  if (stroke.inside && !selectedObject() && !needsClass()) return Promise.resolve();
  return selectNew(() => change("paint", () => ({ object: selectedObject()?.id ?? null, class: state.classId, stroke })));
}

function clickAt(point, inside) {
  if (!selectedObject() && !needsClass()) return;
  const stroke = { points: [point], radius: SCREEN_CLICK / view.zoom, inside };
  if (!inside && !selectedObject()) return show("First click on the object, then beside it.");
  view.draft = { stroke, color: inside ? "#27e07a" : "#ff5a5a" };
  redraw();
  const draft = view.draft;
  pointAt({ stroke }).then(() => {
    if (view.draft === draft) view.draft = null;
    redraw();
  });
}

// Clicks and scribbles refine the chosen object; a box begins a new one.
function pointAt(content) {
  return selectNew(() =>
    change("point", () => ({ object: selectedObject()?.id ?? null, class: state.classId, method: state.method, view: seen(), ...content })),
  );
}

async function selectNew(work) {
  const answer = await work();
  const made = answer?.put.find((item) => item.type === "object");
  if (made && answer.what === "new object") choose(made.id);
  return answer;
}

export function closePolygon() {
  const draft = view.draft;
  view.draft = null;
  redraw();
  const corners = draft?.corners?.filter((point, i, all) => i === 0 || point[0] !== all[i - 1][0] || point[1] !== all[i - 1][1]);
  if (!corners || corners.length < 3) return;
  if (!selectedObject() && !needsClass()) return;
  selectNew(() => change("polygon", () => ({ object: selectedObject()?.id ?? null, class: state.classId, points: corners })));
}
