"""The page: self-contained, safe against what users name their files, and never a number with nothing behind it."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from result_folder import write_result_folder

from mirip.params import Recipe, load_params
from mirip.report.inputs import Inputs, read_inputs
from mirip.report.page import render
from mirip.workspace import Workspace


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = write_result_folder(tmp_path_factory.mktemp("result"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return read_inputs(Workspace(), load_params())


@pytest.fixture(scope="module")
def page(inputs: Inputs) -> str:
    return render(inputs)


def with_metrics(inputs: Inputs, stage: str, **changes: object) -> Inputs:
    return replace(inputs, metrics={**inputs.metrics, stage: {**inputs.metrics[stage], **changes}})


def visible(page: str) -> str:
    body = re.sub(r"<(style|svg).*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


class Fetched(HTMLParser):
    """Collects every address that a browser would fetch, and scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.scripts = 0
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.addresses += [v or "" for k, v in attributes if k in ("src", "href", "srcset", "data", "xlink:href")]


@pytest.mark.slow
def test_nothing_is_fetched_and_no_script_runs(page: str) -> None:
    fetched = Fetched()
    fetched.feed(page)
    assert fetched.addresses
    assert all(address.startswith(("data:", "#")) for address in fetched.addresses)
    assert fetched.scripts == 0
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_accuracy_interval_and_verdict_are_shown(inputs: Inputs, page: str) -> None:
    evaluate = inputs.metrics["evaluate"]
    low, high = (evaluate[f"pairwise_accuracy_ci_{end}"] for end in ("low", "high"))
    assert f"{evaluate['pairwise_accuracy']:.1%}".replace("%", " %") in visible(page)
    assert f"{low * 100:.1f} % to {high * 100:.1f} %" in visible(page)
    words = {"met": "Target met", "undecided": "Undecided", "missed": "Target missed"}
    assert words[evaluate["verdict"]] in visible(page)


@pytest.mark.slow
def test_a_small_sample_is_warned_of(inputs: Inputs) -> None:
    assert "Small sample" in visible(render(with_metrics(inputs, "evaluate", small_sample=True)))
    assert "Small sample" not in visible(render(with_metrics(inputs, "evaluate", small_sample=False)))


def test_of_a_small_test_split_the_accuracy_out_of_fold_leads(inputs: Inputs) -> None:
    small = with_metrics(with_metrics(inputs, "audit", out_of_fold_verdict="met"), "evaluate", small_sample=True)
    assert (
        "each scored by a model that saw none of its group, the accuracy is 66.7 % (63.1 % to 70.2 %): target met"
        in (visible(render(small)))
    )


def test_the_notice_of_the_active_recipe_is_shown_and_no_other(inputs: Inputs) -> None:
    report = inputs.params.report.model_copy(
        update={"notices": {"sample": "Weights are random.", "other": "Not this."}}
    )
    shown = visible(render(replace(inputs, params=inputs.params.model_copy(update={"report": report}))))
    assert "Weights are random." in shown
    assert "Not this." not in shown


def test_a_missing_value_reads_not_available(inputs: Inputs) -> None:
    shown = visible(render(with_metrics(inputs, "evaluate", pairwise_accuracy_within_context=None)))
    assert "Within one context not available" in shown


@pytest.mark.slow
def test_without_contexts_there_is_no_accuracy_within_one(inputs: Inputs, page: str) -> None:
    params = inputs.params.model_copy(update={"data": inputs.params.data.model_copy(update={"context": ()})})
    assert "Within one context" in visible(page)
    assert "Within one context" not in visible(render(replace(inputs, params=params)))


def test_a_predictor_below_one_half_is_said_to_have_learned_nothing(page: str) -> None:
    assert "interval lies below 50 % has simply learned nothing" in visible(page)


@pytest.mark.slow
def test_a_page_of_empty_metrics_shows_no_value_as_if_measured(inputs: Inputs) -> None:
    shown = visible(render(replace(inputs, metrics={stage: {} for stage in inputs.metrics})))
    assert "Pairwise accuracy on the test split not available" in shown
    assert "Target met" not in shown
    assert "predictor that is blind to what is depicted: not available" in shown
    assert "nan" not in shown.lower().split()
    assert "None" not in shown


@pytest.mark.slow
def test_file_names_and_advice_are_escaped(inputs: Inputs) -> None:
    attack = '<script>alert("x")</script>.jpg'
    splits = inputs.splits.copy()
    best = inputs.scores.loc[inputs.scores["score"].idxmax(), "id"]
    splits.loc[splits["public_id"] == best, "image_path"] = attack
    rejected = pd.DataFrame({"row": [1], "image_path": [attack], "reason": [attack]})
    findings = inputs.findings.assign(advice=attack)
    page = render(replace(inputs, splits=splits, rejected=rejected, findings=findings))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 4


