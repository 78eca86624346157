"""Shapes: built-in synthetic scenes, with which every experiment runs on a laptop without a download.

Circles, squares and triangles with thin rods stand on textured ground in front of a wall. They overlap and touch, so most of the task is
to locate edges. Each scene gives an image and all its labels. :func:`render` draws a scene; ``shapes_writer`` writes a dataset of them.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

THINGS = ('circle', 'square', 'triangle')
STUFF = ('wall', 'ground')
HUES = (0.0, 120.0, 240.0)  # degrees: about red, green and blue things, on walls and grounds of any colour
WALL_DEPTH, NEAREST_DEPTH = 10.0, 2.0  # metres
MIN_VISIBLE = 0.3  # the smallest fraction of an object that nearer objects leave uncovered


class Instance(NamedTuple):
    """An object of a scene."""

    category: int  # index into THINGS
    mask: np.ndarray  # (H, W), bool: its visible pixels


@dataclass
class Scene:
    """An image and its labels."""

    image: np.ndarray  # (H, W, 3), uint8, RGB
    semantic: np.ndarray  # (H, W), uint8, index into THINGS + STUFF
    depth: np.ndarray  # (H, W), float32, metres
    instances: list[Instance]  # far to near


def render(index: int, seed: int = 0, size: int = 128) -> Scene:
    """Return a scene, the same one for the same arguments.

    Args:
        index: The number of the scene.
        seed: The seed of the whole dataset.
        size: Height and width in pixels.

    Returns:
        The scene. It holds up to eight objects, each with at least 30 % of its area visible.
    """
    rng = np.random.default_rng((seed, index))
    scene = _background(rng, size)
    depths = np.sort(rng.uniform(NEAREST_DEPTH, 0.9 * WALL_DEPTH, rng.integers(3, 9)))[::-1]
    full_areas: list[int] = []
    for depth in depths:
        category = int(rng.integers(len(THINGS)))
        mask = _silhouette(rng, category, size, radius=size * rng.uniform(0.3, 0.5) / depth**0.7)
        covered = [instance.mask & ~mask for instance in scene.instances]
        if any(left.sum() < MIN_VISIBLE * area for left, area in zip(covered, full_areas)):
            continue
        scene.instances = [Instance(old.category, left) for old, left in zip(scene.instances, covered)]
        scene.instances.append(Instance(category, mask))
        full_areas.append(int(mask.sum()))
        scene.image[mask] = _texture(rng, size, HUES[category], contrast=25)[mask]
        scene.semantic[mask] = category
        scene.depth[mask] = depth
    noise = rng.normal(0, 6, scene.image.shape)
    scene.image = np.clip(scene.image + noise, 0, 255).astype(np.uint8)
    return scene


def _background(rng: np.random.Generator, size: int) -> Scene:
    horizon = int(size * rng.uniform(0.3, 0.6))
    below = np.arange(size) >= horizon
    # The ground is a plane, so the inverse of its depth grows linearly with the rows below the horizon.
    nearness = np.clip((np.arange(size) - horizon) / (size - horizon), 0, 1)
    row_depth = 1 / ((1 - nearness) / WALL_DEPTH + nearness / NEAREST_DEPTH)
    wide = np.broadcast_to(below[:, None], (size, size))
    wall, ground = (_texture(rng, size, rng.uniform(0, 360), contrast=60) for _ in STUFF)
    return Scene(
        image=np.where(wide[..., None], ground, wall),
        semantic=np.where(wide, len(THINGS) + 1, len(THINGS)).astype(np.uint8),
        depth=np.repeat(row_depth[:, None], size, axis=1).astype(np.float32),
        instances=[],
    )


def _texture(rng: np.random.Generator, size: int, hue: float, contrast: float) -> np.ndarray:
    """Return a smoothly mottled colour near a hue (degrees), of random saturation and brightness: ``(size, size, 3)``, float32."""
    hsv = np.array([[[rng.normal(hue, 15) % 360, rng.uniform(0.3, 0.9), rng.uniform(80, 220)]]], np.float32)
    colour = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0]
    spots = rng.normal(0, contrast / 2, (size // 8, size // 8)).astype(np.float32)
    mottling = cv2.resize(spots, (size, size), interpolation=cv2.INTER_CUBIC)
    return (colour + mottling[..., None]).astype(np.float32)


def _silhouette(rng: np.random.Generator, category: int, size: int, radius: float) -> np.ndarray:
    """Return the mask of a body with up to two rods, one or two pixels wide: ``(size, size)``, bool."""
    canvas = np.zeros((size, size), np.uint8)
    centre = rng.uniform(0.5 * radius, size - 0.5 * radius, 2)
    corners, upright = {'circle': (64, 0.0), 'square': (4, np.pi / 4), 'triangle': (3, -np.pi / 2)}[THINGS[category]]
    turn = rng.uniform(-0.3, 0.3)
    angles = upright + turn + 2 * np.pi * np.arange(corners) / corners
    body = centre + radius * np.stack((np.cos(angles), np.sin(angles)), axis=1)
    cv2.fillPoly(canvas, [np.round(body).astype(np.int32)], 1)
    for angle in rng.uniform(0, 2 * np.pi, rng.integers(0, 3)):
        tip = centre + radius * rng.uniform(1.15, 1.4) * np.array((np.cos(angle), np.sin(angle)))
        ends = np.round((centre, tip)).astype(int)
        cv2.line(canvas, ends[0].tolist(), ends[1].tolist(), 1, thickness=int(rng.integers(1, 3)))
    return canvas.astype(bool)
