// Begins: takes the overview, opens an image, connects the buttons.

import { get } from "./api.js";
import { change, openImage, show, takeClasses } from "./change.js";
import "./forest.js";
import { showHelp } from "./keys.js";
import { element, icon } from "./lists.js";
import { listen, selectedObject, state, tell } from "./state.js";
import * as steps from "./steps.js";
import { TOOLS, chooseTool } from "./tools.js";
import { fit, forgetTiles, redraw, view, zoomBy } from "./view.js";

const byId = (id) => document.getElementById(id);

function makeTools() {
  byId("tools").replaceChildren(
    ...Object.entries(TOOLS).map(([name, tool]) => {
      const button = element(
        "button",
        { "data-tool": name, title: `${tool.hint}  Key ${tool.key.toUpperCase()}` },
        icon(tool.icon, name === "brush"),
        element("span", { class: "name", text: tool.name }),
      );
      button.addEventListener("click", () => {
        chooseTool(name);
        byId("canvas").focus();
      });
      return button;
    }),
  );
}

function showTool() {
  for (const button of byId("tools").children) {
    button.setAttribute("aria-pressed", button.dataset.tool === state.tool);
  }
  const chosen = selectedObject();
  const refines = chosen && ["click", "scribble"].includes(state.tool);
  byId("hint").textContent = refines
    ? `${TOOLS[state.tool].name} to add to the chosen object; right button (or Alt) to take away. Enter ends it.`
    : TOOLS[state.tool].hint;
}

function showMethod() {
  byId("method").value = state.method;
}

function showHistory() {
  for (const name of ["undo", "redo"]) {
    const what = state.open?.[name];
    byId(name).disabled = !what;
    byId(name).title = `${name === "undo" ? "Undo" : "Redo"}${what ? `: ${what}` : ""}  ${name === "undo" ? "Ctrl+Z" : "Ctrl+Shift+Z"}`;
  }
}

function showMark() {
  const mark = state.open?.image.mark;
  byId("done").textContent = mark === "done" ? "✓ Done (undo)" : "Done → next";
  byId("skip").textContent = mark === "skipped" ? "Skipped (undo)" : "Skip";
  byId("done").disabled = byId("skip").disabled = !state.open;
}

function showOpen() {
  forgetTiles();
  view.draft = null;
  view.cursor = null;
  const problem = byId("problem");
  problem.hidden = !state.broken;
  problem.textContent = state.broken ? `${state.broken.name}\n\n${state.broken.error}` : "";
  showMark();
  fit();
  redraw();
}

function showRadius() {
  byId("radius").value = state.radius;
  byId("radius-shown").textContent = state.radius;
}

function showPlace() {
  const { cursor } = view;
  const inside = state.open && cursor && cursor.x >= 0 && cursor.y >= 0 && cursor.x < state.open.width && cursor.y < state.open.height;
  const size = state.open ? `${state.open.width} × ${state.open.height}` : "";
  byId("place").textContent = inside ? `row ${Math.floor(cursor.y)}, column ${Math.floor(cursor.x)}  ·  ${size}` : size;
}

async function waitUntilWarm() {
  const warm = byId("warm");
  for (;;) {
    try {
      const status = await get("/api/status");
      warm.hidden = status.warm;
      document.body.dataset.warm = status.warm;
      if (status.warm_error) show(`Getting ready failed: ${status.warm_error}`);
      if (status.warm) return;
    } catch {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 400));
  }
}

byId("undo").addEventListener("click", () => change("undo"));
byId("redo").addEventListener("click", () => change("redo"));
byId("zoom-in").addEventListener("click", () => zoomBy(1.3));
byId("zoom-out").addEventListener("click", () => zoomBy(1 / 1.3));
byId("zoom-fit").addEventListener("click", fit);
byId("export").addEventListener("click", steps.showExport);
byId("help").addEventListener("click", showHelp);
byId("done").addEventListener("click", () => steps.mark("done"));
byId("skip").addEventListener("click", () => steps.mark("skipped"));
byId("previous").addEventListener("click", () => steps.go(-1));
byId("next").addEventListener("click", () => steps.go(1));
byId("useful").addEventListener("click", steps.goUseful);
byId("accept").addEventListener("click", () => change("accept"));
byId("radius").addEventListener("input", (event) => {
  state.radius = Number(event.target.value);
  tell("radius");
});
byId("method").addEventListener("change", (event) => {
  state.method = event.target.value;
});

listen("tool", showTool);
listen("selection", showTool);
listen("method", showMethod);
listen("items", showHistory);
listen("open", showOpen);
listen("open", showHistory);
listen("open", showPlace);
listen("reopened", () => {
  showMark();
  showHistory();
  redraw();
});
listen("mark", showMark);
listen("radius", showRadius);
listen("cursor", showPlace);

async function start() {
  history.replaceState(null, "", "/"); // the token is in the cookie now
  makeTools();
  let overview;
  try {
    overview = await get("/api/overview");
  } catch (error) {
    byId("problem").hidden = false;
    byId("problem").textContent = error.message;
    return;
  }
  document.title = `${overview.title} · annotate`;
  Object.assign(state, { methods: overview.methods, formats: overview.formats });
  const names = Object.keys(state.methods);
  state.method = names.includes(overview.method) ? overview.method : names[0];
  byId("method").replaceChildren(...Object.entries(state.methods).map(([value, text]) => element("option", { value, text })));
  takeClasses(overview, true);
  state.tool = overview.method === "forest" ? "forest" : "click";
  tell("tool", "method", "radius");
  waitUntilWarm();
  const first = state.images.find((row) => row.mark === "open" && !row.error) ?? state.images[0];
  if (first) await openImage(first.id);
  byId("canvas").focus();
}

start();
