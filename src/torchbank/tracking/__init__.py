"""Identities behind any tracker."""
