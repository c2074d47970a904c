// The canvas: where the image is on it, and what is drawn there.

import { state, classOf, listen, objects, scribbles } from "./state.js";

const TILE = 512;
const MAX_TILES = 160;

const canvas = document.getElementById("canvas");
const context = canvas.getContext("2d");

// A point of the image (x, y) is at `left + zoom * x`, `top + zoom * y` of the canvas.
export const view = { zoom: 1, left: 0, top: 0, draft: null, cursor: null, showAreas: true, showUnsure: true };

const tiles = new Map(); // by address: { picture, ready }
let wanted = false;

export function redraw() {
  if (wanted) return;
  wanted = true;
  requestAnimationFrame(() => {
    wanted = false;
    draw();
  });
}

export function toImage(x, y) {
  return { x: (x - view.left) / view.zoom, y: (y - view.top) / view.zoom };
}

// The part of the image that is seen: row0, col0, row1, col1.
export function seen() {
  const low = toImage(0, 0);
  const high = toImage(canvas.clientWidth, canvas.clientHeight);
  const { height, width } = state.open;
  return [
    Math.max(0, Math.min(low.y, height - 2)),
    Math.max(0, Math.min(low.x, width - 2)),
    Math.min(height, Math.max(high.y, 2)),
    Math.min(width, Math.max(high.x, 2)),
  ];
}

export function fit() {
  if (!state.open) return;
  const { height, width } = state.open;
  view.zoom = Math.min(canvas.clientWidth / width, canvas.clientHeight / height, 8) * 0.96;
  view.left = (canvas.clientWidth - view.zoom * width) / 2;
  view.top = (canvas.clientHeight - view.zoom * height) / 2;
  showZoom();
  redraw();
}

export function zoomAt(x, y, factor) {
  const zoom = Math.min(64, Math.max(0.002, view.zoom * factor));
  view.left = x - ((x - view.left) * zoom) / view.zoom;
  view.top = y - ((y - view.top) * zoom) / view.zoom;
  view.zoom = zoom;
  showZoom();
  redraw();
}

export const zoomBy = (factor) => zoomAt(canvas.clientWidth / 2, canvas.clientHeight / 2, factor);

export function pan(dx, dy) {
  view.left += dx;
  view.top += dy;
  redraw();
}

function showZoom() {
  const percent = 100 * view.zoom;
  document.getElementById("zoom-fit").textContent = `${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`;
}

export function forgetTiles() {
  tiles.clear();
}

function tile(address) {
  let found = tiles.get(address);
  if (!found) {
    const picture = new Image();
    found = { picture, ready: false };
    picture.onload = () => {
      found.ready = true;
      redraw();
    };
    picture.src = address;
    while (tiles.size >= MAX_TILES) tiles.delete(tiles.keys().next().value);
  } else {
    tiles.delete(address); // to the end: the one not used for longest goes first
  }
  tiles.set(address, found);
  return found;
}

function drawLevel(level, fetch) {
  const [height, width] = state.open.levels[level];
  const size = TILE * 2 ** level;
  const [row0, col0, row1, col1] = seen();
  for (let row = Math.floor(row0 / size); row <= Math.floor((row1 - 1e-6) / size); row++) {
    for (let col = Math.floor(col0 / size); col <= Math.floor((col1 - 1e-6) / size); col++) {
      if (row * TILE >= height || col * TILE >= width) continue;
      const address = `/api/images/${state.open.id}/tiles/${level}/${row}/${col}`;
      if (!fetch && !tiles.get(address)?.ready) continue;
      const found = tile(address);
      if (!found.ready) continue;
      const { naturalWidth, naturalHeight } = found.picture;
      const scale = 2 ** level;
      context.drawImage(found.picture, col * size, row * size, naturalWidth * scale, naturalHeight * scale);
    }
  }
}

function draw() {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio);
  const height = Math.round(canvas.clientHeight * ratio);
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, width, height);
  if (!state.open) return;
  context.setTransform(ratio * view.zoom, 0, 0, ratio * view.zoom, ratio * view.left, ratio * view.top);
  context.imageSmoothingEnabled = view.zoom * ratio < 2;
  const fine = Math.floor(Math.log2(1 / (view.zoom * ratio)) + 0.25);
  const level = Math.min(state.open.levels.length - 1, Math.max(0, fine));
  drawLevel(state.open.levels.length - 1, true); // what is under tiles that are on their way
  if (level < state.open.levels.length - 1) drawLevel(level, true);
  const isForest = state.tool === "forest";
  if (isForest) drawForest();
  for (const item of objects()) drawObject(item, isForest ? 0.12 : 0.42);
  if (isForest) for (const item of scribbles()) drawStroke(item.stroke, classOf(item.class).color, 0.9);
  const chosen = state.items.get(state.selected);
  if (chosen?.type === "object") drawMarks(chosen);
  drawDraft();
  drawCursor();
}

