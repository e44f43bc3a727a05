"""Seeded generator of small natural-looking scenes with metadata and captions.

A scene is a pure function of (seed, scene id): nothing is drawn from a global
generator, so any subset of scenes can be drawn anywhere, in any order.
Coordinates are fractions of the image's width: x to the right, y downwards.
Colours are sRGB in 0..1. The photographs behind the textures (grass, gravel,
bricks) come with scikit-image and are in the public domain (CC0).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import skimage.data
import skimage.transform

FIRST_HELD_OUT_SCENE = 900_000  # [900 000, 1 000 000): the quality of the models is measured here
FIRST_TRAINING_SCENE = 1_000_000  # from here on: the models' training; below 900 000: stimuli

COLOUR_VALUES = {
    "red": (0.84, 0.13, 0.13),
    "orange": (0.95, 0.52, 0.10),
    "yellow": (0.95, 0.86, 0.18),
    "green": (0.16, 0.62, 0.22),
    "blue": (0.14, 0.34, 0.86),
    "purple": (0.50, 0.20, 0.68),
    "pink": (0.96, 0.55, 0.72),
    "white": (0.94, 0.94, 0.92),
}
SIZE_VALUES = {"small": 0.15, "medium": 0.21, "large": 0.28}  # radius
PLACE_VALUES = {
    "top left": (0.27, 0.27),
    "top": (0.50, 0.25),
    "top right": (0.73, 0.27),
    "left": (0.25, 0.50),
    "middle": (0.50, 0.50),
    "right": (0.75, 0.50),
    "bottom left": (0.27, 0.73),
    "bottom": (0.50, 0.75),
    "bottom right": (0.73, 0.73),
}
OPPOSITE_PLACES = (
    ("top left", "bottom right"),
    ("top right", "bottom left"),
    ("left", "right"),
    ("top", "bottom"),
)
SHARE_OF_PAIRS = 0.2  # scenes with two objects
TEXTURE_CONTRAST = 0.055  # standard deviation of a texture's lightness; see `textured`
PHOTOGRAPHS = {
    "grass": skimage.data.grass,
    "gravel": skimage.data.gravel,
    "brick": lambda: np.rot90(skimage.data.brick()),  # photographed lying on its side
}
LIGHT = np.array([-0.5, -0.6, 0.62])  # towards the lamp: left, above, in front


@dataclass(frozen=True)
class SceneObject:
    """One thing in a scene, in words (for captions) and in numbers (for the brains)."""

    kind: str
    colour: str
    size: str
    place: str
    centre: tuple[float, float]
    radius: float
    rgb: tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """A picture, uint8 (size, size, 3), and what it shows, nearest object last."""

    scene: int
    image: np.ndarray
    objects: tuple[SceneObject, ...]
    background: str


@dataclass(frozen=True)
class Canvas:
    """Pixel centres of an image: x and y are float (size, size), in 0..1."""

    size: int
    x: np.ndarray
    y: np.ndarray


@lru_cache(maxsize=8)
def canvas(size: int) -> Canvas:
    """The pixel grid of a `size` x `size` image."""
    centres = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(centres, centres)
    return Canvas(size=size, x=x, y=y)


# --- shapes: signed distances, negative inside, for a shape of circumradius 1 ------------


def ball_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A disc."""
    return np.hypot(x, y) - 1.0


def box_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A square."""
    return np.maximum(np.abs(x), np.abs(y)) - 0.8


def pyramid_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A triangle on its base."""
    return np.maximum(0.866 * np.abs(x) - 0.5 * y - 0.5, y - 0.7)


