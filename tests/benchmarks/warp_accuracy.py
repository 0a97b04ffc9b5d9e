"""How near the depth warp comes to real photographs: each picture warped to its successor's pose.

    python tests/benchmarks/warp_accuracy.py FOLDER --depth-intrinsics 585,585,320,240 \
        --intrinsics 525,525,320,240

FOLDER is any RGB-D layout that ``w2v scenes`` reads, with poses. Each picture is warped by the
true relative pose and compared with the real one on the pixels that the warp vouches for, beside
the textbook warp (z-buffer of one point a pixel, one look-up back) and two controls: the same
move with its rotation inverted, and no move at all. PSNR is after one gain per colour channel,
fitted per pair because cameras expose anew for every picture; the plain figure is given too.
Prints a table, and as its last line the medians as JSON.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np

from w2v import geometry, images, paths, rgbd
from w2v.teachers.depthwarp import TOLERANCE, Photo

COLUMNS = (
    ("degrees", "turn between the two pictures"),
    ("meters", "distance between them"),
    ("depth", "share of the picture with depth"),
    ("coverage", "share of the target that the warp vouches for"),
    ("psnr", "dB there, after the gain"),
    ("plain", "dB there, before the gain"),
    ("gain", "mean of the three gains"),
    ("textbook", "dB of the textbook warp where it vouches, after the gain"),
    ("text_cov", "its coverage"),
    ("inverted", "dB with the rotation inverted, after the gain"),
    ("still", "dB without any move, after the gain"),
)


def main():
    """Read the folder, measure neighbouring pairs, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--intrinsics", help="fx,fy,cx,cy of the colour camera")
    parser.add_argument("--depth-intrinsics", help="fx,fy,cx,cy of the depth camera, if another")
    options = parser.parse_args()
    shots = list(load(options.folder, options.intrinsics, options.depth_intrinsics))
    rows = [measure(one, two) for one, two in zip(shots, shots[1:], strict=False)]
    names = [name for name, _ in COLUMNS]
    for name, meaning in COLUMNS:
        print(f"# {name}: {meaning}")
    print(" ".join(f"{name:>9}" for name in names))
    for row in rows:
        print(" ".join(f"{row[name]:9.3f}" for name in names))
    medians = {name: round(float(np.median([row[name] for row in rows])), 3) for name in names}
    print(json.dumps({"pairs": len(rows), "medians": medians}))


def load(folder, intrinsics, depth_intrinsics):
    """Yield (Photo, pose, depth) of each picture of a folder that has all three."""

    def drop(reason, where):
        print(f"# dropped {where}: {reason}")

    for scene in rgbd.find_scenes(folder, folder, drop=drop, intrinsics=intrinsics):
        image = images.load(paths.resolve(folder, scene.image))
        if depth_intrinsics:
            fx, fy, cx, cy = map(float, depth_intrinsics.split(","))
            height, width = image.shape[:2]
            camera = dict(width=width, height=height, fx=fx, fy=fy, cx=cx, cy=cy)
            scene = dataclasses.replace(scene, meta={"depth_camera": camera})
        depth = rgbd.depth_of(scene, scene.intrinsics, folder)
        yield Photo(image, depth, scene.intrinsics), np.array(scene.pose)


def measure(one, two):
    """Return the figures of one pair."""
    (photo, pose), (target, target_pose) = one, two
    move = np.linalg.inv(pose) @ target_pose
    inverted = move.copy()
    inverted[:3, :3] = move[:3, :3].T
    view, wrong = photo.seen_from(move), photo.seen_from(inverted)
    frame, valid = textbook(photo, move)
    known = photo.measured > 0
    psnr, plain, gain = compare(view.image, target.image, view.valid)
    return {
        "degrees": float(np.degrees(np.arccos(np.clip((np.trace(move[:3, :3]) - 1) / 2, -1, 1)))),
        "meters": float(np.linalg.norm(move[:3, 3])),
        "depth": float(known.mean()),
        "coverage": view.coverage,
        "psnr": psnr,
        "plain": plain,
        "gain": gain,
        "textbook": compare(frame, target.image, valid)[0],
        "text_cov": float(valid.mean()),
        "inverted": compare(wrong.image, target.image, wrong.valid)[0],
        "still": compare(photo.image, target.image, known)[0],
    }


def compare(made, real, where):
    """Return PSNR after and before a gain per channel, and the mean gain."""
    made, real = made[where].astype(float), real[where].astype(float)
    gain = (made * real).sum(0) / (made * made).sum(0)
    return _psnr(made * gain, real), _psnr(made, real), float(gain.mean())


def _psnr(made, real):
    return float(10 * np.log10(255**2 / np.mean((made - real) ** 2)))


def textbook(photo, pose):
    """Return the frame and the valid mask of the plain two-pass warp."""
    height, width = photo.measured.shape
    points = geometry.lift(photo.measured, photo.camera)[photo.measured > 0]
    at, z = geometry.project(geometry.to_camera(points, pose), photo.camera)
    inside = (z > 0) & (at >= 0).all(axis=1) & (at < (width, height)).all(axis=1)
    column, row = np.floor(at[inside]).astype(int).T
    nearest = np.full(height * width, np.inf)
    np.minimum.at(nearest, row * width + column, z[inside])
    padded = np.pad(nearest.reshape(height, width), ((0, 1), (0, 1)), constant_values=np.inf)
    nearest = np.minimum.reduce(
        [padded[:-1, :-1], padded[1:, :-1], padded[:-1, 1:], padded[1:, 1:]]
    )
    hit = np.isfinite(nearest)
    points = geometry.lift(np.where(hit, nearest, 1.0), photo.camera) @ pose[:3, :3].T + pose[:3, 3]
    at, z = geometry.project(points, photo.camera)
    maps = np.nan_to_num(at - 0.5, nan=-1e6).astype(np.float32)
    frame = cv2.remap(photo.image, maps, None, cv2.INTER_LINEAR)
    surface = cv2.remap(photo.measured, maps, None, cv2.INTER_NEAREST)
    return frame, hit & (surface > 0) & (np.abs(surface - z) <= TOLERANCE * z)


if __name__ == "__main__":
    main()
