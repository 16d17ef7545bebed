"""A Git repository with a result on `main`, on whose branches a test changes what it likes."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import yaml


class ResultRepository:
    """Results as the stages leave them, committed; nothing of them needs DVC to be read."""

    def __init__(self, root: Path, results: Path) -> None:
        shutil.copytree(results / "metrics", root / "metrics")
        shutil.copy(results / "params.yaml", root / "params.yaml")
        self.root = root
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.name", "Test")
        self.git("config", "user.email", "test@example.org")
        self.commit("A result")

    @classmethod
    def found(cls, root: Path) -> "ResultRepository":
        """One that is there already, such as a copy of another."""
        repository = cls.__new__(cls)
        repository.root = root
        return repository

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.root, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", message)

    def branch(self, name: str = "work") -> None:
        self.git("checkout", "-qb", name)

    def set_metrics(self, stage: str, **values: object) -> None:
        path = self.root / f"metrics/{stage}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    def set_params(self, section: str, **values: object) -> None:
        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text())
        params[section] |= values
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def rescore(self, *, noise: float, slope: float = 1.0) -> None:
        """Replace the scores by `slope` times the rank of the tier and so much noise."""
        path = self.root / "metrics/scores.csv"
        table = pd.read_csv(path, dtype={"id": str, "group": str})
        table["score"] = slope * table["tier_rank"] + noise * np.random.default_rng(1).normal(size=len(table))
        table.to_csv(path, index=False)
