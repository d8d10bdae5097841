import os

import torch

# Small networks on two cores: threads cost more than they give, and one thread makes timings and bits steady.
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
