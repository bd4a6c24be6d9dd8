"""A small network for texts: a mean of rows for words and their n-grams, then a multi-layer perceptron."""

import torch
from torch import Tensor, nn

from torchbank.errors import BankTypeError, BankValueError

__all__ = ["NGramEncoder"]


class NGramEncoder(nn.Module):
    """A text is the mean of a learned row for each of its tokens, as in fastText, and two linear layers on it.

    [Bojanowski et al. 2017, section 3.2](arXiv:1607.04606). Tokens are hashes of words and character n-grams
    (`torchbank.data.HashedTexts`), so that there is no vocabulary and no word is unknown; a token finds its row by
    its remainder, and some share one.

    Args:
        dim: Dimension of the embedding.
        rows: Rows that tokens share.
        width: Numbers in a row, and units of the hidden layer.

    Raises:
        BankTypeError: `forward` is given something else than int64 tokens.
        BankValueError: `forward` is given another shape.

    Example:
        >>> import torch
        >>> encoder = NGramEncoder(16)
        >>> tokens = torch.tensor([[5, 9, 0], [7, 0, 0]])
        >>> encoder(tokens).shape
        torch.Size([2, 16])
        >>> torch.allclose(encoder(tokens)[1:], encoder(torch.tensor([[7]])))
        True
    """

    def __init__(self, dim: int, *, rows: int = 2**16, width: int = 256) -> None:
        super().__init__()
        # Row 0 stands for the padding and is left out of the mean.
        self.rows = nn.EmbeddingBag(1 + rows, width, mode="mean", padding_idx=0)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """Embed texts `(b, length)`, padded by 0 at the end; the embeddings `(b, dim)` are not normalised."""
        if tokens.dtype != torch.int64:
            msg = (
                f"ngrams was given {tokens.dtype} of shape {tuple(tokens.shape)}; expected int64 tokens of texts, "
                "(batch, length): choose another encoder for images"
            )
            raise BankTypeError(msg)
        if tokens.dim() != 2:
            msg = f"ngrams was given tokens of shape {tuple(tokens.shape)}; expected (batch, length), padded by 0"
            raise BankValueError(msg)
        folded = (tokens - 1) % (self.rows.num_embeddings - 1) + 1
        return self.head(self.rows(torch.where(tokens > 0, folded, 0)))
