"""Threads of torch's operations."""

import torch

from segalgos.torch_threads import threads_per_operation


def test_threads_per_operation_restores():
    before = torch.get_num_threads()
    for n in (1, before + 1):
        with threads_per_operation(n):
            assert torch.get_num_threads() == n
        assert torch.get_num_threads() == before
