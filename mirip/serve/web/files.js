// Files that somebody chooses, drops (folders too) or pastes.

const IMAGE_NAME = /\.(jpe?g|png|webp|avif|hei[cf]|tiff?|bmp|gif|jp2|psd|tga|ppm|ico|jxl|svg|pdf|dng|cr2|nef|arw)$/i;

// Of what is in a folder only images are taken; what was named one by one is all taken, so that it can be told why not.
export async function filesOfDrop(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const found = await Promise.all(entries.map((entry) => filesOf(entry, "")));
  return found.flat();
}

async function filesOf(entry, folder) {
  if (entry.isFile) {
    if (folder && !IMAGE_NAME.test(entry.name)) return [];
    const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
    if (file && folder) file.path = folder + file.name;
    return file ? [file] : [];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (!some.length) break; // a reader gives at most a hundred at a time
    for (const inner of some) found.push(...(await filesOf(inner, `${folder}${entry.name}/`)));
  }
  return found.sort((one, other) => one.path.localeCompare(other.path, undefined, { numeric: true }));
}

export function filesOfPaste(clipboard) {
  return [...clipboard.files];
}
