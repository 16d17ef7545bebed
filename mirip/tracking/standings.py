"""The old home of `mirip.models.percentiles.score_table`: models that earlier versions logged import it from here."""

from mirip.models.percentiles import score_table as standings

__all__ = ["standings"]
