"""Settings of the whole suite."""

import os

from hypothesis import settings

# Examples follow from the code alone and take as long as they take: a busy machine is no failure.
settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=25)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
