"""One thread for every test: tiny models gain nothing from more, and the machine may be busy."""

import torch

torch.set_num_threads(1)
