"""Properties are tried without a stopwatch: a busy machine is no defect of ours."""

from hypothesis import settings

settings.register_profile("unit", deadline=None)
settings.load_profile("unit")
