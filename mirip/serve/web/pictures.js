// Pictures of files: small ones for lists, large ones to look at. Both are upright; neither leaves the browser, but for
// files that it cannot decode (HEIC, TIFF), of which the server makes a JPEG.

import * as api from "./api.js";

const SMALL_PX = 640;
const AT_ONCE = 2;

const waiting = [];
let running = 0;

// Make the small picture of a work; `work.small` is its address then, and `done` is called.
export function makeSmall(work, done) {
  waiting.push({ work, done });
  next();
}

async function next() {
  if (running >= AT_ONCE || !waiting.length) return;
  const { work, done } = waiting.shift();
  running += 1;
  if (!work.removed && !work.small) {
    work.small = (await fromBrowser(work.file)) ?? (await fromServer(work));
    done();
  }
  running -= 1;
  next();
}

async function fromBrowser(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file); // upright by its EXIF data
  } catch {
    return null;
  }
  const scale = Math.min(1, SMALL_PX / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/webp", 0.85));
  return blob && URL.createObjectURL(blob);
}

// The server's preview serves as the large picture too.
async function fromServer(work) {
  try {
    work.large = URL.createObjectURL(await api.preview(work.file));
    return work.large;
  } catch {
    return null; // a file that has no picture has a problem, which says why
  }
}

// Return the address of the large picture of a work.
export function large(work) {
  work.large ??= URL.createObjectURL(work.file);
  return work.large;
}
