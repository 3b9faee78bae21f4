"""How often the doctor is right: every fault injected, every diagnosis judged, every remedy run."""
