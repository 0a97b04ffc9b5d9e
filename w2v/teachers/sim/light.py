"""Baked light: how much falls on every spot of a room, worked out once and kept.

Direct light of window, lamps and sun is sampled with shadow rays at a fine grid of texels.
Light that has bounced is gathered at a coarser grid, where it varies slowly, with more rays to
the texel: few rays at many texels leave plain walls mottled. Windows and lamps are sampled as
light sources only and give nothing to the gathering, which would else be blotchy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from w2v.teachers.sim.mesh import FLOAT, Grid, Hits, Mesh, Tracer, arc, dot
from w2v.teachers.sim.world import Sky, Source, World

_GOLDEN = 0.618034
_CHUNK = 1 << 15


@dataclass(frozen=True)
class Quality:
    """How much work goes into light and pictures.

    Args:
        texel: Spacing of direct light, meters.
        coarse: Spacing of bounced light, meters.
        shadow_rays: Shadow rays to each light source.
        spot_rays: Shadow rays to each cell of what the sun shines on.
        first: Rays that gather the first bounce.
        second: Rays that gather the second bounce.
        smooth: Take four more samples at edges.
        glossy: Draw reflections.
        sharp: Draw the edge of sun patches to the pixel.
    """

    texel: float
    coarse: float
    shadow_rays: int
    spot_rays: int
    first: int
    second: int
    smooth: bool
    glossy: bool
    sharp: bool


FULL = Quality(0.065, 0.13, 8, 2, 6, 48, smooth=True, glossy=True, sharp=True)
FAST = Quality(0.12, 0.24, 4, 1, 4, 20, smooth=False, glossy=False, sharp=True)


@dataclass(frozen=True)
class Atlas:
    """Texels on all patches: those of patch p are ``first[p]`` onwards, row by row.

    Args:
        first: (P,) int32.
        columns: (P,) int32, texels along s.
        rows: (P,) int32, texels along t.
        points: (L, 3) float32, meters.
        normals: (L, 3) float32, unit.
        area: (P,) float32, square meters to the texel.
        jitter: (L, 2) float32, offsets in 0..1 for the rays of a texel. Being spread evenly over
            any few neighbours, they leave noise that all but vanishes in smoothing (the R2
            lattice of M. Roberts, 2018, as a dither mask).
    """

    first: np.ndarray
    columns: np.ndarray
    rows: np.ndarray
    points: np.ndarray
    normals: np.ndarray
    area: np.ndarray
    jitter: np.ndarray

    @property
    def patch(self) -> np.ndarray:
        """The (L,) patch of each texel."""
        return np.repeat(np.arange(len(self.first)), self.columns * self.rows)

    def nearest(self, patch: np.ndarray, s: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Return the texel nearest to each place."""
        i = (s * (self.columns[patch] - 1) + FLOAT(0.5)).astype(np.int32)
        j = (t * (self.rows[patch] - 1) + FLOAT(0.5)).astype(np.int32)
        texel: np.ndarray = self.first[patch] + i * self.rows[patch] + j
        return texel

    def blend(
        self, values: np.ndarray, patch: np.ndarray, s: np.ndarray, t: np.ndarray
    ) -> np.ndarray:
        """Return (N, C) values between the four texels about each place."""
        columns, rows = self.columns[patch], self.rows[patch]
        x, y = s * (columns - 1), t * (rows - 1)
        i = np.clip(x.astype(np.int32), 0, columns - 2)
        j = np.clip(y.astype(np.int32), 0, rows - 2)
        fx, fy = (x - i).astype(FLOAT)[:, None], (y - j).astype(FLOAT)[:, None]
        o = self.first[patch] + i * rows + j
        low = values[o] * (1 - fy) + values[o + 1] * fy
        high = values[o + rows] * (1 - fy) + values[o + rows + 1] * fy
        mixed: np.ndarray = low * (1 - fx) + high * fx
        return mixed

    def smoothed(self, values: np.ndarray, reach: int) -> np.ndarray:
        """Return (L, C) values averaged with neighbours up to ``reach`` off on the same patch."""
        patch = self.patch
        place = np.arange(len(patch)) - self.first[patch]
        i, j = np.divmod(place, self.rows[patch])
        for at, size, stride in ((i, self.columns, self.rows[patch]), (j, self.rows, 1)):
            total, weight = values.copy(), np.ones((len(values), 1), FLOAT)
            for k in (k for k in range(-reach, reach + 1) if k):
                share = FLOAT(np.exp(-2.0 * k * k / (reach * reach)))
                inside = ((at + k >= 0) & (at + k < size[patch]))[:, None]
                source = np.clip(np.arange(len(values)) + k * stride, 0, len(values) - 1)
                total += np.where(inside, values[source], 0) * share
                weight += inside * share
            values = total / weight
        return values


