"""Active measurement: what packets do, with no opinion on it."""
