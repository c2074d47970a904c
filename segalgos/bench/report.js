"use strict";

// Tables: a button in each column's head sorts; empty values stay last in either direction.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const first = head.dataset.first || "descending";
    if (first === "none") return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const other = first === "ascending" ? "descending" : "ascending";
      const order = before === first ? other : first;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      sortRows(table.tBodies[0], column, order === "ascending" ? 1 : -1);
    });
  });
}

function sortRows(body, column, sign) {
  const key = (row) => {
    const cell = row.cells[column];
    const text = "value" in cell.dataset ? cell.dataset.value : cell.textContent.trim();
    const number = Number(text);
    return text === "" || text === "nan" || text === "–" ? null : Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null);
    const both = typeof a === "number" && typeof b === "number";
    return sign * (both ? a - b : String(a).localeCompare(String(b)));
  };
  const rows = [...body.rows].map((row) => [key(row), row]);
  rows.sort((a, b) => compare(a[0], b[0]));
  body.append(...rows.map(([, row]) => row));
}

// Pictures: one dialog enlarges any of them; arrow keys go on within the same table.
const links = [...document.querySelectorAll("a.zoom")];
if (links.length && window.HTMLDialogElement) {
  const dialog = document.createElement("dialog");
  const picture = document.createElement("img");
  const caption = document.createElement("p");
  const tools = document.createElement("div");
  let group = [];
  let place = 0;
  const show = (step) => {
    place = (place + step + group.length) % group.length;
    picture.src = group[place].getAttribute("href");
    picture.alt = group[place].querySelector("img").alt;
    caption.textContent = group[place].dataset.caption;
  };
  const addButton = (text, action) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.addEventListener("click", action);
    tools.append(button);
  };
  tools.className = "tools";
  addButton("← Previous", () => show(-1));
  addButton("Next →", () => show(1));
  addButton("Close", () => dialog.close());
  dialog.setAttribute("aria-label", "Enlarged picture");
  dialog.append(picture, caption, tools);
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(-1);
    if (event.key === "ArrowRight") show(1);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  document.body.append(dialog);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.zoom");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    group = links.filter((each) => each.closest("table") === link.closest("table"));
    place = group.indexOf(link);
    show(0);
    dialog.showModal();
  });
}
