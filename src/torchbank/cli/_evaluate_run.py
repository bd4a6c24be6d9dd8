"""The protocols of `torchbank evaluate` on the frozen encoder of a finished run."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Literal

from torch import nn

from torchbank import data, encoders, evaluation, training
from torchbank.cli._config import RunConfig
from torchbank.cli._recipe import build_encoder, load_split
from torchbank.errors import BankValueError
from torchbank.evaluation import support_and_query
from torchbank.io import read_tensors, write_json
from torchbank.training import RunFolder

Protocol = Literal["knn", "linear", "lowshot", "transfer", "retrieval"]

LOW_SHOT_FRACTIONS = (0.01, 0.1)


@dataclass(frozen=True)
class Score:
    """One number, with all that it depends on.

    Args:
        protocol: Where it comes from.
        data: The data set whose images were scored.
        measure: Its name, with k, temperature, weight decay and seed where there are such.
        train_rows: Images whose labels were used.
        test_rows: Images that were scored.
        value: In [0, 1].
    """

    protocol: str
    data: str
    measure: str
    train_rows: int
    test_rows: int
    value: float


@dataclass(frozen=True)
class Evaluation:
    """The scores of one frozen encoder.

    Args:
        method: What trained it.
        trained_on: The data set.
        dim: Of the features.
        scores: In the order of the protocols.
        notes: What a reader of the scores must know.
    """

    method: str
    trained_on: str
    dim: int
    scores: tuple[Score, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Settings:
    """What the protocols are told.

    Args:
        preset: k and temperature of k-NN as the papers after DINO (10, 20, 100, 200 at 0.07) or InstDisc (200 at 0.1).
        ks: Other numbers of neighbours.
        temperature: Another temperature of the votes.
        seed: Which images low-shot draws, which are held out to choose a weight decay, and which support the classes
            that were not trained on.
    """

    preset: Literal["dino", "instdisc"] = "dino"
    ks: tuple[int, ...] = ()
    temperature: float | None = None
    seed: int = 0


def evaluate_run(
    path: str,
    protocols: Sequence[Protocol],
    settings: Settings,
    *,
    to: str | None = None,
    to_root: str | None = None,
) -> Evaluation:
    """Score the encoder that a run left behind, and write the scores beside it.

    Features are embedded once and kept in the run folder.

    Args:
        path: The run folder.
        protocols: Which.
        settings: What they are told.
        to: Other data, for "transfer".
        to_root: Its folder, where it needs one.

    Raises:
        BankError: There is no finished run, its data is gone, or a protocol does not fit the data.
    """
    if ("transfer" in protocols) != (to is not None):
        msg = "transfer needs the data to probe: give --protocol transfer and --to NAME together (--to fashion-mnist)"
        raise BankValueError(msg)
    folder = RunFolder.open(path)
    config = RunConfig.from_json(folder.read_config())
    folder.read_summary()
    split = load_split(config.data)
    encoder = build_encoder(config, split)
    encoder.load_state_dict(read_tensors(folder.model)[0])
    probes = [_Probes(encoder, split, folder, settings)]
    scores = [score for name in protocols if name != "transfer" for score in probes[0].run(name)]
    if to is not None:
        other = load_split(replace(config.data, data=to, root=to_root))
        probes.append(_Probes(encoder, other, folder, settings))
        scores += [score for name in ("knn", "linear") for score in probes[1].run(name, prefix=f"transfer to {to}, ")]
    notes = tuple(note for probe in probes for note in probe.notes)
    result = Evaluation(config.method_name, split.train.name, probes[-1].dim, tuple(scores), notes)
    write_json(folder.evaluation, asdict(result))
    return result


@dataclass
class _Probes:
    """One encoder on one data set."""

    encoder: nn.Module
    split: data.Split
    folder: RunFolder
    settings: Settings
    notes: list[str] = field(default_factory=list)

    @property
    def dim(self) -> int:
        return self.test.embeddings.shape[1]

    @cached_property
    def test(self) -> encoders.Encoded:
        return self._encode("test", self.split.test)

    @cached_property
    def labelled_and_asked(self) -> tuple[encoders.Encoded, encoders.Encoded]:
        """The images whose labels are known and those that are classified.

        Raises:
            BankValueError: There are no classes.
        """
        if isinstance(self.split.test, data.TextPairs):
            msg = (
                f"{self.split.test.name} has pairs and no classes, so there is nothing to classify; expected "
                "--protocol retrieval"
            )
            raise BankValueError(msg)
        if self.split.shares_classes:
            return self._encode("train", self.split.train), self.test
        seed = self.settings.seed
        self.notes.append(
            f"not every test class of {self.split.test.name} is trained on, so its test images are classified by one "
            f"another: half of each class (seed {seed}) is labelled, the other half is asked"
        )
        labelled, asked = (
            encoders.Encoded(*(part[rows] for part in self.test))
            for rows in support_and_query(self.test.labels, seed=seed)
        )
        return labelled, asked

    def run(self, protocol: str, *, prefix: str = "") -> Iterator[Score]:
        """The scores of one protocol."""
        runs: dict[str, tuple[str, Callable[[], Iterator[tuple[str, int, int, float]]]]] = {
            "knn": ("k-NN", self._knn),
            "linear": ("linear", self._linear),
            "lowshot": ("low-shot", self._low_shot),
            "retrieval": ("retrieval", self._retrieval),
        }
        name, scores = runs[protocol]
        for score in scores():
            yield Score(prefix + name, self.split.test.name, *score)

    def _knn(self) -> Iterator[tuple[str, int, int, float]]:
        labelled, asked = self.labelled_and_asked
        settings = self.settings
        scores = evaluation.knn(
            labelled, asked, preset=settings.preset, ks=settings.ks or None, temperature=settings.temperature
        )
        for k, accuracy in scores.accuracy.items():
            yield f"k {k}, T {scores.temperature:g}", len(labelled.labels), len(asked.labels), accuracy

    def _linear(self) -> Iterator[tuple[str, int, int, float]]:
        labelled, asked = self.labelled_and_asked
        scores = evaluation.linear_probe(labelled, asked, seed=self.settings.seed)
        yield f"weight decay {scores.weight_decay:g}", scores.train_rows, len(asked.labels), scores.accuracy

    def _low_shot(self) -> Iterator[tuple[str, int, int, float]]:
        labelled, asked = self.labelled_and_asked
        seed, classes = self.settings.seed, len(labelled.labels.unique())
        for fraction in LOW_SHOT_FRACTIONS:
            if round(fraction * len(labelled.labels) / classes) < 1:
                self.notes.append(
                    f"low-shot {fraction:.0%} of {self.split.test.name} is less than one image a class "
                    f"({len(labelled.labels):,} images, {classes:,} classes), so there is no such score"
                )
                continue
            scores = evaluation.low_shot(labelled, asked, fraction=fraction, seed=seed)
            measure = f"{fraction:.0%}, seed {seed}, weight decay {scores.weight_decay:g}"
            yield measure, scores.train_rows, len(asked.labels), scores.accuracy

    def _retrieval(self) -> Iterator[tuple[str, int, int, float]]:
        test = self.test
        if isinstance(self.split.test, data.TextPairs):
            scores = evaluation.paired_retrieval(
                test.embeddings, self._encode("test", self.split.test, view=1).embeddings
            )
            for words, recall in (("", scores.forward), (" back", scores.backward)):
                for k, value in recall.items():
                    yield f"R@{k}{words}", 0, scores.pairs, value
            return
        scores = training.retrieve(self.split.test, test)
        values = {f"R@{k}": value for k, value in scores.recall_at.items()}
        values |= {
            "MAP@R": scores.map_at_r,
            "R-precision": scores.r_precision,
            "mAP": scores.mean_average_precision,
            "mINP": scores.mean_inverse_negative_penalty,
        }
        for measure, value in values.items():
            yield measure, 0, scores.queries, value
        for name, of_kind in self._by_super_class(scores):
            yield f"MAP@R, {name}", 0, of_kind.queries, of_kind.map_at_r
        if scores.lone_queries:
            self.notes.append(f"{scores.lone_queries:,} images are alone in their class and were left out as queries")

    def _by_super_class(self, scores: evaluation.RetrievalScores) -> Iterator[tuple[str, evaluation.RetrievalScores]]:
        """The scores of each kind of classes, where there are kinds."""
        images = self.split.test
        if isinstance(images, data.LabelledImages) and images.super_classes is not None:
            asked = images.protocol.is_query if isinstance(images.protocol, data.QueryGallery) else slice(None)
            kinds = images.super_classes[asked]
            for number, of_kind in scores.by_group(kinds).items():
                yield images.super_class_names[number], of_kind

    def _encode(self, part: str, examples: data.LabelledExamples, *, view: int = 0) -> encoders.Encoded:
        loader = data.loader(examples, batch_size=training.EVALUATION_BATCH)
        path = self.folder.features / f"{examples.name}-{part}-{view}.safetensors"
        return encoders.encode_once(self.encoder, loader, path, data=examples.fingerprint, view=view)
