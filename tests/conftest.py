"""What holds for every test."""

from hypothesis import settings

# A time limit for each example would fail tests on a busy machine for no fault of theirs.
settings.register_profile("landseer", deadline=None, print_blob=True)
settings.load_profile("landseer")
