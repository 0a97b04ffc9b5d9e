"""Pictures of a room from any pose: colour, depth, and which thing each pixel shows."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from w2v import provenance
from w2v.records import Intrinsics
from w2v.teachers.sim import textures
from w2v.teachers.sim.light import Quality, bake
from w2v.teachers.sim.mesh import FLOAT, Hits, Tracer, dot
from w2v.teachers.sim.shapes import rotate
from w2v.teachers.sim.world import World

_CHUNK = 1 << 16
_CORNERS = ((0.125, 0.625), (0.375, 0.125), (0.625, 0.875), (0.875, 0.375))  # a turned grid
_DITHER = 2.0
_SATURATION = FLOAT(0.86)
_LUMA = np.array([0.3, 0.6, 0.1], FLOAT)


class Picture(NamedTuple):
    """A frame (H, W, 3) uint8 sRGB, its z-depth (H, W) float32 meters, its ids (H, W) uint16."""

    frame: np.ndarray
    depth: np.ndarray
    mask: np.ndarray


class Rays(NamedTuple):
    """One ray to a pixel: unit directions (N, 3) in the world, and z-depth to the meter (N,)."""

    directions: np.ndarray
    forward: np.ndarray


class _Surface(NamedTuple):
    """What was met: material, normal towards the viewer, its cosine, colour, baked light."""

    material: np.ndarray
    normal: np.ndarray
    cosine: np.ndarray
    albedo: np.ndarray
    light: np.ndarray


class _Shaded(NamedTuple):
    color: np.ndarray
    distance: np.ndarray
    face: np.ndarray


class _Paint:
    """All textures of a room with their halvings in one long array."""

    def __init__(self, world: World) -> None:
        texels, offset = [], 0
        materials = world.mesh.materials
        self.first = np.zeros((len(materials), 11), np.int32)
        self.size = np.zeros(len(materials), np.int32)
        self.scale = np.array([m.scale for m in materials], FLOAT)
        for k, m in enumerate(materials):
            levels = textures.pyramid(textures.paint(m.kind, m.color, m.second, m.variant))
            self.size[k] = len(levels[0])
            for n, level in enumerate(levels):
                self.first[k, n:] = offset
                texels.append(np.minimum(level.reshape(-1, 3), FLOAT(0.85)))
                offset += len(texels[-1])
        self.texels = np.concatenate(texels)
        self.mean = self.texels[self.first[:, -1]]

    def color(self, material: np.ndarray, uv: np.ndarray, footprint: np.ndarray) -> np.ndarray:
        """Return the (N, 3) linear colour of materials at uv, over ``footprint`` meters each."""
        fine = footprint / self.scale[material] * self.size[material]
        level = np.clip(np.log2(np.maximum(fine, FLOAT(1e-6))), 0, 10).astype(np.int32)
        size = np.maximum(self.size[material] >> level, 1)
        first, wrap = self.first[material, level], size - 1
        x = (uv[:, 0] - np.floor(uv[:, 0])) * size - FLOAT(0.5)
        y = (1 - (uv[:, 1] - np.floor(uv[:, 1]))) * size - FLOAT(0.5)
        i, j = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
        fx, fy = (x - i).astype(FLOAT)[:, None], (y - j).astype(FLOAT)[:, None]
        left, right = i & wrap, (i + 1) & wrap
        above, below = first + (j & wrap) * size, first + ((j + 1) & wrap) * size
        top = self.texels[above + left] * (1 - fx) + self.texels[above + right] * fx
        low = self.texels[below + left] * (1 - fx) + self.texels[below + right] * fx
        mixed: np.ndarray = top * (1 - fy) + low * fy
        return mixed


def rays(camera: Intrinsics, pose: np.ndarray, x: np.ndarray, y: np.ndarray) -> Rays:
    """Return the rays of a camera through pixel coordinates x, y (N,)."""
    way, forward = _straight(camera, x, y)
    return Rays(rotate(way, pose[:3, :3].astype(FLOAT)), forward)


def all_rays(camera: Intrinsics, pose: np.ndarray) -> Rays:
    """Return the rays through the centres of all pixels, row by row."""
    way, forward = _frame(camera)
    return Rays(rotate(way, pose[:3, :3].astype(FLOAT)), forward)


def _straight(camera: Intrinsics, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return unit directions (N, 3) and z-depth to the meter (N,) in the camera's own axes."""
    way = np.stack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, np.ones_like(x)], 1)
    forward = 1 / np.sqrt(dot(way, way))
    return (way * forward[:, None]).astype(FLOAT), forward.astype(FLOAT)


