// Requests to the server. The browser adds the cookie and the page's origin by itself.

export class Refused extends Error {
  constructor(message, kind) {
    super(message);
    this.kind = kind; // "stale", "missing", "error" or "gone"
  }
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Refused("The server does not answer: was it ended? All changes so far are saved.", "gone");
  }
  let content;
  try {
    content = await response.json();
  } catch {
    content = { error: `The server answered ${response.status}.`, kind: "error" };
  }
  if (!response.ok) throw new Refused(content.error, content.kind);
  return content;
}

export const get = (path) => ask(path);

export const post = (path, content) =>
  ask(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(content),
  });
