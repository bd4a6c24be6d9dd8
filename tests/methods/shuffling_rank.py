"""One rank of a group: encodes its batch beside those of the other ranks and checks what comes back."""

import sys

import torch
from torch import distributed, nn

from torchbank.methods._shuffled_keys import encode_shuffled

BATCH = 5


def main(rank: int, ranks: int, address: str) -> None:
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=ranks)
    everything = torch.randn(ranks * BATCH, 3, generator=torch.Generator().manual_seed(0))
    mine = everything[rank * BATCH : (rank + 1) * BATCH]
    seen = []

    def encode(inputs: torch.Tensor) -> torch.Tensor:
        seen.append(inputs)
        return nn.functional.batch_norm(inputs, None, None, training=True)

    keys = encode_shuffled(encode, mine, torch.Generator().manual_seed(1))
    order = torch.randperm(ranks * BATCH, generator=torch.Generator().manual_seed(1))
    shares = everything[order].split(BATCH)
    assert torch.equal(seen[0], shares[rank])
    # Each key is normalised with the share that it was encoded in, and comes back to its own place.
    expected = torch.cat([nn.functional.batch_norm(share, None, None, training=True) for share in shares])
    torch.testing.assert_close(keys, expected[order.argsort()][rank * BATCH : (rank + 1) * BATCH])
    assert not torch.allclose(keys, nn.functional.batch_norm(mine, None, None, training=True))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
