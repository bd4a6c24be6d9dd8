"""Published methods, one a file, each an `nn.Module` around an encoder.

``output = method(batch, step=step)`` gives ``output.loss`` and ``output.logs``; ``method.after_step()`` follows the
optimiser's step. No trainer is needed.
"""

from torchbank.methods._output import MethodOutput
from torchbank.methods._registry import METHODS, Recipe, build
from torchbank.methods.massl import MaSSL, MaSSLConfig
from torchbank.methods.moco import MoCo, MoCoConfig
from torchbank.methods.nnclr import NNCLR, NNCLRConfig
from torchbank.methods.npid import NPID, NPIDConfig
from torchbank.methods.simclr import SimCLR, SimCLRConfig
from torchbank.methods.xbm import XBM, XBMConfig

__all__ = [
    "METHODS",
    "NNCLR",
    "NPID",
    "XBM",
    "MaSSL",
    "MaSSLConfig",
    "MethodOutput",
    "MoCo",
    "MoCoConfig",
    "NNCLRConfig",
    "NPIDConfig",
    "Recipe",
    "SimCLR",
    "SimCLRConfig",
    "XBMConfig",
    "build",
]