def star_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Five points: one edge, mirrored into ten sectors."""
    sector = 2 * np.pi / 5
    angle = np.abs(np.mod(np.arctan2(x, -y) + sector / 2, sector) - sector / 2)
    radius = np.hypot(x, y)
    along, across = radius * np.cos(angle), radius * np.sin(angle)
    return (along - 1.08) * 0.45 + across * 0.89


def heart_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Two discs above, a corner below."""
    side = np.abs(x)
    lobe = np.hypot(side - 0.46, y + 0.36) - 0.5
    below = np.maximum(0.74 * side + 0.67 * y - 0.58, -y - 0.36)
    return np.minimum(lobe, below)


def ring_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A thick ring."""
    return np.abs(np.hypot(x, y) - 0.7) - 0.29


def flower_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Five petals."""
    petals = 0.74 + 0.24 * np.cos(5 * np.arctan2(x, -y))
    return 0.85 * (np.hypot(x, y) - petals)


def moon_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A crescent."""
    return np.maximum(np.hypot(x, y) - 1.0, 0.78 - np.hypot(x - 0.5, y + 0.12))


SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "ball": ball_distance,
    "box": box_distance,
    "pyramid": pyramid_distance,
    "star": star_distance,
    "heart": heart_distance,
    "ring": ring_distance,
    "flower": flower_distance,
    "moon": moon_distance,
}


# --- backgrounds: (canvas, rng) -> float (size, size, 3) ----------------------------------


def unit_texture(photograph: np.ndarray) -> np.ndarray:
    """Lightness of a photograph without its large-scale shading, mean 0, deviation 1."""
    lightness = photograph - photograph.mean()
    return np.clip(lightness / lightness.std(), -2.5, 2.5)


@lru_cache(maxsize=32)
def texture(name: str, pixels: int) -> np.ndarray:
    """The photograph `name`, antialiased to `pixels` x `pixels`, as a unit texture."""
    photograph = PHOTOGRAPHS[name]().astype(np.float64)
    small = skimage.transform.resize(photograph, (pixels, pixels), anti_aliasing=True)
    return unit_texture(small)


def textured(
    on: Canvas, rng: np.random.Generator, *, name: str, zooms: tuple[float, ...]
) -> np.ndarray:
    """A random window of a photograph: lightness offsets, (size, size).

    The contrast is moderate on purpose: the phase of a texture cannot be decoded
    from a brain, and should be a small share of the pixels' variance.
    """
    zoom = zooms[rng.integers(len(zooms))]
    photograph = texture(name, int(on.size * zoom))
    first = (rng.random(2) * (len(photograph) - on.size)).astype(int)
    window = photograph[first[0] : first[0] + on.size, first[1] : first[1] + on.size]
    return TEXTURE_CONTRAST * window


@lru_cache(maxsize=32)
def interpolation(cells: int, size: int) -> np.ndarray:
    """(size, cells) weights that smoothly interpolate `cells` values along an axis."""
    at = canvas(size).x[0] * (cells - 1)
    distance = np.clip(np.abs(at[:, None] - np.arange(cells)), 0, 1)
    return 0.5 + 0.5 * np.cos(np.pi * distance)


def smooth_noise(on: Canvas, rng: np.random.Generator, *, cells: tuple[int, ...]) -> np.ndarray:
    """Sum of interpolated grids of normal numbers, each finer one half as strong."""
    total = np.zeros((on.size, on.size))
    for octave, count in enumerate(cells):
        weights = interpolation(count, on.size)
        total += weights @ rng.normal(size=(count, count)) @ weights.T / 2**octave
    return total


def vary(rgb: tuple[float, ...], rng: np.random.Generator, amount: float = 0.05) -> np.ndarray:
    """A colour near `rgb`: lightness and each channel shifted a little."""
    shift = rng.normal(0, amount) + rng.normal(0, amount / 2, size=3)
    return np.clip(np.array(rgb) + shift, 0, 1)


def blend(lower: np.ndarray, upper: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mix two colours or images by a (size, size) weight of the upper."""
    weight = np.clip(weight, 0, 1)[..., None]
    return lower * (1 - weight) + upper * weight