def _texels(grid: Grid, spacing: float) -> tuple[np.ndarray, ...]:
    """Return columns, rows (P,), points, normals (L, 3) and area (P,) of a grid's texels."""
    s, t, wide, tall = arc(grid.points)
    columns = np.clip(np.ceil(wide / spacing) + 1, grid.texels[:, 0], 256).astype(np.int64)
    rows = np.clip(np.ceil(tall / spacing) + 1, grid.texels[:, 1], 256).astype(np.int64)
    patch = np.repeat(np.arange(len(columns)), columns * rows)
    first = np.concatenate([[0], np.cumsum(columns * rows)[:-1]])
    i, j = np.divmod(np.arange(len(patch)) - first[patch], rows[patch])
    cells = []
    for at, size, lines, length in ((i, columns, s, wide), (j, rows, t, tall)):
        # A texel on the very rim would sit inside the neighbouring part, in the dark.
        rim = np.minimum(0.25, 0.02 / np.maximum(length, 1e-6))[patch]
        share = np.clip(at / (size[patch] - 1), rim, 1 - rim)
        of = lines[patch]
        cell = np.clip((of <= share[:, None]).sum(1) - 1, 0, lines.shape[1] - 2)
        low, high = of[np.arange(len(of)), cell], of[np.arange(len(of)), cell + 1]
        cells.append((cell, ((share - low) / np.maximum(high - low, 1e-9))[:, None]))
    (a, fa), (b, fb) = cells
    both = np.concatenate([grid.points, grid.normals], -1)
    near = both[patch, a, b] * (1 - fb) + both[patch, a, b + 1] * fb
    far = both[patch, a + 1, b] * (1 - fb) + both[patch, a + 1, b + 1] * fb
    found = near * (1 - fa) + far * fa
    normals = found[:, 3:] / (np.sqrt((found[:, 3:] ** 2).sum(1, keepdims=True)) + 1e-9)
    return columns, rows, found[:, :3], normals, wide * tall / (columns * rows)


def atlas(mesh: Mesh, spacing: float) -> Atlas:
    """Lay texels over all patches, ``spacing`` meters apart and at least two each way."""
    made = [
        np.concatenate(part)
        for part in zip(*(_texels(g, spacing) for g in mesh.grids), strict=True)
    ]
    columns, rows = made[0].astype(np.int32), made[1].astype(np.int32)
    first = np.concatenate([[0], np.cumsum(columns * rows)[:-1]]).astype(np.int32)
    points, normals, area = (part.astype(FLOAT) for part in made[2:])
    patch = np.repeat(np.arange(len(first)), columns * rows)
    i, j = np.divmod(np.arange(len(patch)) - first[patch], rows[patch])
    one = 0.7548776662 * i + 0.5698402910 * j + 0.618034 * patch
    two = 0.3247179572 * i + 0.8191725134 * j + 0.381966 * patch
    jitter = (np.stack([one, two], 1) % 1.0).astype(FLOAT)
    return Atlas(first, columns, rows, points, normals, area, jitter)


@dataclass(frozen=True)
class Baked:
    """The light of a room.

    Args:
        atlas: Where it was taken.
        light: (L, 4) float32: irradiance red, green, blue of all but the sun; then the share of
            the sun that falls on the texel, which is its cosine where the sun is in full view.
        exposure: What radiance is multiplied by before it is shown; one for the whole room, so
            that clips do not flicker.
    """

    atlas: Atlas
    light: np.ndarray
    exposure: float


