// The language of the page: the browser's, or the one that was chosen, which stands in the address (?lang=ko).

import { STRINGS } from "./strings.js";

export const LANGUAGES = Object.keys(STRINGS);

let current = fromAddress() ?? fromBrowser();
let rules = new Intl.PluralRules(current);
let ordinals = new Intl.PluralRules(current, { type: "ordinal" });

function fromAddress() {
  const asked = new URLSearchParams(location.search).get("lang");
  return LANGUAGES.includes(asked) ? asked : null;
}

function fromBrowser() {
  const spoken = navigator.languages.map((language) => language.split("-")[0]);
  return spoken.find((language) => LANGUAGES.includes(language)) ?? "en";
}

export function language() {
  return current;
}

export function choose(chosen) {
  current = chosen;
  rules = new Intl.PluralRules(current);
  ordinals = new Intl.PluralRules(current, { type: "ordinal" });
  const address = new URL(location.href);
  address.searchParams.set("lang", chosen);
  history.replaceState(null, "", address);
}

// Return a text of strings.js with its {values} filled in; where it has forms, `n` decides.
export function t(key, values = {}) {
  let text = STRINGS[current][key];
  if (text === undefined) throw new Error(`strings.js has no ${key} in ${current}`);
  if (typeof text === "object") text = text[rules.select(values.n)] ?? text.other;
  return text.replace(/\{(\w+)\}/g, (_, name) =>
    typeof values[name] === "number" ? number(values[name]) : (values[name] ?? ""),
  );
}

export function has(key) {
  return key in STRINGS[current];
}

export function number(value, digits = 0) {
  const form = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat(current, form).format(value).replace("-", "\u2212");
}

export function megabytes({ image_bytes: bytes }) {
  return Math.floor(bytes / 2 ** 20);
}

export function percent(fraction) {
  return new Intl.NumberFormat(current, { style: "percent", maximumFractionDigits: 0 }).format(fraction);
}

// A probability is never said to be 0 % or 100 %: no model of chance is that sure.
export function chance(fraction) {
  if (fraction < 0.005) return `<${percent(0.01)}`;
  return fraction > 0.995 ? `>${percent(0.99)}` : percent(fraction);
}

export function place(value) {
  return t(`place_${ordinals.select(value)}`, { n: value });
}

export function places(first, last) {
  return first === last ? place(first) : t("places", { first: spanFrom(first), last: place(last) });
}

function spanFrom(first) {
  return current === "ko" ? number(first) : place(first);
}
