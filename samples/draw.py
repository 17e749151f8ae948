"""Draw the sample pictures: a honeybee on an aster and a wasp on a weathered board.

    python samples/draw.py [FOLDER]

Writes bee.jpg and wasp.jpg beside this file, or into FOLDER. Everything is drawn at three times the final size
and scaled down; the same versions of Pillow and NumPy give the same bytes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

SIZE = (640, 480)
SCALE = 3  # Pillow draws lines and polygons without anti-aliasing; scaling down smooths them
CANVAS = (SIZE[0] * SCALE, SIZE[1] * SCALE)

Array = npt.NDArray[np.float64]
Point = tuple[float, float]
Colour = tuple[int, int, int]
Skin = Callable[[Array, Array], Array]  # (t along, 0 to 1; v across, -1 to 1) to RGB, 0 to 255, on a last axis
Random = np.random.Generator

LIGHT, VIEWER = np.array([-0.45, -0.55, 0.70]), np.array([0.0, 0.0, 1.0])  # light from above left, out of the picture
HALFWAY = (LIGHT + VIEWER) / np.linalg.norm(LIGHT + VIEWER)
SHADE = (24, 16, 20)


@dataclass(frozen=True)
class Pose:
    """Where a thing is: its middle and its size in pixels of the result, its heading in degrees."""

    x: float
    y: float
    size: float
    heading: float

    def at(self, point: Point) -> Point:
        """The place on the canvas of a point of the thing: x towards its head, y to its right."""
        (x, y), turn, size = point, math.radians(self.heading), self.size * SCALE
        across, down = x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)
        return self.x * SCALE + across * size, self.y * SCALE + down * size


@dataclass(frozen=True)
class Fur:
    """Hairs on a solid, from its start to `until`; `comb` lays them towards its end."""

    count: int
    length: float
    colours: Sequence[Colour]
    until: float = 0.97
    comb: float = 0.0


@dataclass(frozen=True)
class Solid:
    """A rounded body around the line from `start` to `end`.

    Its radius is radius * sin(pi * t ** lean) ** blunt. `lean` moves the thickest place: at 1 it is the middle,
    below 1 nearer to the start. `blunt` near 0 makes a cylinder, 0.5 an ellipsoid, 1 a spindle.
    """

    start: Point
    end: Point
    radius: float
    skin: Skin
    lean: float = 1.0
    blunt: float = 0.5
    gloss: float = 0.2
    relief: float = 1.0  # how much its normals turn: 1 is round, less is flatter, like a petal
    fur: Fur | None = None


@dataclass(frozen=True)
class Wing:
    """A wing, turned outwards by `spread` degrees from pointing straight back."""

    hinge: Point
    length: float
    width: float
    spread: float


@dataclass(frozen=True)
class Insect:
    """What one is made of, in the order drawn, in body lengths; limbs and wings are those of the right side."""

    limbs: Sequence[tuple[Skin, Sequence[tuple[float, float, float]]]]  # x, y and radius of each joint
    solids: Sequence[Solid]  # one beside the midline is drawn on both sides
    wings: Sequence[Wing]
    membrane: Colour
    vein: Colour
    opacity: float


def plain(*colour: float) -> Skin:
    """One colour everywhere."""
    return lambda t, v: np.broadcast_to(np.array(colour), (*t.shape, 3))


def step(edge: float, x: Array, width: float) -> Array:
    """From 0 to 1 as `x` passes `edge`, smoothly over `width`."""
    s = np.clip((x - edge) / width + 0.5, 0, 1)
    return s * s * (3 - 2 * s)


def mix(a: Array | Colour, b: Array | Colour, share: Array) -> Array:
    """`a` where `share` is 0, `b` where it is 1."""
    return np.asarray(a) * (1 - share[..., None]) + np.asarray(b) * share[..., None]


def noise(rng: Random, columns: int, rows: int) -> Array:
    """Smooth noise from 0 to 1 over the canvas, with `columns` x `rows` values."""
    grid = Image.fromarray(rng.random((rows, columns)).astype(np.float32))
    return np.asarray(grid.resize(CANVAS, Image.Resampling.BICUBIC), np.float64)


def picture(values: Array) -> Image.Image:
    """The image of an array of 0 to 255."""
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def empty() -> Image.Image:
    """A layer with nothing on it."""
    return Image.new("RGBA", CANVAS)


def blur(image: Image.Image, radius: float) -> Image.Image:
    """Blur by a radius in pixels of the result."""
    return image.filter(ImageFilter.GaussianBlur(radius * SCALE))


def put(canvas: Image.Image, layer: Image.Image, *shadows: tuple[int, float, float]) -> None:
    """Lay a layer on the canvas, over its shadows: (pixels down and right, blur, depth 0 to 1)."""
    for reach, soft, depth in shadows:
        mask = Image.new("L", CANVAS)
        alpha = layer.getchannel("A").point([round(a * depth) for a in range(256)])
        mask.paste(alpha, (reach * SCALE, reach * SCALE))
        shadow = Image.new("RGBA", CANVAS, SHADE)
        shadow.putalpha(blur(mask, soft))
        canvas.alpha_composite(shadow)
    canvas.alpha_composite(layer)


def smooth(points: Sequence[Point], *, closed: bool = False) -> list[Point]:
    """A Catmull-Rom curve through points, 12 steps from each to the next."""
    ends = (points[-1], points[0], points[1]) if closed else (points[0], points[-1])
    p = np.array([ends[0], *points, *ends[1:]])[:, None]
    s = np.linspace(0, 1, 12, endpoint=False)[None, :, None]
    rise = p[:-3] * (-s + 2 * s**2 - s**3) + p[1:-2] * (2 - 5 * s**2 + 3 * s**3)
    fall = p[2:-1] * (s + 4 * s**2 - 3 * s**3) + p[3:] * (s**3 - s**2)
    curve = [(float(x), float(y)) for x, y in ((rise + fall) / 2).reshape(-1, 2)]
    return curve if closed else [*curve, points[-1]]


def draw_solid(layer: Image.Image, pose: Pose, solid: Solid) -> None:
    """Shade a solid by its normals: diffuse light, a highlight, darker where it turns away from the viewer."""
    (ax, ay), (bx, by) = pose.at(solid.start), pose.at(solid.end)
    length, radius = math.hypot(bx - ax, by - ay), solid.radius * pose.size * SCALE
    ux, uy = (bx - ax) / length, (by - ay) / length
    left, top = max(0, int(min(ax, bx) - radius)), max(0, int(min(ay, by) - radius))
    right, bottom = min(CANVAS[0], int(max(ax, bx) + radius)), min(CANVAS[1], int(max(ay, by) + radius))
    if left >= right or top >= bottom:
        return  # out of the picture
    y, x = np.mgrid[top:bottom, left:right].astype(np.float64)
    t, across = ((x - ax) * ux + (y - ay) * uy) / length, (y - ay) * ux - (x - ax) * uy

    steps = np.linspace(0, 1, 400)
    profile = radius * np.sin(np.pi * np.clip(steps, 1e-4, 1 - 1e-4) ** solid.lean) ** solid.blunt + 1e-3
    r, slope = np.interp(t, steps, profile), np.interp(t, steps, np.gradient(profile, length / 400))
    v = np.clip(across / r, -1, 1)
    tilt, slope = v * solid.relief, np.clip(slope, -3, 3) * solid.relief
    normal = np.stack([-slope * ux - tilt * uy, -slope * uy + tilt * ux, np.sqrt(1 - 0.98 * tilt * tilt)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)

    light = (0.30 + 0.85 * np.clip(normal @ LIGHT, 0, 1)) * (0.62 + 0.38 * normal[..., 2])
    shine = 255 * np.clip(normal @ HALFWAY, 0, 1) ** 40 + 40 * np.clip(-normal[..., 1], 0, 1) ** 2
    rgb = solid.skin(t, v) * light[..., None] + solid.gloss * shine[..., None]
    alpha = 255 * np.clip((r - np.abs(across)) / 2, 0, 1) * ((t > 0) & (t < 1))
    layer.alpha_composite(picture(np.dstack([rgb, alpha])), (left, top))


def draw_fur(layer: Image.Image, pose: Pose, solid: Solid, fur: Fur, rng: Random) -> None:
    """The hairs of a solid, dark ones first; one that points at the viewer looks short."""
    (ax, ay), (bx, by) = solid.start, solid.end
    length = math.hypot(bx - ax, by - ay)
    ux, uy = (bx - ax) / length, (by - ay) / length
    pen = ImageDraw.Draw(layer)
    for depth in np.linspace(0, 1, fur.count):
        t, v = rng.uniform(0.03, fur.until), rng.uniform(-1, 1) * (1 - 0.12 * depth)
        r = solid.radius * math.sin(math.pi * t**solid.lean) ** solid.blunt
        outward = (2 * t - 1) * 0.8
        nx, ny = ux * outward - uy * v, uy * outward + ux * v
        normal = (*replace(pose, x=0, y=0, size=1 / SCALE).at((nx, ny)), math.sqrt(max(0, 1 - nx * nx - ny * ny)))
        tone = 0.45 + 0.65 * max(0.0, float(LIGHT @ normal))
        tone *= (0.55 + 0.45 * depth) * rng.uniform(0.75, 1.2)
        colour = fur.colours[int(rng.integers(len(fur.colours)))]
        fill = (*(min(255, int(c * tone)) for c in colour), 235)

        along, side = outward + fur.comb + rng.normal(0, 0.3), v + rng.normal(0, 0.3)
        hair = fur.length * rng.uniform(0.5, 1.2) * (0.35 + 0.65 * max(abs(v), abs(2 * t - 1)))
        x, y = ax + ux * t * length - uy * v * r, ay + uy * t * length + ux * v * r
        dx, dy = (ux * along - uy * side) * hair, (uy * along + ux * side) * hair
        middle = pose.at((x + dx / 2, y + dy / 2))
        pen.line([pose.at((x, y)), middle], fill, SCALE)
        pen.line([middle, pose.at((x + dx, y + dy))], fill, SCALE - 1)


# In wing lengths from the hinge and outwards, before the width is applied: the front edge comes first.
WING_OUTLINE: Sequence[Point] = (
    (0, 0), (0.35, 0.10), (0.70, 0.15), (0.92, 0.08), (1, -0.10), (0.90, -0.34), (0.66, -0.44), (0.36, -0.30),
    (0.12, -0.08),
)  # fmt: skip
WING_VEINS: Sequence[Sequence[Point]] = (
    ((0, 0), (0.35, 0.02), (0.60, 0.03), (0.85, 0.05)),
    ((0.05, -0.03), (0.35, -0.12), (0.62, -0.22), (0.80, -0.30)),
    ((0.34, 0.03), (0.40, -0.05), (0.37, -0.13)),
    ((0.60, 0.03), (0.58, -0.08), (0.63, -0.22)),
    ((0.58, -0.08), (0.72, -0.10), (0.86, -0.14)),
    ((0.37, -0.13), (0.46, -0.24), (0.50, -0.37)),
    ((0.74, 0.05), (0.73, -0.04), (0.72, -0.10)),
)


def draw_wing(layer: Image.Image, pose: Pose, insect: Insect, wing: Wing, side: int, rng: Random) -> None:
    """A clear membrane with a sheen, its veins and the strong front edge."""
    sin, cos = math.sin(math.radians(wing.spread)), math.cos(math.radians(wing.spread))

    def place(point: Point) -> Point:
        along, out = point[0] * wing.length, point[1] * wing.length * wing.width
        x, y = wing.hinge[0] - along * cos + out * sin, wing.hinge[1] + along * sin + out * cos
        return pose.at((x, y * side))

    outline = [place(point) for point in smooth(WING_OUTLINE, closed=True)]
    mask = Image.new("L", CANVAS)
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    shimmer, glint = noise(rng, 14, 10), step(0.62, noise(rng, 9, 12), 0.5) * 0.7
    rgb = mix(mix(insect.membrane, (214, 206, 190), shimmer * 0.5), (250, 250, 246), glint)
    cover = np.clip(insect.opacity * (0.55 + 0.5 * shimmer) + 0.35 * glint, 0, 1)
    membrane = picture(np.dstack([rgb, np.asarray(mask) * cover]))
    pen = ImageDraw.Draw(membrane)
    for vein in WING_VEINS:
        pen.line([place(point) for point in smooth(vein)], (*insect.vein, 200), SCALE + 1, joint="curve")
    pen.line([*outline, outline[0]], (*insect.vein, 150), SCALE - 1, joint="curve")
    pen.line(outline[:36], (*insect.vein, 230), SCALE * 2, joint="curve")
    layer.alpha_composite(blur(membrane, 0.4))


def draw_insect(canvas: Image.Image, pose: Pose, insect: Insect, rng: Random) -> None:
    """Legs and feelers, body, wings, over the shadows that they throw."""
    body, wings = empty(), empty()
    for side in (1, -1):
        uneven = 1 + 0.05 * side  # no insect stands quite symmetrically
        for skin, joints in insect.limbs:
            for (x0, y0, r), (x1, y1, _) in pairwise(joints):
                over = 0.8 * r / math.hypot(x1 - x0, y1 - y0)  # pieces overlap at the joints
                dx, dy = (x1 - x0) * over, (y1 - y0) * over
                start, end = ((x0 - dx) * uneven, (y0 - dy) * side), ((x1 + dx) * uneven, (y1 + dy) * side)
                draw_solid(body, pose, Solid(start, end, r, skin, 0.85, 0.28, gloss=0.45))
    for solid in insect.solids:
        (x0, y0), (x1, y1) = solid.start, solid.end
        mirrored = replace(solid, start=(x0, -y0), end=(x1, -y1))
        for one in [solid, mirrored] if y0 + y1 else [solid]:
            draw_solid(body, pose, one)
            if one.fur:
                draw_fur(body, pose, one, one.fur, rng)
    for wing in insect.wings:
        for side in (1, -1):
            draw_wing(wings, pose, insect, wing, side, rng)
    put(canvas, body, (9, 6, 0.75), (3, 2.5, 0.5))
    put(canvas, wings, (9, 5, 0.35))


def bee_bands(t: Array, v: Array) -> Array:
    """Amber segments that end in dark brown, each with a rim of pale hairs; the tip is dark."""
    s = (t + 0.05 * v * v) * 5.2 % 1
    amber = mix((205, 128, 48), (96, 52, 22), np.clip(t * 1.25 - 0.2, 0, 1))
    return mix(mix(amber, (34, 21, 14), step(0.50, s, 0.3)), (188, 160, 112), step(0.90, s, 0.12) * 0.75)


def wasp_bands(t: Array, v: Array) -> Array:
    """Yellow segments that begin in black, with a tooth in the middle and a dot on each side."""
    s = (t + 0.04 * v * v) * 5.6 % 1
    tooth = np.clip(1 - np.abs(v) / 0.30, 0, 1) * 0.38
    dot = (np.hypot((s - 0.58) * 0.85, (np.abs(v) - 0.50) * 1.25) < 0.13) & (t < 0.8)
    return mix((250, 200, 22), (20, 15, 12), np.maximum(1 - step(0.36, s - tooth, 0.07), dot))


def wasp_back(t: Array, v: Array) -> Array:
    """A black back with a yellow collar in front and four spots behind."""
    collar = step(0.78, t + 0.16 * np.abs(v), 0.05) * step(0.25, np.abs(v), 0.1) * (t < 0.93)
    spots = np.minimum(np.hypot((t - 0.24) * 2.0, np.abs(v) - 0.34), np.hypot((t - 0.08) * 2.4, np.abs(v) - 0.35))
    return mix((24, 19, 17), (246, 196, 26), np.maximum(collar, spots < 0.165))


def wasp_face(t: Array, v: Array) -> Array:
    """Yellow in front, black behind."""
    return mix((24, 18, 15), (244, 196, 30), step(0.15, -v + 0.25 * np.cos(t * 19), 0.15))


def petal(t: Array, v: Array) -> Array:
    """Lilac, paler towards the tip, with fine lines and a crease along it."""
    lines = 0.35 * (1 + np.sin(v * 15 + t * 2)) + 0.5 * np.exp(-((v * 6) ** 2))
    return mix(mix((150, 100, 200), (222, 186, 244), np.clip(t * 1.1, 0, 1)), (128, 82, 182), lines * 0.28)


BROWN, STRAW, DUSK = (178, 120, 52), (222, 176, 100), (104, 66, 32)
GOLD, ORANGE = (255, 196, 60), (240, 150, 22)
SHELL, EYE, POLLEN = plain(44, 27, 18), plain(26, 17, 13), plain(240, 160, 30)
HONEYBEE = Insect(
    limbs=[
        (SHELL, [(0.40, 0.03, 0.014), (0.50, 0.07, 0.011), (0.58, 0.13, 0.011), (0.62, 0.20, 0)]),
        (SHELL, [(0.22, 0.08, 0.022), (0.27, 0.22, 0.021), (0.37, 0.28, 0.015), (0.44, 0.28, 0.010), (0.49, 0.30, 0)]),
        (SHELL, [(0.12, 0.10, 0.022), (0.16, 0.26, 0.023), (0.06, 0.36, 0.018), (0.0, 0.41, 0.012), (-0.06, 0.42, 0)]),
        (SHELL, [(0.03, 0.09, 0.024), (-0.1, 0.24, 0.026), (-0.25, 0.28, 0.024), (-0.36, 0.3, 0.015), (-0.4, 0.35, 0)]),
    ],
    solids=[
        Solid((-0.10, 0.265), (-0.26, 0.295), 0.047, POLLEN, gloss=0, fur=Fur(400, 0.014, [GOLD, ORANGE])),
        Solid((0.04, 0), (-0.53, 0), 0.165, bee_bands, 0.84, 0.56, 0.35, fur=Fur(1500, 0.018, [BROWN, STRAW], 0.9, 1)),
        Solid((0.37, -0.125), (0.37, 0.125), 0.078, SHELL),
        Solid((0.31, 0.096), (0.44, 0.088), 0.040, EYE, gloss=0.9),
        Solid((0.375, -0.07), (0.375, 0.07), 0.055, SHELL, gloss=0, fur=Fur(700, 0.026, [BROWN, STRAW, DUSK])),
        Solid((0.28, 0), (-0.02, 0), 0.138, SHELL, gloss=0, fur=Fur(7000, 0.052, [BROWN, STRAW, STRAW, DUSK])),
    ],
    wings=[Wing((0.10, 0.10), 0.44, 0.62, 20), Wing((0.16, 0.10), 0.66, 0.60, 26)],
    membrane=(206, 196, 176), vein=(70, 48, 30), opacity=0.26,
)  # fmt: skip

HORN, AMBER = plain(24, 18, 16), plain(238, 172, 32)
WASP = Insect(
    limbs=[
        (HORN, [(0.44, 0.03, 0.016), (0.50, 0.06, 0.013), (0.575, 0.14, 0.013), (0.63, 0.22, 0.013), (0.67, 0.31, 0)]),
        (HORN, [(0.27, 0.07, 0.022), (0.36, 0.19, 0)]),
        (AMBER, [(0.35, 0.18, 0.020), (0.46, 0.21, 0.014), (0.54, 0.25, 0.010), (0.58, 0.29, 0)]),
        (HORN, [(0.20, 0.08, 0.022), (0.19, 0.24, 0)]),
        (AMBER, [(0.19, 0.23, 0.021), (0.09, 0.36, 0.015), (0.02, 0.44, 0.011), (-0.03, 0.48, 0)]),
        (HORN, [(0.12, 0.07, 0.024), (-0.01, 0.22, 0)]),
        (AMBER, [(0.0, 0.21, 0.022), (-0.19, 0.30, 0.016), (-0.31, 0.38, 0.011), (-0.38, 0.40, 0)]),
    ],
    solids=[
        Solid((0.10, 0), (-0.03, 0), 0.026, HORN, blunt=0.2),
        Solid((0.03, 0), (-0.55, 0), 0.128, wasp_bands, 0.80, 0.68, gloss=0.75),
        Solid((0.42, -0.135), (0.42, 0.135), 0.068, wasp_face, gloss=0.5),
        Solid((0.365, 0.104), (0.485, 0.092), 0.029, EYE, gloss=0.9),
        Solid((0.05, 0), (0.385, 0), 0.118, wasp_back, 1.1, gloss=0.5),
    ],
    wings=[Wing((0.17, 0.085), 0.46, 0.40, 26), Wing((0.22, 0.085), 0.70, 0.40, 33)],
    membrane=(216, 150, 70), vein=(92, 52, 20), opacity=0.44,
)  # fmt: skip


def draw_flower(canvas: Image.Image, pose: Pose, rng: Random) -> None:
    """Two rows of petals around a disc of florets, set like the seeds of a sunflower."""
    for count in (21, 19):
        row = empty()
        for i in rng.permutation(count):
            angle, reach = math.tau * i / count + rng.normal(0, 0.05), rng.uniform(0.86, 1.04)
            x, y = math.cos(angle), math.sin(angle) * 0.92
            one = empty()
            start, end = (x * 0.16, y * 0.16), (x * reach, y * reach)
            draw_solid(one, pose, Solid(start, end, 0.098, petal, 1.7, 0.52, gloss=0.1, relief=0.3))
            put(row, one, (2, 4, 0.5))
        put(canvas, row, (6, 7, 0.6))
    disc = empty()
    draw_solid(disc, pose, Solid((-0.33, 0), (0.33, 0), 0.31, plain(150, 92, 10), gloss=0, relief=0.5))
    for i in range(520, 0, -1):
        far, angle = math.sqrt(i / 520), i * math.pi * (3 - math.sqrt(5))
        x, y = 0.33 * far * math.cos(angle), 0.31 * far * math.sin(angle)
        tone = rng.uniform(0.85, 1.1) * (0.72 + 0.28 * far)
        ripe = plain(236 * tone, 176 * tone, 30 * tone)
        draw_solid(disc, pose, Solid((x, y - 0.015), (x, y + 0.015), 0.0125, ripe, gloss=0.15))
    put(canvas, disc, (4, 5, 0.6))


def meadow(rng: Random) -> Image.Image:
    """Grass, leaves and other flowers, far out of focus."""
    light = step(0.5, noise(rng, 5, 4) * 0.6 + noise(rng, 11, 8) * 0.4, 0.9)
    scene = picture(mix((22, 46, 20), (158, 186, 84), light))
    pen = ImageDraw.Draw(scene, "RGBA")
    colours = [(186, 206, 110), (110, 150, 58), (40, 72, 26), (186, 206, 110), (110, 150, 58), (196, 166, 216)]
    for _ in range(90):
        x, y, r = rng.uniform(0, CANVAS[0]), rng.uniform(0, CANVAS[1]), rng.uniform(8, 24) * SCALE
        colour = colours[int(rng.integers(len(colours)))]
        pen.ellipse((x - r, y - r, x + r, y + r), (*colour, int(rng.uniform(40, 150))))
    return blur(scene, 7).convert("RGBA")


def wood(rng: Random) -> Image.Image:
    """A weathered board: grain that runs across and bends around a knot, cracks, the edge of the next board."""
    y, x = np.mgrid[0 : CANVAS[1], 0 : CANVAS[0]] / CANVAS[1]
    knot = np.exp(-(((x - 1.12) * 0.55) ** 2 + (y - 0.86) ** 2) / 0.12**2)
    bent = y + 0.06 * noise(rng, 4, 3) + 0.012 * noise(rng, 9, 9) + 0.09 * knot
    rings = 0.5 + 0.5 * np.sin(bent * 150 + 6 * noise(rng, 3, 12))
    fibres = (noise(rng, 18, 300) + noise(rng, 45, 520) + noise(rng, 120, 700)) / 3
    rgb = mix((92, 72, 54), (212, 186, 152), np.clip(0.35 * rings + 1.5 * fibres - 0.4, 0, 1))
    rgb = rgb * (0.80 + 0.35 * noise(rng, 5, 4))[..., None]
    cracks = step(0.78, noise(rng, 8, 260), 0.10) * step(0.55, noise(rng, 5, 24), 0.3)
    gap = 1 - step(0.012, np.abs(y - 0.085 - 0.01 * x + 0.004 * noise(rng, 30, 3)), 0.012)
    return picture(mix(mix(rgb, (40, 29, 22), cracks * 0.9), (18, 13, 10), gap)).convert("RGBA")


def finish(canvas: Image.Image, sharp: float, rng: Random) -> Image.Image:
    """What a camera adds: blur beyond `sharp` pixels from the middle, dark corners, grain."""
    canvas = canvas.convert("RGB")
    y, x = np.mgrid[0 : CANVAS[1], 0 : CANVAS[0]] / SCALE
    away = np.hypot(x - SIZE[0] / 2, (y - SIZE[1] / 2) * 1.15)
    for radius, near in ((1.6, sharp), (3.5, sharp * 1.45)):
        canvas = Image.composite(blur(canvas, radius), canvas, picture(step(near, away, sharp * 0.5) * 255))
    small = np.asarray(canvas.resize(SIZE, Image.Resampling.LANCZOS), np.float64)
    v, u = np.mgrid[-1 : 1 : SIZE[1] * 1j, -1 : 1 : SIZE[0] * 1j]
    small = small * (1.12 - 0.17 * (u * u + v * v))[..., None]
    return picture(small + rng.normal(0, 2.2, (SIZE[1], SIZE[0], 1)) + rng.normal(0, 1.2, small.shape))


def bee() -> Image.Image:
    """A honeybee on an aster."""
    rng = np.random.default_rng(7)
    canvas = meadow(rng)
    draw_flower(canvas, Pose(385, 275, 262, -12), rng)
    draw_insect(canvas, Pose(300, 218, 310, 30), HONEYBEE, rng)
    return finish(canvas, 205, rng)


def wasp() -> Image.Image:
    """A wasp on a board."""
    rng = np.random.default_rng(11)
    canvas = wood(rng)
    draw_insect(canvas, Pose(322, 240, 330, -32), WASP, rng)
    return finish(canvas, 215, rng)


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent
    for draw in (bee, wasp):
        draw().save(folder / f"{draw.__name__}.jpg", quality=88, optimize=True)
