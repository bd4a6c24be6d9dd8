"""Identities behind any tracker."""

from torchbank.tracking._appearances import Appearances, Visit

__all__ = ["Appearances", "Visit"]
