"""What a method needs to do well on a data set, where that is not what its paper and `TrainingConfig` say."""

__all__ = ["PUBLISHED_SETS", "settings_of"]

PUBLISHED_SETS = ("sop", "inshop", "vehicleid", "cub", "cars")
# [Wang et al. 2020, section 4.1](arXiv:1912.06798), with the learning rate and the steps that are published for
# Stanford Online Products. The other settings of the paper are the defaults of XBMConfig.
_PAPER = (
    *("encoder=resnet50", "dim=128", "augmentation=photo", "classes-per-batch=16", "images-per-class=4"),
    *("optimizer=adam", "learning-rate=3e-4", "weight-decay=5e-4", "schedule=step", "steps=34000"),
    *("workers=4", "log-every=100", "evaluate-every=2000", "checkpoint-every=1000"),
)
_XBM = {
    **dict.fromkeys(PUBLISHED_SETS, _PAPER),
    # Trained from scratch in a few minutes, so a short warm-up, and a memory term that the many stale negatives of a
    # young model cannot blow up. Learning rate, augmentation, margin, weight and normalisation were the best of those
    # tried for in-batch training and for the memory with the classes swapped, so that the test classes chose nothing.
    "kanji": (
        "learning-rate=1e-3",
        "weight-decay=1e-2",
        "warmup-steps=100",
        "start-step=200",
        "memory-normalize=active",
        "memory-weight=8",
    ),
    "folder": ("augmentation=photo",),
}

# What learns without labels draws shuffled batches and views. Small images, small networks and minutes, not days.
_SHUFFLED = ("images-per-batch=256", "last-batch=drop", "learning-rate=1e-3", "weight-decay=1e-4", "warmup-steps=100")
_NETWORK = {
    "kanji": ("dim=256",),
    "fashion-mnist": ("dim=256",),
    "cifar10": ("encoder=resnet18-small", "dim=512"),
    "cifar100": ("encoder=resnet18-small", "dim=512"),
    **dict.fromkeys(("folder", *PUBLISHED_SETS), ("encoder=resnet18-small", "dim=512")),
    "wordnet": ("encoder=ngrams", "dim=256"),
}
_VIEWS = {"moco": "moco-v2", "npid": "npid", "nnclr": "simclr", "massl": "massl", "simclr": "simclr"}
_GLYPH_VIEWS = dict.fromkeys(_VIEWS, "glyph-views") | {"massl": "glyph-massl"}
# Memories that a few thousand steps fill several times, and heads that fit the networks; batch norm in them and rows
# that begin as embeddings are what so few steps learn more with (see benchmarks/self_supervised.py).
_MEMORY = {
    "moco": ("capacity=4096", "momentum=0.99", "head=mlp-bn"),
    "npid": ("loss=softmax", "prefill=True"),
    "nnclr": ("capacity=4096", "hidden-dim=512", "prediction-hidden-dim=512"),
    "massl": (
        *("capacity=4096", "block-size=1024", "hidden-dim=512", "momentum=0.99", "local-crops=4"),
        "head=mlp-bn",
    ),
    "simclr": ("hidden-dim=512",),
}
_ALONE = {
    # The authors' recipe for one GPU: 200 epochs of 97 whole batches. k-NN (k 200, T 0.1) of 82.6 % in their notebook.
    ("moco", "cifar10"): (
        *("steps=19400", "images-per-batch=512", "augmentation=moco-cifar"),
        *("optimizer=sgd", "learning-rate=0.06", "weight-decay=5e-4", "warmup-steps=0"),
        *("head=linear", "capacity=4096", "temperature=0.1", "momentum=0.99", "batch-norm=split"),
        *("log-every=97", "evaluate-every=970", "checkpoint-every=970"),
    ),
    # Each side is query and key in turn, so that the encoder that is trained learns both.
    ("moco", "wordnet"): ("symmetric=True", "temperature=0.07", "capacity=16384"),
    ("simclr", "wordnet"): ("temperature=0.07",),
}


def settings_of(method: str, data: str) -> tuple[str, ...]:
    """The settings of a method on a data set, such as "learning-rate=1e-3"; later ones replace earlier ones.

    Args:
        method: A key of `torchbank.methods.METHODS`.
        data: The name of the data; one that nothing is known of has no settings.
    """
    if method == "xbm":
        return _XBM.get(data, ())
    if method not in _VIEWS or data not in _NETWORK:
        return ()
    views = {"kanji": _GLYPH_VIEWS[method], "wordnet": "none"}.get(data, _VIEWS[method])
    shared = (*_SHUFFLED, *_NETWORK[data], f"augmentation={views}", *_MEMORY[method])
    return (*shared, *_ALONE.get((method, data), ()))
