// What is open and chosen. Whoever changes it calls `tell`, whoever shows it listens.

export const state = {
  images: [], // rows: id, name, mark, objects, error
  classes: [], // id, name, color, countable, objects
  classesRevision: 0,
  open: null, // the open image: id, height, width, levels, revision, undo, redo
  opening: false, // whether another one is on its way
  items: new Map(), // of the open image, by id: objects and scribbles
  selected: null, // id of the object that clicks refine
  classId: null, // of the next object; 0 is background, for the forest
  tool: "click",
  method: "graph_cut",
  radius: 12, // of brush and scribble, in pixels of the screen
  forest: null, // { version, scale, areas, picture }
};

const listeners = new Map();

export function listen(what, call) {
  if (!listeners.has(what)) listeners.set(what, []);
  listeners.get(what).push(call);
}

export function tell(...whats) {
  for (const what of whats) for (const call of listeners.get(what) ?? []) call();
}

export const BACKGROUND = { id: 0, name: "background", color: "#8b95a3", countable: false };

export function classOf(id) {
  return id === 0 ? BACKGROUND : state.classes.find((one) => one.id === id) ?? BACKGROUND;
}

export function selectedObject() {
  const item = state.items.get(state.selected);
  return item?.type === "object" ? item : null;
}

export const objects = () => [...state.items.values()].filter((item) => item.type === "object");

export const scribbles = () => [...state.items.values()].filter((item) => item.type === "scribble");

// An item from the server, with what drawing needs.
export function take(item) {
  if (item.type === "object") {
    const path = new Path2D();
    let corners = 0;
    for (const loop of item.paths) {
      path.moveTo(loop[0], loop[1]);
      for (let k = 2; k < loop.length; k += 2) path.lineTo(loop[k], loop[k + 1]);
      path.closePath();
      corners += loop.length / 2;
    }
    item.path = path;
    item.corners = corners;
  }
  state.items.set(item.id, item);
}
