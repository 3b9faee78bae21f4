"""Recorded faults: the evidence of each, and the diagnosis that it leads to."""
