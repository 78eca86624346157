"""The mathematics of the upsamplers: no parameters, torch only."""

from .deformable import deformable_attention
from .dysample import dysample, initial_position, sampling_grid
from .reassembly import reassemble, similarity
from .shuffle import pixel_shuffle

__all__ = ['deformable_attention', 'dysample', 'initial_position', 'pixel_shuffle', 'reassemble', 'sampling_grid', 'similarity']
