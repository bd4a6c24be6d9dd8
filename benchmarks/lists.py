"""Which cases run, most telling first: a budget cuts the list from its end."""

from .schema import Case

BF16 = "bfloat16"
MILLION = 1_000_000

CPU = [
    *(Case("info_nce", 1024, 65_536, dim) for dim in (128, 256, 768)),
    Case("info_nce", 1024, 65_536, 128, excluded=True),
    Case("info_nce", 1024, 65_536, 128, dtype=BF16),
    Case("nearest", 256, MILLION, 128, k=10),
    Case("nearest", 1, MILLION, 128, k=10),
    Case("contrastive", 64, 55_000, 128),
    Case("triplet", 64, 10_000, 128),
    Case("massl", 64, 131_072, 256),
    Case("massl", 64, 131_072, 256, memory_only=True),
    *(Case("info_nce", 256, rows, 128) for rows in (4_096, 16_384, 65_536, 262_144, MILLION, 4 * MILLION)),
    *(Case("info_nce", 256, rows, 128, memory_only=True) for rows in (4_096, 65_536, 262_144, MILLION)),
    Case("nearest", 256, MILLION, 128, k=10, memory_only=True),
    *(Case("nearest", 256, MILLION, 128, k=k) for k in (1, 100)),
    *(Case("nearest", batch, 65_536, 128, k=10) for batch in (32, 256, 4096)),
    Case("nearest", 256, 4_096, 128, k=10),
    *(Case("info_nce", batch, 65_536, 128) for batch in (1, 32)),
    *(Case("info_nce", 256, 65_536, dim) for dim in (64, 512)),
    Case("push", 256, 65_536, 128),
    Case("push", 256, 65_536, 128, dtype=BF16),
    Case("distribution_match", 256, 65_536, 128),
    # Last: where the processor has no bfloat16 products, the recipe takes a minute and more for one step of these.
    *(Case("info_nce", 1024, 65_536, dim, dtype=BF16) for dim in (256, 768)),
]

GPU = [
    Case("info_nce", 1024, MILLION, 128, dtype=BF16),
    *(Case("nearest", batch, MILLION, 128, k=10, dtype=BF16) for batch in (256, 1)),
    Case("nearest", 256, MILLION, 128, k=10),
    Case("info_nce", 1024, 65_536, 128),
    Case("info_nce", 1024, 65_536, 128, excluded=True),
    *(Case("info_nce", 256, rows, 128, dtype=BF16) for rows in (4_096, 65_536, 262_144, MILLION, 4 * MILLION)),
    Case("info_nce", 256, 16 * MILLION, 128, dtype=BF16),
    Case("nearest", 256, 16 * MILLION, 128, k=10, dtype=BF16),
    *(Case("info_nce", 1024, 262_144, dim, dtype=BF16) for dim in (64, 256, 512, 768)),
    Case("contrastive", 64, 55_000, 128),
    Case("triplet", 64, 10_000, 128),
    *(Case("massl", 64, 131_072, 256, dtype=dtype) for dtype in ("float32", BF16)),
    *(Case("info_nce", batch, MILLION, 128, dtype=BF16) for batch in (1, 32, 4096)),
    *(Case("nearest", 256, MILLION, 128, k=k, dtype=BF16) for k in (1, 100)),
    Case("push", 256, 65_536, 128, dtype=BF16),
    Case("distribution_match", 256, 65_536, 128),
]

TINY = [
    Case("push", 4, 64, 8),
    Case("info_nce", 4, 64, 8),
    Case("info_nce", 4, 64, 8, dtype=BF16),
    Case("info_nce", 4, 64, 8, excluded=True),
    Case("contrastive", 8, 3_000, 8),
    Case("nearest", 4, 64, 8, k=3),
    Case("info_nce", 4, 256, 8, memory_only=True),
    Case("triplet", 4, 256, 8),
    Case("distribution_match", 4, 64, 8),
    Case("massl", 4, 64, 8),
]

LISTS = {"cpu": CPU, "cuda": GPU, "tiny": TINY}
