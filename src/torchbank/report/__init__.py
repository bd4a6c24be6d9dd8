"""Pictures of runs, and the comparison of several."""

from torchbank.report._comparison import MEASURES, Comparison, Run, Spread
from torchbank.report._comparison_pictures import plot_batch_sizes, plot_comparison
from torchbank.report._curves import plot_loss, plot_scores
from torchbank.report._drift import FEWEST_REVISITS, plot_drift
from torchbank.report._health import has_health, plot_health
from torchbank.report._retrieval_sheet import plot_retrieval_sheet

__all__ = [
    "FEWEST_REVISITS",
    "MEASURES",
    "Comparison",
    "Run",
    "Spread",
    "has_health",
    "plot_batch_sizes",
    "plot_comparison",
    "plot_drift",
    "plot_health",
    "plot_loss",
    "plot_retrieval_sheet",
    "plot_scores",
]