@functools.lru_cache(maxsize=4)
def _frame(camera: Intrinsics) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0 : camera.height, 0 : camera.width].reshape(2, -1) + 0.5
    return _straight(camera, x, y)


class Renderer:
    """A room made ready to be looked at: rays, textures, baked light."""

    def __init__(self, world: World, tracer: Tracer, quality: Quality) -> None:
        self.world, self.tracer, self.quality = world, tracer, quality
        self._mesh = world.mesh
        materials = world.mesh.materials
        clear = np.array([m.clear for m in materials])[world.mesh.material]
        self._solid_faces = np.flatnonzero(~clear)
        self.solid = Tracer(world.mesh.corners[self._solid_faces])
        self._paint = _Paint(world)
        self._rough = np.array([m.roughness for m in materials], FLOAT)
        self._specular = np.array([m.specular for m in materials], FLOAT)
        self._emission = np.array([m.emission for m in materials], FLOAT)
        self._pane = np.array([m.outdoors for m in materials])
        self._view = _landscape(world.mode, world.seed % 3) * (world.sky.color * 0.45).astype(FLOAT)
        self._sun = world.sky.sun.astype(FLOAT)
        self._to_sun = world.sky.to_sun.astype(FLOAT)
        self._baked = bake(world, self.solid, self._solid_faces, self._paint.mean, quality)

    def picture(self, camera: Intrinsics, pose: np.ndarray) -> Picture:
        """Look from a (4, 4) camera-to-world pose."""
        height, width = camera.height, camera.width
        beams = all_rays(camera, pose)
        shaded = self._shade_all(beams.directions, pose, camera)
        met = shaded.face >= 0
        depth = np.where(met, shaded.distance * beams.forward, 0).astype(FLOAT)
        mask = np.where(met, self._mesh.thing[shaded.face], 0).astype(np.uint16)
        color = shaded.color
        if self.quality.smooth:
            self._smooth(color, shaded.face, camera, pose)
        frame = _developed(color, _grain(pose))
        shape = (height, width)
        return Picture(frame.reshape(*shape, 3), depth.reshape(shape), mask.reshape(shape))

    def _shade_all(self, directions: np.ndarray, pose: np.ndarray, camera: Intrinsics) -> _Shaded:
        eye, pixel = pose[:3, 3].astype(FLOAT), FLOAT(1 / camera.fx)
        parts = [
            self._shade(eye, directions[a : a + _CHUNK], pixel)
            for a in range(0, len(directions), _CHUNK)
        ]
        return _Shaded(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def _smooth(
        self, color: np.ndarray, face: np.ndarray, camera: Intrinsics, pose: np.ndarray
    ) -> None:
        """Replace the colour of edge pixels by the mean of four samples, in place."""
        shape = (camera.height, camera.width)
        patch = np.where(face >= 0, self._mesh.patch[face], -1).reshape(shape)
        light = np.einsum("ij,j->i", color, _LUMA).reshape(shape)
        edge = np.flatnonzero(_edges(patch, light))
        if not len(edge):
            return
        y, x = np.divmod(edge, camera.width)
        xs = np.concatenate([x + dx for dx, _ in _CORNERS])
        ys = np.concatenate([y + dy for _, dy in _CORNERS])
        beams = rays(camera, pose, xs, ys)
        made = self._shade_all(beams.directions, pose, camera).color
        color[edge] = made.reshape(4, len(edge), 3).mean(0)

    def _surface(
        self, face: np.ndarray, uv: tuple[np.ndarray, np.ndarray], way: np.ndarray, wide: np.ndarray
    ) -> _Surface:
        """Look up what rays met; ``wide`` is the width of a pixel there, in meters."""
        u, v = uv[0][:, None], uv[1][:, None]
        corner = self._mesh.shading[face]
        data = corner[:, 0] * (1 - u - v) + corner[:, 1] * u + corner[:, 2] * v
        normal = data[:, 4:7]
        normal /= np.sqrt(dot(normal, normal) + FLOAT(1e-12))[:, None]
        cosine = -dot(normal, way)
        side = np.where(cosine < 0, FLOAT(-1), FLOAT(1))
        normal, cosine = normal * side[:, None], cosine * side
        material = self._mesh.material[face]
        # The square root keeps rugs and boards crisp at grazing angles; the cosine would blur.
        slant = np.sqrt(np.maximum(cosine, FLOAT(0.08)))
        albedo = self._paint.color(material, data[:, :2], wide / slant)
        patch = self._mesh.patch[face]
        light = self._baked.atlas.blend(self._baked.light, patch, data[:, 2], data[:, 3])
        return _Surface(material, normal, cosine, albedo, light)

    def _shade(self, eye: np.ndarray, way: np.ndarray, pixel: np.floating) -> _Shaded:
        """Return tone-mapped linear colour, distance and face of each ray from the eye."""
        hits = self.tracer.closest(np.broadcast_to(eye, way.shape), way)
        color, met = self._outside(hits, way)
        ray, far = way[met], hits.distance[met]
        seen = self._surface(hits.face[met], (hits.u[met], hits.v[met]), ray, far * pixel)
        at = eye + ray * far[:, None] + seen.normal * FLOAT(3e-3)
        sun = self._sharpened(seen, at) if self.quality.sharp else seen.light[:, 3]
        made = self._lit(seen, sun)
        if self.quality.glossy:
            self._reflect(made, seen, at, ray, far, pixel)
        color[met] = made
        return _Shaded(_filmic(color * FLOAT(self._baked.exposure)), hits.distance, hits.face)

    def _lit(self, seen: _Surface, sun: np.ndarray) -> np.ndarray:
        falling = seen.light[:, :3] + sun[:, None] * self._sun
        glow = self._emission[seen.material][:, None]
        lit: np.ndarray = seen.albedo * (falling * FLOAT(1 / np.pi) + glow)
        return lit

    def _sharpened(self, seen: _Surface, at: np.ndarray) -> np.ndarray:
        """Return the sun's share with a ray of its own where the baked one is in between."""
        sun = seen.light[:, 3].copy()
        if not self._sun.any():
            return sun
        cosine = np.einsum("ij,j->i", seen.normal, self._to_sun)
        between = np.flatnonzero((sun > 0.02) & (sun < 0.98 * cosine))
        if len(between):
            way = np.broadcast_to(self._to_sun, (len(between), 3))
            dark = self.solid.blocked(at[between], way, np.full(len(between), 1e3, FLOAT))
            sun[between] = cosine[between] * ~dark
        return sun

    def _reflect(
        self,
        color: np.ndarray,
        seen: _Surface,
        at: np.ndarray,
        ray: np.ndarray,
        far: np.ndarray,
        pixel: np.floating,
    ) -> None:
        """Add what glossy surfaces mirror, in place (Schlick's approximation)."""
        rough, base = self._rough[seen.material], self._specular[seen.material]
        gloss = (1 - rough) * (1 - rough) * (rough < 0.5)
        share = (base + (1 - base) * (1 - np.minimum(seen.cosine, 1)) ** 5) * gloss
        shiny = np.flatnonzero(share > 0.015)
        if not len(shiny):
            return
        way = ray[shiny] + 2 * seen.cosine[shiny][:, None] * seen.normal[shiny]
        hits = self.tracer.closest(at[shiny], way)
        mirrored, met = self._outside(hits, way)
        wide = (far[shiny][met] + hits.distance[met]) * pixel * 4
        second = self._surface(hits.face[met], (hits.u[met], hits.v[met]), way[met], wide)
        mirrored[met] = self._lit(second, second.light[:, 3])
        color[shiny] += share[shiny][:, None] * mirrored

    def _outside(self, hits: Hits, way: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return radiance (N, 3) where rays leave by a window, and which rays (M,) do not."""
        out = (hits.face < 0) | self._pane[self._mesh.material[hits.face]]
        color = np.zeros((len(way), 3), FLOAT)
        gone = np.flatnonzero(out)
        if len(gone):
            color[gone] = _panorama(self._view, way[gone])
        return color, np.flatnonzero(~out)


def _panorama(view: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Look directions (N, 3) up in a panorama that covers 50 degrees up and down."""
    height, width = view.shape[:2]
    up = np.arctan2(-way[:, 1], np.sqrt(way[:, 0] ** 2 + way[:, 2] ** 2)) / np.radians(100)
    y = np.clip((FLOAT(0.5) - up) * height - FLOAT(0.5), 0, height - 1.001)
    x = (np.arctan2(way[:, 0], way[:, 2]) / (2 * np.pi) + 0.5) * width - 0.5
    i, j = np.floor(y).astype(np.int32), np.floor(x).astype(np.int32)
    fy, fx = (y - i).astype(FLOAT)[:, None], (x - j).astype(FLOAT)[:, None]
    left, right = j % width, (j + 1) % width
    top = view[i, left] * (1 - fx) + view[i, right] * fx
    low = view[i + 1, left] * (1 - fx) + view[i + 1, right] * fx
    mixed: np.ndarray = top * (1 - fy) + low * fy
    return mixed


@functools.lru_cache(maxsize=4)
def _landscape(mode: str, variant: int) -> np.ndarray:
    """Paint what is outside as a (256, 1024, 3) float32 panorama, where the sky is about 1."""
    rng = np.random.default_rng(provenance.seed_of("landscape", mode, variant))
    height, width = 256, 1024
    up = (0.5 - (np.arange(height) + 0.5) / height)[:, None] * 100
    view = np.ones((height, width, 1)) * (0.9 - 0.3 * np.clip(up / 40, 0, 1)[..., None])
    view = view * np.ones(3)
    grain = textures.noise(rng, 512, 1.2)[:height]
    if mode != "evening":
        cloud = np.clip(textures.noise(rng, 512, 2.4)[:height] * 2.4 - 1.1, 0, 1)
        share = np.tile(cloud, 2) * np.clip(up / 12, 0, 1)
        view += (1.05 - view) * share[..., None]
    lines = textures.noise(rng, 512, 3.2)
    for k, shade in enumerate(((0.36, 0.44, 0.46), (0.24, 0.33, 0.22), (0.16, 0.24, 0.11))):
        ridge = np.tile(6.0 - 5.5 * k + 20 * (lines[k * 97] - 0.5) + 2 * (grain[k] - 0.5), 2)
        land = np.array(shade) * (0.75 + 0.5 * np.tile(grain, 2))[..., None] * 0.7
        view = np.where((up < ridge)[..., None], land, view)
    return view.astype(FLOAT)


def _edges(patch: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Return (H, W) bool where a pixel differs from its neighbour enough to look jagged."""
    edge = np.zeros(patch.shape, bool)
    for axis in (0, 1):
        step = np.abs(np.diff(light, axis=axis))
        jump = (np.diff(patch, axis=axis) != 0) & (step > 0.015) | (step > 0.10)
        after = np.moveaxis(edge, axis, 0)
        jump = np.moveaxis(jump, axis, 0)
        after[1:] |= jump
        after[:-1] |= jump
    return edge


def _filmic(x: np.ndarray) -> np.ndarray:
    """Map radiance to 0..1 with a soft shoulder (ACES fit of K. Narkowicz, 2015)."""
    mapped = np.clip(x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14), 0, 1)
    gray = np.einsum("ij,j->i", mapped, _LUMA)[
        :, None
    ]  # the curve makes colours gaudy: tone them down
    return np.asarray(gray + _SATURATION * (mapped - gray), FLOAT)


def _grain(pose: np.ndarray) -> np.random.Generator:
    """Return the noise of a picture: the same for a pose, whatever was drawn before."""
    key = (np.round(pose, 9) + 0.0).tobytes().hex()
    return np.random.default_rng(provenance.seed_of("grain", key))


def _developed(color: np.ndarray, grain: np.random.Generator) -> np.ndarray:
    """Return (N, 3) uint8 sRGB of linear colour, with a little noise against banding."""
    curve = 1.055 * np.maximum(color, FLOAT(0.0031)) ** FLOAT(1 / 2.4) - 0.055
    srgb = np.where(color > 0.0031, curve, 12.92 * color) * 255
    noise = grain.random(color.shape, FLOAT) + grain.random(color.shape, FLOAT) - 1
    return np.clip(srgb + noise * FLOAT(_DITHER) + FLOAT(0.5), 0, 255).astype(np.uint8)
