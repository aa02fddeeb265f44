"""No time limit per example: the first call of a statistics routine on a busy machine is slow, and no error."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