def bake(
    world: World, solid: Tracer, faces: np.ndarray, albedo: np.ndarray, quality: Quality
) -> Baked:
    """Work out the light of a room.

    Args:
        world: The room.
        solid: Casts rays at all that stops light.
        faces: (G,) which face of the mesh each face of ``solid`` is.
        albedo: (M, 3) float32 mean colour of each material, linear.
        quality: How much work to put in.
    """
    rng = np.random.default_rng(world.seed ^ 0xBA4E)
    fine, coarse = atlas(world.mesh, quality.texel), atlas(world.mesh, quality.coarse)
    sun, mesh = world.sky.sun.astype(FLOAT), world.mesh
    shine = (
        _sunshine(world.sky, fine, solid, rng) if sun.any() else np.zeros(len(fine.points), FLOAT)
    )

    def cast(sources: Sequence[Source], at: Atlas, rays: int) -> np.ndarray:
        light = np.zeros((len(at.points), 3), FLOAT)
        for source in sources:
            light += _direct(source, at, solid, rays)
        return light

    direct = cast(world.sources, fine, quality.shadow_rays)
    tint = np.zeros((len(fine.first), 3), FLOAT)
    tint[mesh.patch] = albedo[mesh.material]
    spots = cast(_sun_spots(fine, shine, tint, sun), coarse, quality.spot_rays)
    spots = _resampled(coarse.smoothed(spots, 1), coarse, fine)
    given = np.array([0.0 if m.emission > 2 else m.emission for m in mesh.materials], FLOAT)
    emitted = (albedo * given[:, None])[mesh.material[faces]]
    paint = albedo[mesh.material[faces]] * FLOAT(1 / np.pi)

    def bounce(irradiance: np.ndarray, rays: int) -> np.ndarray:
        def radiance(hits: Hits) -> np.ndarray:
            met = hits.face >= 0
            face = np.where(met, hits.face, 0)
            patch, s, t = _where(mesh, faces[face], hits.u, hits.v)
            light = irradiance[fine.nearest(patch, s, t)]
            seen: np.ndarray = (paint[face] * light + emitted[face]) * met[:, None]
            return seen

        gathered = _gather(coarse, solid, rays, radiance)
        return _resampled(_calmed(gathered, coarse, 2, round(0.26 / quality.coarse)), coarse, fine)

    once = bounce(direct, quality.first) + spots
    twice = bounce(direct + once, quality.second) + spots
    light = np.concatenate([_calmed(direct, fine, 1, 2) + twice, shine[:, None]], 1)
    exposure = _exposure(fine, light[:, :3] + light[:, 3:] * sun, tint)
    return Baked(fine, np.ascontiguousarray(light), exposure)


