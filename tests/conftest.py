"""What all tests share: how hypothesis judges the machine."""

from hypothesis import HealthCheck, settings

# Two cores that others use too are slow now and then; that is no fault of a property or a strategy.
settings.register_profile("shared-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared-machine")
