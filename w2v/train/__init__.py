"""Training a student: on right answers (``sft``), and on its own, graded (``grpo``)."""

from w2v import torchvision_cpu

torchvision_cpu.install()  # all rooms in here import transformers
