"""The engine: which checks run, what their findings amount to. Pure and deterministic."""
