"""``w2v`` with weights in parts over processes on CPUs, where accelerate would leave FSDP out.

Run by torchrun in place of ``-m w2v``; accelerate takes CPUs for GPUs as long as it starts.
"""

import runpy
import sys

from w2v import torchvision_cpu

torchvision_cpu.install()

from accelerate.state import PartialState  # noqa: E402
from accelerate.utils import DistributedType  # noqa: E402

begin = PartialState.__init__


def init(self, *given, **named):
    begin(self, *given, **named)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU


if __name__ == "__main__":
    PartialState.__init__ = init
    sys.argv[0] = "w2v"
    runpy.run_module("w2v", run_name="__main__", alter_sys=True)
