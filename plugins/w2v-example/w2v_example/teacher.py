"""The heavy half: arrays in, arrays out; no disk, no JSON, no base class."""

import numpy as np

from w2v.geometry import decompose
from w2v.kinds import Refused, Rendered


class Pan:
    """Shifts the picture by focal length x tan(yaw), as a distant scene would move."""

    def __init__(self, wrap):
        self.wrap = wrap

    def render(self, scene, anchor, paths):
        """Yield one shifted copy of the picture per pose; a camera that moves is refused."""
        for path in paths:
            if np.abs(path.poses[:, :3, 3]).max() > 0:
                yield Refused(reason="only turns", detail="a photograph has no depth")
                continue
            turns = np.radians([decompose(pose)[3] for pose in path.poses])
            shifts = np.round(anchor.camera.fx * np.tan(turns)).astype(int)
            yield Rendered(frames=[self._shift(anchor.image, s) for s in shifts])

    def _shift(self, image, pixels):
        shifted = np.roll(image, -pixels, axis=1)
        if not self.wrap:
            edge = slice(-pixels, None) if pixels > 0 else slice(0, -pixels)
            shifted[:, edge] = 0
        return shifted
