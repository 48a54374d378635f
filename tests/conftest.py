"""What all tests share: Hypothesis draws the same examples in every run.

`HYPOTHESIS_PROFILE=random` looks for new ones; what it finds becomes an example of its test.
"""

import os

from hypothesis import settings

settings.register_profile("same", derandomize=True, deadline=None, database=None)
settings.register_profile("random", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
