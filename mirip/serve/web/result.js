// What the model says of one work, in words and bars.

import { h } from "./dom.js";
import { chance, has, megabytes, number, percent, places, t } from "./language.js";

export function tierOf(work) {
  return work.result.tier === null ? t("tier_undecided") : t("tier_is", { tier: work.result.tier });
}

// A percentile of 82 is "top 18 %"; nobody is in the top 0 %.
export function top(percentile) {
  return percent(Math.min(0.99, Math.max(0.01, 1 - percentile / 100)));
}

export function flags(work) {
  const { flags: all } = work.result;
  const said = all.includes("seen_in_training") ? all.filter((flag) => flag !== "unlike_training_images") : all;
  return said.length > 0 && h("ul", { class: "flags" }, said.map((flag) => h("li", { class: "flag" }, t(`flag_${flag}`))));
}

export function rangeInWords({ percentile_low: low, percentile_high: high }) {
  return t("between", { low: top(high), high: top(low) });
}

// Which training works the percentile is among; where the model knows contexts.
export function contextChoice({ sending }) {
  const contexts = sending.model?.contexts ?? [];
  if (!contexts.length) return null;
  const option = (value, text) => h("option", { value }, text);
  const attributes = { value: sending.context, dataset: { key: "context" }, onchange: (event) => sending.useContext(event.target.value) };
  const choice = h("select", attributes, option("", t("context_all")), contexts.map((context) => option(context, context)));
  return h("label", { class: "field" }, t("context"), choice);
}

// Score, percentile with its range, and the probability of each tier.
export function resultPanel(page, work) {
  const { result } = work;
  const { works, sending } = page;
  const among = works.ranking?.context === sending.context ? works.percentile(work) : null; // or it is asked for
  return h(
    "div",
    { class: "result" },
    h("p", { class: "tier-said" }, h("span", { class: "label" }, t("tier")), h("strong", {}, tierOf(work))),
    flags(work),
    h(
      "section",
      { class: "measure" },
      h("h3", {}, t("percentile")),
      h("p", { class: "big" }, among ? t("top", { percent: top(among.percentile) }) : "…"),
      percentileBar(among ?? { percentile: 0, percentile_low: 0, percentile_high: 0 }),
      h("p", { class: "hint" }, among ? rangeInWords(among) : "…"),
    ),
    h(
      "section",
      { class: "measure" },
      h("h3", {}, t("tiers")),
      h("ul", { class: "tiers" }, Object.entries(result.tier_probabilities).map(([tier, share]) => tierBar(tier, share, result))),
    ),
    h(
      "section",
      { class: "measure score" },
      h("h3", {}, t("score")),
      h("p", { class: "figure" }, number(result.score, 3)),
      h("p", { class: "hint" }, t("score_hint")),
    ),
  );
}

// A bar up to the percentile, with an error bar over its likely range.
function percentileBar({ percentile, percentile_low: low, percentile_high: high }) {
  const style = { "--at": `${percentile}%`, "--low": `${low}%`, "--high": `${high}%` };
  return h(
    "div",
    { class: "axis" },
    h("div", { class: "bar", style, "aria-hidden": "true" }, h("i", { class: "fill" }), h("i", { class: "whisker" })),
    h("div", { class: "ends", "aria-hidden": "true" }, h("span", {}, t("worse")), h("span", {}, t("better"))),
  );
}

function tierBar(tier, share, result) {
  return h(
    "li",
    { class: tier === result.tier ? "is-likely" : null },
    h("span", { class: "name" }, t("tier_is", { tier })),
    h("span", { class: "bar", style: { "--at": `${share * 100}%` }, "aria-hidden": "true" }, h("i", { class: "fill" })),
    h("span", { class: "figure" }, chance(share)),
  );
}

// The range of a work's place on a line from the first to the last place.
export function placeBar(entry, n) {
  const at = (value) => `${n > 1 ? (100 * (value - 1)) / (n - 1) : 50}%`;
  const style = { "--at": at(entry.place), "--low": at(entry.first), "--high": at(entry.last) };
  return h("div", { class: "place-bar", style, "aria-hidden": "true" }, h("i", { class: "whisker" }), h("i", { class: "dot" }));
}

export function placeInWords(entry) {
  return entry.first === entry.last ? t("surely") : t("may_be", { places: places(entry.first, entry.last) });
}

// The places of works that a work cannot be told from, such as "2nd to 4th, 7th"; "" where there are none.
export function closePlaces(works, work) {
  const found = [];
  for (const at of works.tooCloseTo(work)) {
    const run = found.at(-1);
    if (run && run[1] === at - 1) run[1] = at;
    else found.push([at, at]);
  }
  return found.map(([first, last]) => places(first, last)).join(", ");
}

export function problemInWords(work, limits) {
  const { kind, problem = "", advice = "" } = work.problem;
  const known = has(`problem_${kind}`) ? kind : "other";
  const mb = number(megabytes(limits));
  return {
    what: t(`problem_${known}`),
    advice: t(`advice_${known}`, { mb }),
    details: [problem, advice].filter(Boolean).join(": "), // in the words of the server
  };
}
