"""Generated examples are the same on each run, and no slow machine makes a test fail."""

from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")