def edge(distance: np.ndarray, size: int, softness: float = 1.0) -> np.ndarray:
    """Coverage 0..1 of pixels by {distance < 0}; `softness` is the edge's width in pixels."""
    return np.clip(0.5 - distance * size / softness, 0, 1)


def daylight(on: Canvas, rng: np.random.Generator) -> np.ndarray:
    """A clear sky, paler towards the horizon."""
    zenith, horizon = vary((0.33, 0.56, 0.88), rng), vary((0.76, 0.87, 0.95), rng)
    return blend(zenith, horizon, on.y * rng.uniform(0.8, 1.5))


def sky(on: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Clouds before a clear sky."""
    clouds = smooth_noise(on, rng, cells=(4, 8)) - rng.uniform(-0.2, 0.5)
    return blend(daylight(on, rng), np.array([0.97, 0.97, 0.98]), 0.9 * clouds)


def meadow(on: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Grass below a rolling horizon."""
    horizon = rng.uniform(0.22, 0.48) + 0.04 * np.sin(rng.uniform(2, 6) * on.x + rng.uniform(0, 6))
    ground = blend(vary((0.50, 0.66, 0.26), rng), vary((0.22, 0.42, 0.12), rng), (on.y - 0.3) * 1.3)
    ground = ground + textured(on, rng, name="grass", zooms=(2, 3, 4))[..., None]
    return blend(daylight(on, rng), ground, edge(horizon - on.y, on.size))


def beach(on: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Sky, sea, foam and sand, from above."""
    shore = rng.uniform(0.5, 0.68) + 0.03 * np.sin(rng.uniform(3, 8) * on.x + rng.uniform(0, 6))
    water = rng.uniform(0.2, 0.36)
    sand = (
        vary((0.88, 0.76, 0.54), rng)
        + 0.7 * textured(on, rng, name="gravel", zooms=(4, 6))[..., None]
    )
    sea = blend(vary((0.10, 0.40, 0.62), rng), vary((0.30, 0.70, 0.74), rng), (on.y - water) * 2.5)
    above = blend(daylight(on, rng), sea, edge(water - on.y, on.size))
    foam = blend(above, np.array([0.96, 0.97, 0.97]), edge(np.abs(on.y - shore) - 0.015, on.size))
    return blend(foam, sand, edge(shore - on.y, on.size))


def sunset(on: Canvas, rng: np.random.Generator) -> np.ndarray:
    """A low sun over a dark sea that glitters below it."""
    horizon, sun_x = rng.uniform(0.55, 0.75), rng.uniform(0.2, 0.8)
    heaven = blend(vary((0.30, 0.18, 0.42), rng), vary((0.98, 0.58, 0.26), rng), on.y / horizon)
    far = np.hypot(on.x - sun_x, on.y - horizon + 0.08)
    heaven = blend(heaven, np.array([1.0, 0.90, 0.62]), np.exp(-((far / 0.16) ** 2)))
    sea = vary((0.20, 0.14, 0.30), rng) + 0.02 * np.sin(60 * (on.y - horizon))[..., None]
    glitter = np.exp(-(((on.x - sun_x) / (0.05 + 0.3 * (on.y - horizon))) ** 2))
    sea = blend(sea, np.array([0.98, 0.66, 0.36]), 0.7 * glitter)
    return blend(heaven, sea, edge(horizon - on.y, on.size))


def bricks(on: Canvas, rng: np.random.Generator) -> np.ndarray:
    """A brick wall, lit from a side."""
    wall = (
        vary((0.64, 0.40, 0.32), rng)
        + textured(on, rng, name="brick", zooms=(1.5, 2, 2.5))[..., None]
    )
    return wall + slanted_light(on, rng)


def gravel(on: Canvas, rng: np.random.Generator) -> np.ndarray:
    """A gravel path, lit from a side."""
    ground = (
        vary((0.50, 0.49, 0.47), rng, 0.07)
        + textured(on, rng, name="gravel", zooms=(2, 3, 4))[..., None]
    )
    return ground + slanted_light(on, rng)


def studio(on: Canvas, rng: np.random.Generator) -> np.ndarray:
    """A painted wall over a darker floor."""
    paint = 0.35 + 0.45 * rng.random(3)
    floor = paint * rng.uniform(0.55, 0.8)
    corner = blend(paint, floor, edge(rng.uniform(0.6, 0.8) - on.y, on.size, softness=2))
    return corner + slanted_light(on, rng)


def slanted_light(on: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Lightness offsets (size, size, 1) of a lamp on one side."""
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.3)
    return (strength * (np.cos(angle) * (on.x - 0.5) + np.sin(angle) * (on.y - 0.5)))[..., None]


BACKGROUND_PAINTERS: dict[str, Callable[[Canvas, np.random.Generator], np.ndarray]] = {
    "meadow": meadow,
    "beach": beach,
    "sunset": sunset,
    "sky": sky,
    "bricks": bricks,
    "gravel": gravel,
    "studio": studio,
}

KINDS = tuple(SHAPES)
COLOURS = tuple(COLOUR_VALUES)
SIZES = tuple(SIZE_VALUES)
PLACES = tuple(PLACE_VALUES)
BACKGROUNDS = tuple(BACKGROUND_PAINTERS)


# --- objects ---------------------------------------------------------------------------


def draw_object(rng: np.random.Generator, *, place: str, size: str) -> SceneObject:
    """A random thing of a given size near a given place."""
    colour = COLOURS[rng.integers(len(COLOURS))]
    radius = SIZE_VALUES[size] * rng.uniform(0.9, 1.1)
    offset = np.clip(rng.normal(0, 0.025, size=2), -0.05, 0.05)
    centre = np.clip(np.array(PLACE_VALUES[place]) + offset, 0.8 * radius, 1 - 0.8 * radius)
    return SceneObject(
        kind=KINDS[rng.integers(len(KINDS))],
        colour=colour,
        size=size,
        place=place,
        centre=(float(centre[0]), float(centre[1])),
        radius=float(radius),
        rgb=tuple(float(value) for value in vary(COLOUR_VALUES[colour], rng, 0.03)),
    )


def draw_objects(rng: np.random.Generator) -> tuple[SceneObject, ...]:
    """Mostly one object; sometimes two, on opposite sides so that neither hides the other."""
    if rng.random() >= SHARE_OF_PAIRS:
        place, size = PLACES[rng.integers(len(PLACES))], SIZES[rng.integers(len(SIZES))]
        return (draw_object(rng, place=place, size=size),)
    places = OPPOSITE_PLACES[rng.integers(len(OPPOSITE_PLACES))]
    sizes = rng.choice(SIZES[:2], size=2)
    return tuple(
        draw_object(rng, place=place, size=str(size))
        for place, size in zip(places, sizes, strict=True)
    )


def lightness(x: np.ndarray, y: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Factor by which light changes a colour: round rim, lit from the upper left."""
    rim = np.clip(1 + distance / 0.45, 0, 1)  # 0 in the interior, 1 at the outline
    radius = np.maximum(np.hypot(x, y), 1e-6)
    normal = np.stack([rim * x / radius, rim * y / radius, np.sqrt(1.001 - rim**2)])
    diffuse = np.clip(np.tensordot(LIGHT, normal, axes=1), 0, 1)
    return 0.62 + 0.55 * diffuse


def paint_object(image: np.ndarray, *, item: SceneObject, on: Canvas, tilt: float) -> np.ndarray:
    """`image` with a soft shadow and a shaded object on it; `tilt` is in radians."""
    shape = SHAPES[item.kind]
    x, y = (on.x - item.centre[0]) / item.radius, (on.y - item.centre[1]) / item.radius
    x, y = np.cos(tilt) * x + np.sin(tilt) * y, np.cos(tilt) * y - np.sin(tilt) * x
    distance = shape(x, y)
    shadow = edge(shape(x - 0.14, y - 0.18) * item.radius, on.size, softness=0.09 * on.size)
    colour = np.array(item.rgb) * lightness(x, y, distance)[..., None]
    highlight = 0.55 * np.exp(-((x + 0.32) ** 2 + (y + 0.38) ** 2) / 0.03)
    colour = blend(colour, np.ones(3), highlight)
    darker = image * (1 - 0.4 * shadow[..., None])
    return blend(darker, colour, edge(distance * item.radius, on.size))


# --- scenes ----------------------------------------------------------------------------


def draw_scene(*, seed: int, scene: int, size: int = 64) -> Scene:
    """The scene with this id in the world with this seed."""
    rng = np.random.default_rng((seed, scene))
    on = canvas(size)
    background = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    objects = draw_objects(rng)
    tilts = rng.normal(0, 0.12, size=len(objects))
    image = BACKGROUND_PAINTERS[background](on, rng)
    for item, tilt in zip(objects, tilts, strict=True):
        image = paint_object(image, item=item, on=on, tilt=float(tilt))
    pixels = np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
    return Scene(scene=scene, image=pixels, objects=objects, background=background)


def draw_scenes(
    *,
    seed: int,
    scenes: Iterable[int],
    size: int = 64,
    progress: Callable[[int], None] | None = None,
) -> list[Scene]:
    """Many scenes, in the order of their ids; `progress` is told how many are done."""
    drawn = []
    for scene in scenes:
        drawn.append(draw_scene(seed=seed, scene=int(scene), size=size))
        if progress is not None:
            progress(len(drawn))
    return drawn


# --- captions --------------------------------------------------------------------------

BACKGROUND_PHRASES = {
    "meadow": ("on a meadow", "on green grass"),
    "beach": ("on a beach", "at the sea"),
    "sunset": ("at sunset", "before a sunset"),
    "sky": ("in the sky", "before clouds"),
    "bricks": ("on bricks", "before a brick wall"),
    "gravel": ("on gravel", "on a gravel path"),
    "studio": ("in a studio", "before a painted wall"),
}
PLACE_PHRASES = {
    place: ("in the middle", "at the centre")
    if place == "middle"
    else (f"at the {place}", f"{place}")
    for place in PLACES
}
SIZE_PHRASES = {
    "small": ("small", "little"),
    "medium": ("medium", "middling"),
    "large": ("large", "big"),
}


def phrase(item: SceneObject, *, wording: int, long: bool) -> str:
    """An object in words, e.g. "a big red ball at the top left"; short: without "at the"."""
    size = SIZE_PHRASES[item.size][wording % 2]
    place = PLACE_PHRASES[item.place][0 if long else 1]
    return f"a {size} {item.colour} {item.kind} {place}"


def captions(scene: Scene) -> tuple[str, ...]:
    """Five paraphrases of what a scene shows; all facts are in each."""
    where = BACKGROUND_PHRASES[scene.background]
    named = {
        (wording, long): " and ".join(
            phrase(item, wording=wording, long=long) for item in scene.objects
        )
        for wording in (0, 1)
        for long in (False, True)
    }
    return (
        f"{named[0, True]} {where[0]}",
        f"{named[1, True]} {where[1]}",
        f"{where[0]} {named[0, False]}",
        f"{where[1]} {named[1, True]}",
        f"a picture of {named[1, False]} {where[0]}",
    )


def vocabulary() -> tuple[str, ...]:
    """Every word that a caption can contain, sorted."""
    phrases = [
        *(
            text
            for pair in (*BACKGROUND_PHRASES.values(), *PLACE_PHRASES.values())
            for text in pair
        ),
        *(text for pair in SIZE_PHRASES.values() for text in pair),
    ]
    words = {word for text in phrases for word in text.split()}
    return tuple(sorted(words | {*KINDS, *COLOURS, "a", "and", "picture", "of"}))
