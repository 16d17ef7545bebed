// The works as a CSV file. Its columns `filename` and `tier` are those that the pipeline's metadata has, so that works to
// which the teacher gave a tier can be trained on; what the model said stands beside them.

export function csvOf(page) {
  const { works } = page;
  const tiers = page.sending.model.tiers;
  const isRanked = works.isRanked && works.scored.length > 1;
  const rows = isRanked ? (works.isMine ? works.mineFlat : works.ordered) : works.scored;
  const header = [
    "filename", "tier", "teacher_place", "model_place", "model_place_first", "model_place_last", "model_score",
    "model_percentile", "model_percentile_among", "model_tier", ...tiers.map((tier) => `model_p_${tier}`), "model_version",
  ];
  const lines = rows.map((work) => {
    const { result } = work;
    const entry = isRanked ? works.place.get(work.id) : { place: "", first: "", last: "" };
    return [
      safe(work.name), work.tier, isRanked && works.isMine ? works.myPlace(work) : "", entry.place, entry.first, entry.last,
      result.score, works.percentile(work).percentile, works.ranking.context, result.tier ?? "undecided", ...tiers.map((tier) => result.tier_probabilities[tier]),
      page.sending.model.model.version,
    ];
  });
  return [header, ...lines].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

function cell(value) {
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// A spreadsheet runs what begins so; the same file is found by this path too.
function safe(name) {
  return /^[=+\-@\t\r]/.test(name) ? `./${name}` : name;
}

// Hand a file to the browser's downloads. The mark at its start tells spreadsheets that it is UTF-8.
export function download(text, name) {
  const address = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
