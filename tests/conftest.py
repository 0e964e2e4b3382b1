"""Settings of the whole suite."""

import os

from hypothesis import settings

# Side by side, each process gets its share of the cores, before NumPy or PyTorch ask: threads that wait for others'
# cores are slower than none.
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

# Examples follow from the code alone and take as long as they take: a busy machine is no failure.
settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=25)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
