"""The mathematics of the upsamplers, as functions of tensors. They have no parameters and need torch only."""

from .bilinear import sample_bilinear
from .capture import without_grid_sample
from .deformable import deformable_attention
from .dysample import dysample, initial_position, sampling_grid, sampling_offset
from .operators import sample
from .paths import choose_path, explain_path
from .points import sample_points
from .reassembly import reassemble, similarity
from .shuffle import pixel_shuffle

__all__ = [
    'choose_path',
    'deformable_attention',
    'dysample',
    'explain_path',
    'initial_position',
    'pixel_shuffle',
    'reassemble',
    'sample',
    'sample_bilinear',
    'sample_points',
    'sampling_grid',
    'sampling_offset',
    'similarity',
    'without_grid_sample',
]
