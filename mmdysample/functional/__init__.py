"""The mathematics of the upsamplers: no parameters, torch only."""

from .dysample import dysample, initial_position, sampling_grid

__all__ = ['dysample', 'initial_position', 'sampling_grid']
