"""Bundles: all that a run measured, in one file that can be judged again without a cluster."""
