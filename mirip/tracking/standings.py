"""The former home of `score_table`. Models that earlier versions logged import it from here by its former name."""

from mirip.models.percentiles import score_table as standings

__all__ = ["standings"]
