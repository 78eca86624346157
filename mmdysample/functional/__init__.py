"""The mathematics of the upsamplers: no parameters, torch only."""

from .bilinear import sample_bilinear, without_grid_sample
from .deformable import deformable_attention
from .dysample import dysample, initial_position, sampling_grid
from .reassembly import reassemble, similarity
from .shuffle import pixel_shuffle

__all__ = [
    'deformable_attention',
    'dysample',
    'initial_position',
    'pixel_shuffle',
    'reassemble',
    'sample_bilinear',
    'sampling_grid',
    'similarity',
    'without_grid_sample',
]
