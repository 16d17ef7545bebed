// What the page asks of its server. Nothing else on the network is ever asked.

let key = "";

export function useKey(given) {
  key = given;
}

// Why a request has no answer. `status` is 0 where no server answered.
export class ServerError extends Error {
  constructor(status, detail = "", retryAfterS = null) {
    super(detail);
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(0);
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  const wait = Number.parseFloat(answer.headers.get("Retry-After"));
  throw new ServerError(answer.status, problem.detail ?? "", Number.isFinite(wait) ? wait : null);
}

function form(file) {
  const body = new FormData();
  // What the system believes of a file's type is often wrong, and its name is nobody's business.
  body.append("images", new Blob([file], { type: "application/octet-stream" }), "image");
  return { method: "POST", body };
}

// Return the model's tiers, contexts and limits.
export async function describeModel() {
  return (await ask("api/v1/model")).json();
}

// Return {result, problem}, one of which is null, of an image.
export async function score(file, signal) {
  const answer = await ask("api/v1/score", { ...form(file), signal });
  return (await answer.json()).images[0];
}

// Return {order, bands, pairs, percentiles, min_confidence} of images by their scores.
export async function order(scores, context) {
  const body = JSON.stringify({ scores, context: context || null });
  const headers = { "Content-Type": "application/json" };
  return (await ask("api/v1/order", { method: "POST", body, headers })).json();
}

// Return a JPEG of an image that this browser cannot show, upright and at most some 1,600 pixels long.
export async function preview(file) {
  return (await ask("api/v1/preview", form(file))).blob();
}
