"""Random streams: seeding a step leaves nothing behind."""

import torch

from mcdal.streams import own_randomness, reseed


def test_reseed_draws_what_manual_seed_draws_and_keeps_no_trace_of_the_call():
    with own_randomness():
        torch.manual_seed(7)
        wanted = torch.rand(5)
        kept = len(torch.cuda._queued_calls)
        for _ in range(3):
            reseed(7)
        assert torch.equal(torch.rand(5), wanted)
        assert len(torch.cuda._queued_calls) == kept
