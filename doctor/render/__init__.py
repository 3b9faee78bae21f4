"""Renderers: they say what a run found, and decide nothing."""
