"""How stored embeddings age: what it costs, measured; and encoders, gates and corrections that slow it down.

`DriftMonitor` measures, `MomentumEncoder` slows the encoder, `MomentMatching` and `LocalDrift` correct stored rows
(`Bank.transformed`), `refresh` encodes them again.
"""

from torchbank.drift._age_statistics import DriftByAge
from torchbank.drift._fidelity import gradient_fidelity
from torchbank.drift._gate import FreshnessGate
from torchbank.drift._levels import recommended_capacity
from torchbank.drift._local_drift import LocalDrift, compensate
from torchbank.drift._moment_matching import MomentMatching
from torchbank.drift._momentum_encoder import MomentumEncoder
from torchbank.drift._monitor import DriftMonitor, FidelityByAge
from torchbank.drift._refresh import Refreshed, refresh
from torchbank.drift._revisit_drift import RevisitDrift, Revisits
from torchbank.drift._slow_drift import SlowDrift

__all__ = [
    "DriftByAge",
    "DriftMonitor",
    "FidelityByAge",
    "FreshnessGate",
    "LocalDrift",
    "MomentMatching",
    "MomentumEncoder",
    "Refreshed",
    "RevisitDrift",
    "Revisits",
    "SlowDrift",
    "compensate",
    "gradient_fidelity",
    "recommended_capacity",
    "refresh",
]