function drawObject(item, opacity) {
  const { color } = classOf(item.class);
  const isChosen = item.id === state.selected;
  context.fillStyle = color;
  context.globalAlpha = isChosen ? Math.min(0.3, opacity) : opacity;
  context.fill(item.path, "evenodd");
  context.globalAlpha = 1;
  if (item.corners > 30000) return; // lines around so many corners would take long
  if (isChosen) {
    context.lineWidth = 3.5 / view.zoom;
    context.strokeStyle = "#000";
    context.stroke(item.path);
  }
  context.lineWidth = (isChosen ? 2 : 1.4) / view.zoom;
  context.strokeStyle = isChosen ? "#fff" : color;
  context.stroke(item.path);
}

function drawForest() {
  const found = state.forest;
  if (!found?.areas) return;
  context.save();
  context.scale(found.scale, found.scale);
  if (view.showAreas) {
    for (const area of found.areas) {
      context.fillStyle = classOf(area.class).color;
      context.globalAlpha = 0.4;
      context.fill(area.path, "evenodd");
    }
  }
  context.globalAlpha = 1;
  if (view.showUnsure && found.unsure?.ready) context.drawImage(found.unsure.picture, 0, 0);
  context.restore();
}

function drawStroke(stroke, color, opacity) {
  const points = stroke.points;
  context.strokeStyle = color;
  context.fillStyle = color;
  context.globalAlpha = opacity;
  context.lineWidth = 2 * stroke.radius;
  context.lineCap = "round";
  context.lineJoin = "round";
  context.beginPath();
  if (points.length === 1) {
    context.arc(points[0][1], points[0][0], stroke.radius, 0, 2 * Math.PI);
    context.fill();
  } else {
    context.moveTo(points[0][1], points[0][0]);
    for (const [row, col] of points.slice(1)) context.lineTo(col, row);
    context.stroke();
  }
  context.globalAlpha = 1;
}

// Clicks, strokes and the box that led to the chosen object.
function drawMarks(item) {
  for (const stroke of item.strokes) {
    const color = stroke.inside ? "#27e07a" : "#ff5a5a";
    if (stroke.points.length > 1) {
      drawStroke(stroke, color, 0.6);
      continue;
    }
    const [row, col] = stroke.points[0];
    context.beginPath();
    context.arc(col, row, 5 / view.zoom, 0, 2 * Math.PI);
    context.fillStyle = color;
    context.fill();
    context.lineWidth = 1.5 / view.zoom;
    context.strokeStyle = "#000";
    context.stroke();
  }
  if (item.box) drawBox(item.box, "#27e07a");
}

function drawBox([row0, col0, row1, col1], color) {
  context.lineWidth = 1.5 / view.zoom;
  context.setLineDash([6 / view.zoom, 4 / view.zoom]);
  context.strokeStyle = color;
  context.strokeRect(col0, row0, col1 - col0, row1 - row0);
  context.setLineDash([]);
}

// What is being drawn, before the server has answered.
function drawDraft() {
  const draft = view.draft;
  if (!draft) return;
  if (draft.box) drawBox(draft.box, "#fff");
  if (draft.stroke) drawStroke(draft.stroke, draft.color, 0.55);
  if (draft.corners) {
    context.beginPath();
    for (const [row, col] of draft.corners) context.lineTo(col, row);
    if (view.cursor) context.lineTo(view.cursor.x, view.cursor.y);
    context.lineWidth = 1.8 / view.zoom;
    context.strokeStyle = "#fff";
    context.stroke();
    for (const [row, col] of draft.corners) {
      context.beginPath();
      context.arc(col, row, 4 / view.zoom, 0, 2 * Math.PI);
      context.fillStyle = draft.color;
      context.fill();
    }
  }
}

// The size of the brush, or the cross that arrow keys move.
function drawCursor() {
  if (!view.cursor) return;
  const { x, y, byKeys } = view.cursor;
  const wide = ["scribble", "brush", "eraser", "forest"].includes(state.tool);
  const radius = (wide ? state.radius : 4) / view.zoom;
  if (!wide && !byKeys) return;
  for (const [width, color] of [[3, "#000"], [1.3, state.tool === "eraser" ? "#ff5a5a" : "#fff"]]) {
    context.lineWidth = width / view.zoom;
    context.strokeStyle = color;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    if (byKeys) {
      const arm = radius + 8 / view.zoom;
      context.moveTo(x - arm, y);
      context.lineTo(x + arm, y);
      context.moveTo(x, y - arm);
      context.lineTo(x, y + arm);
    }
    context.stroke();
  }
}

// The object at a point; of several the smallest.
export function objectAt(x, y) {
  context.setTransform(1, 0, 0, 1, 0, 0);
  const here = objects().filter((item) => context.isPointInPath(item.path, x, y, "evenodd"));
  return here.sort((one, other) => one.area - other.area)[0] ?? null;
}

new ResizeObserver(redraw).observe(canvas);
for (const what of ["items", "selection", "tool", "classes", "forest", "radius"]) listen(what, redraw);