def _where(
    mesh: Mesh, face: np.ndarray, u: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the patch of each hit and its place s, t there."""
    st = mesh.shading[face, :, 2:4]
    place = st[:, 0] * (1 - u - v)[:, None] + st[:, 1] * u[:, None] + st[:, 2] * v[:, None]
    return mesh.patch[face], place[:, 0], place[:, 1]


def _exposure(at: Atlas, falling: np.ndarray, tint: np.ndarray) -> float:
    """Return the exposure that shows the room's geometric mean radiance as a middle grey.

    Args:
        at: The texels.
        falling: (L, 3) irradiance.
        tint: (P, 3) mean colour of each patch.
    """
    radiance = (falling * tint[at.patch]).mean(1) / np.pi
    share = at.area[at.patch]
    mean = np.exp((np.log(radiance + 1e-4) * share).sum() / share.sum())
    return float(0.07 / mean)


def _direct(source: Source, at: Atlas, solid: Tracer, rays: int) -> np.ndarray:
    """Return (L, 3) irradiance from one source, by stratified shadow rays."""
    start = at.points + at.normals * FLOAT(2e-3)
    jitter, total = at.jitter, np.zeros(len(start), FLOAT)
    center, across = source.center.astype(FLOAT), source.across.astype(FLOAT)
    for k in range(rays):
        one = (k + jitter[:, :1]) / FLOAT(rays) * 2 - 1
        two = (FLOAT(k * _GOLDEN) + jitter[:, 1:]) % 1 * 2 - 1
        way = center + one * across[0] + two * across[1] - start
        squared = dot(way, way)
        distance = np.sqrt(squared)
        way /= distance[:, None]
        share = np.maximum(dot(way, at.normals), 0) / np.maximum(squared, FLOAT(0.02))
        if source.normal is not None:
            share *= -(np.einsum("ij,j->i", way, source.normal.astype(FLOAT)))
        lit = np.flatnonzero(share > 1e-4)
        dark = solid.blocked(start[lit], way[lit], distance[lit] - FLOAT(0.03))
        total[lit] += share[lit] * ~dark
    made: np.ndarray = (total / FLOAT(rays))[:, None] * source.power.astype(FLOAT)
    return made


def _sunshine(sky: Sky, at: Atlas, solid: Tracer, rng: np.random.Generator) -> np.ndarray:
    """Return (L,) the share of the sun that falls on each texel, its disc about half a degree."""
    to_sun = sky.to_sun.astype(FLOAT)
    cosine = np.einsum("ij,j->i", at.normals, to_sun)
    faced = np.flatnonzero(cosine > 0)
    start, share = at.points[faced] + at.normals[faced] * FLOAT(2e-3), np.zeros(len(cosine), FLOAT)
    reach = np.full(len(faced), 1e3, FLOAT)
    for _ in range(4):
        offset = (rng.random((len(faced), 3)).astype(FLOAT) - FLOAT(0.5)) * FLOAT(0.012)
        share[faced] += FLOAT(0.25) * cosine[faced] * ~solid.blocked(start, to_sun + offset, reach)
    return share


def _sun_spots(at: Atlas, shine: np.ndarray, tint: np.ndarray, sun: np.ndarray) -> list[Source]:
    """Return what the sun shines on as light sources, one for each half-meter cell.

    A patch of sun is small and very bright: rays that look for it at random would leave the
    walls blotchy, so rays are sent to it instead.
    """
    lit = np.flatnonzero(shine > 0.02)
    patch = at.patch[lit]
    flux = shine[lit] * at.area[patch]
    facing = np.argmax(np.abs(at.normals[lit]), 1)
    side = np.take_along_axis(at.normals[lit], facing[:, None], 1)[:, 0] > 0
    place = np.floor(at.points[lit] / 0.5).astype(np.int64) + 512
    cells = ((place[:, 0] << 40) + (place[:, 1] << 26) + (place[:, 2] << 12)) + facing * 2 + side
    found = []
    for cell in np.unique(cells):
        here = np.flatnonzero(cells == cell)
        total = float(flux[here].sum())
        if total < 0.004:
            continue
        share = (flux[here] / total)[:, None]
        center = (at.points[lit[here]] * share).sum(0)
        normal = (at.normals[lit[here]] * share).sum(0)
        normal /= np.sqrt((normal * normal).sum())
        half = FLOAT(min(0.25, 0.5 * total**0.5))
        across = np.concatenate(_basis(normal[None])) * half
        color = (tint[patch[here]] * share).sum(0) * sun * FLOAT(total / np.pi)
        found.append(Source(center + normal * FLOAT(0.01), across, color, normal))
    return found


def _calmed(values: np.ndarray, at: Atlas, little: int, much: int) -> np.ndarray:
    """Return light without its noise: smoothed a little, and more on walls than on small parts."""
    calm = at.smoothed(values, little)
    large = (at.area * at.columns * at.rows > 2.0)[at.patch]
    return np.where(large[:, None], at.smoothed(calm, much), calm)


def _basis(normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two (N, 3) directions at right angles to each normal (Duff et al. 2017)."""
    x, y, z = normals.T
    sign = np.where(z >= 0, 1, -1).astype(FLOAT)
    a = -1 / (sign + z)
    b = x * y * a
    one = np.stack([1 + sign * x * x * a, sign * b, -sign * x], 1)
    return one, np.stack([b, sign + y * y * a, -y], 1)


def _gather(
    at: Atlas, solid: Tracer, rays: int, radiance: Callable[[Hits], np.ndarray]
) -> np.ndarray:
    """Return (L, 3) irradiance from all round, by cosine-weighted rays."""
    made, offsets = np.empty((len(at.points), 3), FLOAT), at.jitter
    for a in range(0, len(made), _CHUNK):
        part = slice(a, a + _CHUNK)
        normals = at.normals[part]
        start, (one, two) = at.points[part] + normals * FLOAT(2e-3), _basis(normals)
        jitter = offsets[part]
        total = np.zeros((len(start), 3), FLOAT)
        for k in range(rays):
            out = (k + jitter[:, 0]) / FLOAT(rays)
            angle = (FLOAT(k * _GOLDEN) + jitter[:, 1]) % 1 * FLOAT(2 * np.pi)
            r, up = np.sqrt(out), np.sqrt(np.maximum(0, 1 - out))
            way = one * (r * np.cos(angle))[:, None] + two * (r * np.sin(angle))[:, None]
            total += radiance(solid.closest(start, way + normals * up[:, None]))
        made[part] = total * FLOAT(np.pi / rays)
    return made


def _resampled(values: np.ndarray, source: Atlas, target: Atlas) -> np.ndarray:
    """Return values of one atlas at the texels of another."""
    patch = target.patch
    i, j = np.divmod(np.arange(len(patch)) - target.first[patch], target.rows[patch])
    s, t = i / (target.columns[patch] - 1), j / (target.rows[patch] - 1)
    return source.blend(values, patch, s.astype(FLOAT), t.astype(FLOAT))
