"""Ways to grade a response. This module only names them; each has its own."""

from __future__ import annotations

from w2v import hookimpl
from w2v.kinds import Offer
from w2v.rewards.robust import robust
from w2v.rewards.world2vlm import world2vlm


@hookimpl
def w2v_rewards() -> dict[str, Offer]:
    """Offer the paper's reward, and one that is hard to please without looking."""
    return {"world2vlm": Offer(make=world2vlm), "robust": Offer(make=robust)}
