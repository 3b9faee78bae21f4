"""The commands that a diagnosis prints, run as printed, at a place like an operator's."""