def test_off_gpu_a_requirement_is_not_measured(page: str) -> None:
    shown = visible(page)
    assert "412 ms under 100 ms on a GPU not measured off GPU" in shown
    assert "24.4 s under 6 h met" in shown
    assert "Intel Xeon, 2 cores" in shown


def test_rejected_rows_are_counted_and_listed_with_their_reasons(page: str) -> None:
    assert "5 rows left out of 605" in visible(page)
    assert "the file ends after 20480 bytes" in visible(page)


def test_provenance_names_model_features_split_and_recipe(inputs: Inputs, page: str) -> None:
    hashes = [inputs.metrics["extract"][name] for name in ("fingerprint", "content_digest")]
    for digest in (*hashes, inputs.metrics["split"]["digest"], inputs.model_sha256, inputs.code_sha256):
        assert digest in page


def test_thumbnails_are_in_the_page_as_data(inputs: Inputs, page: str) -> None:
    n = inputs.params.report.thumbnails
    label_issues, outliers, a_pair = n // 2, n // 2, 2
    assert page.count("data:image/jpeg;base64,") == n + label_issues + outliers + a_pair


def test_label_issues_show_label_percentile_and_share(page: str) -> None:
    assert "Either the label is wrong, or the model does not understand the artwork." in visible(page)
    assert "above 91 % wrong in 93 %" in visible(page)
    assert "All 50 by file" in visible(page)


def test_outliers_and_near_duplicates_are_shown(page: str) -> None:
    assert "Are these artworks?" in visible(page)
    assert "distance 9.4" in visible(page)
    assert "test split" in visible(page)
    assert "train split" in visible(page)


def test_what_the_audit_did_not_find_has_no_heading(inputs: Inputs) -> None:
    empty = {
        name: getattr(inputs, name).head(0) for name in ("label_issues", "outliers", "near_duplicates", "findings")
    }
    shown = visible(render(with_metrics(replace(inputs, **empty), "audit", n_findings=0)))
    assert "Label issues" not in shown
    assert "Outliers" not in shown
    assert "in two splits The backbone" not in shown
    assert "Findings None: no predictor" in shown
    assert "audit: " not in shown


def test_the_models_accuracy_next_to_shortcuts_is_the_one_out_of_fold(inputs: Inputs, page: str) -> None:
    assert "the model 66.7 %" in visible(page)
    assert "Out of fold 66.7 % 63.1 % to 70.2 %" in visible(page)
    assert "Near-duplicates 1 pair in two splits" in visible(page)


@pytest.mark.slow
def test_what_each_column_tells_is_shown_and_never_less_than_nothing(inputs: Inputs, page: str) -> None:
    assert "What each column tells about the tier" in visible(page)
    assert "department 34.0 % 0.0005 file_bytes 0.0 % 1.0000" in visible(page)
    assert "What each column tells" not in visible(render(replace(inputs, columns=inputs.columns.head(0))))


def test_it_says_that_a_test_split_chooses_no_model(page: str) -> None:
    assert "looks better than it is: choose by validation accuracy. The command mirip summary says" in visible(page)


def test_hundreds_of_findings_leave_the_page_small(inputs: Inputs) -> None:
    many = pd.concat([inputs.findings] * 400, ignore_index=True)
    page = render(replace(inputs, findings=many))
    assert "192 more of 392; metrics/audit/findings.csv has them all" in visible(page)
    assert len(page.encode()) < 1_000_000


def test_a_number_is_never_parted_from_its_sign(page: str) -> None:
    assert not re.search(r"\d %", page)


def test_no_thumbnails_asked_for_none_shown(inputs: Inputs) -> None:
    report = inputs.params.report.model_copy(update={"thumbnails": 0})
    page = render(replace(inputs, params=inputs.params.model_copy(update={"report": report})))
    assert "data:image/jpeg" not in page


def test_identifiers_are_unique(page: str) -> None:
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))


def test_equal_inputs_give_equal_bytes(inputs: Inputs, page: str) -> None:
    assert render(inputs) == page


def test_the_page_stays_small(page: str, tmp_path: Path) -> None:
    assert len(page.encode()) < 1_000_000


def test_imported_features_are_said_to_be_so(inputs: Inputs) -> None:
    recipe = Recipe(backbone="import:clip-v1")
    imported = inputs.params.model_copy(update={"recipes": {inputs.params.extract.recipe: recipe}})
    nothing = {f"pair_latency_{name}": None for name in ("ms_p50", "ms_p95", "ms_p99", "from_file_ms_p50")}
    shown = visible(render(replace(with_metrics(inputs, "benchmark", **nothing), params=imported)))
    assert "import:clip-v1 · features imported" in shown
    assert "no image goes through a backbone" in shown
    assert "One pair, from decoded pixels (p50) not available under 100 ms on a GPU not measured GPU memory" in shown
    assert "768 px" not in shown
