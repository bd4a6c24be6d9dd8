"""Pictures of runs, of identities and of what a memory attended to, and the comparison of several runs."""

from torchbank.report._annotated_video import annotate_video
from torchbank.report._attention_timeline import plot_attention_timeline
from torchbank.report._calibration import plot_calibration, plot_virtual_pillar
from torchbank.report._comparison import MEASURES, Comparison, Run, Spread
from torchbank.report._comparison_pictures import plot_batch_sizes, plot_comparison
from torchbank.report._contact_sheet import Crop, plot_contact_sheet
from torchbank.report._curves import plot_loss, plot_scores
from torchbank.report._drift import FEWEST_REVISITS, plot_drift
from torchbank.report._fidelity import FEWEST_MEASUREMENTS, plot_fidelity
from torchbank.report._health import has_health, plot_health
from torchbank.report._identity_timeline import plot_identity_timeline
from torchbank.report._retrieval_sheet import plot_retrieval_sheet
from torchbank.report._slow_drift import has_slow_drift, plot_slow_drift
from torchbank.report._suspect_sheet import Suspect, plot_suspect_sheet

__all__ = [
    "FEWEST_MEASUREMENTS",
    "FEWEST_REVISITS",
    "MEASURES",
    "Comparison",
    "Crop",
    "Run",
    "Spread",
    "Suspect",
    "annotate_video",
    "has_health",
    "has_slow_drift",
    "plot_attention_timeline",
    "plot_batch_sizes",
    "plot_calibration",
    "plot_comparison",
    "plot_contact_sheet",
    "plot_drift",
    "plot_fidelity",
    "plot_health",
    "plot_identity_timeline",
    "plot_loss",
    "plot_retrieval_sheet",
    "plot_scores",
    "plot_slow_drift",
    "plot_suspect_sheet",
    "plot_virtual_pillar",
]
