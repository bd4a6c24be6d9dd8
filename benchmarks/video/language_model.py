"""A small character language model that can read hidden states of earlier segments: Transformer-XL's recurrence.

The states that enter each layer are kept in a `TemporalMemory`, a row each segment and a stream each text of the batch,
and are more keys and values for the next segments, without gradient
[Dai et al. 2019, section 3.2](arXiv:1901.02860). What a key's distance costs is a slope a head
[Press et al. 2022](arXiv:2108.12409), so that positions are the times of the memory's rows.

Axes: b (texts), t (characters of a segment), m (states that are remembered), d (dim).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from torchbank.video import TemporalMemory

DIM, HEADS, LAYERS = 64, 4, 2


class Layer(nn.Module):
    """Attention over memory and segment, then two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.before_attention, self.before_layers = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.query, self.key_value, self.out = nn.Linear(DIM, DIM), nn.Linear(DIM, 2 * DIM), nn.Linear(DIM, DIM)
        self.layers = nn.Sequential(nn.Linear(DIM, 4 * DIM), nn.GELU(), nn.Linear(4 * DIM, DIM))
        self.register_buffer("slopes", 2.0 ** -(8 / HEADS * torch.arange(1, 1 + HEADS)))

    def forward(self, states: Tensor, seen: Tensor, distances: Tensor) -> Tensor:
        """The next states.

        Args:
            states: ``(b, t, d)``.
            seen: ``(b, m + t, d)``, the states that there were before, and these.
            distances: ``(b, t, m + t)`` characters from each to each of ``seen``; infinite where that is hidden.
        """
        query = self.query(self.before_attention(states))
        key, value = self.key_value(self.before_attention(seen)).chunk(2, dim=2)
        query, key, value = (part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in (query, key, value))
        bias = -self.slopes[:, None, None] * distances[:, None]
        read = scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2).flatten(2)
        states = states + self.out(read)
        return states + self.layers(self.before_layers(states))


class LanguageModel(nn.Module):
    """Characters to the logits of the next ones.

    Args:
        characters: How many different ones there are.
    """

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(characters, DIM)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm, self.logits = nn.LayerNorm(DIM), nn.Linear(DIM, characters)

    def states(self, characters: Tensor, begin: int, memories: "list[TemporalMemory] | None") -> Tensor:
        """The last states ``(b, t, d)`` of a segment; what enters each layer is written to that layer's memory.

        Args:
            characters: ``(b, t)``.
            begin: The place of the segment in its text.
            memories: One a layer, or None to remember nothing.
        """
        texts, length = characters.shape
        offsets = torch.arange(length, dtype=torch.float64)
        states = self.embed(characters)
        for number, layer in enumerate(self.layers):
            seen, when = states, (begin + offsets).expand(texts, -1)
            if memories is not None:
                window = memories[number].window()
                seen = torch.cat([window.rows.view(texts, -1, DIM), seen], dim=1)
                begins = window.times.masked_fill(~window.valid, torch.inf)
                when = torch.cat([(begins[:, :, None] + offsets).flatten(1), when], dim=1)
                memories[number].write(states.flatten(1), float(begin))
            distances = begin + offsets[:, None] - when[:, None]
            distances = distances.masked_fill(distances < 0, torch.inf).float()
            states = layer(states, seen, distances)
        return self.norm(states)

    def forward(self, characters: Tensor, begin: int, memories: "list[TemporalMemory] | None") -> Tensor:
        """Logits ``(b, t, characters)`` of the next character."""
        return self.logits(self.states(characters, begin, memories))


def remember(texts: int, segments: int, length: int) -> list[TemporalMemory]:
    """Empty memories of the states of so many segments, one a layer, a stream a text."""
    return [TemporalMemory(length * DIM, segments, streams=texts, metric="dot") for _ in range(LAYERS)]
