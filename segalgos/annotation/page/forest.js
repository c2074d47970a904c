// What the forest finds while somebody scribbles: asked for until it has caught up.

import { get } from "./api.js";
import { listen, scribbles, state, tell } from "./state.js";
import { redraw, view } from "./view.js";

const byId = (id) => document.getElementById(id);
let asking = false;
let again = false; // something has changed since the last question

async function follow() {
  again = true;
  if (asking || state.tool !== "forest" || !state.open) return;
  asking = true;
  try {
    while (state.tool === "forest" && state.open) {
      const id = state.open.id;
      again = false;
      const found = await get(`/api/images/${id}/forest?version=${state.forest?.version ?? 0}`);
      if (state.open?.id !== id) continue;
      if (found.areas) takeFound(id, found);
      if (found.version === 0) state.forest = null;
      showState(found);
      if (!found.working && !again) break;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  } catch (error) {
    byId("forest-state").textContent = error.message;
  } finally {
    asking = false;
  }
}

function takeFound(id, found) {
  for (const area of found.areas) {
    area.path = new Path2D();
    for (const loop of area.paths) {
      area.path.moveTo(loop[0], loop[1]);
      for (let k = 2; k < loop.length; k += 2) area.path.lineTo(loop[k], loop[k + 1]);
      area.path.closePath();
    }
  }
  const unsure = { picture: new Image(), ready: false };
  unsure.picture.onload = () => {
    unsure.ready = true;
    redraw();
  };
  unsure.picture.src = `/api/images/${id}/uncertainty?version=${found.version}`;
  state.forest = { ...found, unsure };
  tell("forest");
}

function showState(found) {
  const kinds = new Set(scribbles().map((item) => item.class)).size;
  let text = "Scribble on two classes, or one and background.";
  if (found.error) text = found.error;
  else if (found.working) text = "learning …";
  else if (found.version) text = "The forest has learned from all scribbles.";
  else if (kinds === 1) text = "Now scribble on another class, or on background (key 0).";
  byId("forest-state").textContent = text;
  byId("accept").disabled = !found.version;
  byId("forest").dataset.version = found.version;
}

function showPanel() {
  byId("forest").hidden = state.tool !== "forest" || !state.open;
  follow();
}

byId("show-areas").addEventListener("change", (event) => {
  view.showAreas = event.target.checked;
  redraw();
});
byId("show-unsure").addEventListener("change", (event) => {
  view.showUnsure = event.target.checked;
  redraw();
});

for (const what of ["tool", "items", "open"]) listen(what, showPanel);
