"""What the server of `tests.support.ranks` imports once."""

import torch
import torch._dynamo  # the first optimizer step imports it

torch.set_num_threads(1)  # a pool of threads does not survive a fork
