"""Imports torchvision into the fork server, so that no loader worker has to: it takes a second of CPU time."""

from trainer.vision import import_torchvision

import_torchvision()
