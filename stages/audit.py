"""Ask whether it is quality that was learned: the model against predictors that do not see what is depicted.

Reads   data/manifest.parquet, data/splits.parquet, features/<recipe>.h5, models/out_of_fold.parquet, metrics/scores.csv
Writes  metrics/audit.json, metrics/audit/{shortcuts,columns,findings,near_duplicates,label_issues,outliers}.csv
        metrics/out_of_fold_scores.csv   of all images, by models that saw none of their group; in Git, as scores.csv is
Run     python -m stages.audit          (or `dvc repro audit`)

It fails after writing where a finding is as grave as audit.fail_on says.
"""

from mirip.models.audit import audit
from mirip.params import load_params
from mirip.workspace import Workspace
from stages import run


def main() -> None:
    """Audit as params.yaml says."""
    params = load_params()
    found = audit(Workspace(), params)
    print("\n".join(found.lines))
    found.check(params.audit.fail_on)


if __name__ == "__main__":
    run(main)
