// From image to image, marks, methods and exports.

import { get, post } from "./api.js";
import { change, openImage, show } from "./change.js";
import { element } from "./lists.js";
import { state, tell } from "./state.js";

const byId = (id) => document.getElementById(id);

export function go(step) {
  const openId = state.open?.id ?? state.broken?.id;
  const filter = byId("filter").value;
  const listed = state.images.filter((row) => filter === "all" || row.mark === filter || row.id === openId);
  const place = listed.findIndex((row) => row.id === openId);
  const next = listed[place + step];
  if (next) openImage(next.id);
  else show(step > 0 ? "This is the last image." : "This is the first image.", "note");
}

export async function goUseful() {
  const openId = state.open?.id ?? state.broken?.id ?? 0;
  try {
    const { image } = await get(`/api/next?after=${openId}`);
    if (image === null || image === openId) show("All other images are done or skipped.", "note");
    else await openImage(image);
  } catch (error) {
    show(error.message);
  }
}

export async function mark(kind) {
  const wanted = state.open?.image.mark === kind ? "open" : kind;
  const answer = await change("mark", { mark: wanted });
  if (!answer) return;
  state.open.image = answer.image;
  tell("mark");
  if (wanted !== "open") await goUseful();
}

export function nextMethod() {
  const names = Object.keys(state.methods);
  state.method = names[(names.indexOf(state.method) + 1) % names.length];
  tell("method");
}

export function showExport() {
  byId("export-result").hidden = true;
  byId("formats").replaceChildren(
    ...Object.entries(state.formats).map(([name, title]) => {
      const button = element("button", { text: title, "data-format": name });
      button.addEventListener("click", () => write(name));
      return button;
    }),
  );
  byId("export-dialog").showModal();
}

async function write(name) {
  const result = byId("export-result");
  result.hidden = false;
  result.textContent = "writing …";
  try {
    const { folder, lines } = await post("/api/export", { format: name });
    result.textContent = `${folder}\n${lines.join("\n")}`;
  } catch (error) {
    result.textContent = error.message;
  }
}
