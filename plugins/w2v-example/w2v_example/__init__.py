"""A teacher that pans a photograph. The manifest: nothing heavy is imported here."""

from w2v import hookimpl
from w2v.kinds import Offer
from w2v.plugins import need


@hookimpl
def w2v_teachers():
    """Offer the panning teacher."""
    return {"pan": Offer(make=pan, licence="Apache-2.0", may_train=True)}


def pan(wrap: bool = True):
    """Slide the photograph sideways as the camera turns; ``wrap`` joins its two edges."""
    need("numpy", "w2v-example")
    from w2v_example.teacher import Pan

    return Pan(wrap)
