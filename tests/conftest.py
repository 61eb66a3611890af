"""One thread for every test, no network, no progress bars of other libraries."""

import os

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}

import torch

torch.set_num_threads(1)  # tiny models gain nothing from more, and the machine may be busy
