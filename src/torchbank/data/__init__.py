"""Data sets, samplers of batches, augmentations on batches, videos."""

from torchbank.data._augmentation import augmentation
from torchbank.data._cars import CARS_COUNTS, load_cars
from torchbank.data._catalog import load
from torchbank.data._cifar import load_cifar10, load_cifar100
from torchbank.data._cub import CUB_COUNTS, load_cub
from torchbank.data._fashion_mnist import load_fashion_mnist
from torchbank.data._folder import FolderImages, UnreadableImageError, load_folder
from torchbank.data._hashed_text import HashedTexts
from torchbank.data._image_lists import Count
from torchbank.data._in_shop import IN_SHOP_COUNTS, load_in_shop
from torchbank.data._kanji import load_kanji
from torchbank.data._labelled_images import ArrayImages, Batch, LabelledExamples, LabelledImages, Split, ViewBatch
from torchbank.data._loader import loader
from torchbank.data._pk_sampler import PKSampler
from torchbank.data._protocols import QueryGallery, RandomGallery, RetrievalProtocol, SelfRetrieval
from torchbank.data._shuffled_sampler import ShuffledSampler
from torchbank.data._sop import SOP_COUNTS, load_sop
from torchbank.data._stateful_sampler import StatefulSampler
from torchbank.data._text_pairs import TextPairs
from torchbank.data._vehicle_id import VEHICLE_ID_COUNTS, VehicleGallery, VehicleTest, load_vehicle_id
from torchbank.data._video import VideoFacts, VideoWriter, read_video, video_facts
from torchbank.data._views import VIEW_NAMES
from torchbank.data._wordnet import load_wordnet

__all__ = [
    "CARS_COUNTS",
    "CUB_COUNTS",
    "IN_SHOP_COUNTS",
    "SOP_COUNTS",
    "VEHICLE_ID_COUNTS",
    "VIEW_NAMES",
    "ArrayImages",
    "Batch",
    "Count",
    "FolderImages",
    "HashedTexts",
    "LabelledExamples",
    "LabelledImages",
    "PKSampler",
    "QueryGallery",
    "RandomGallery",
    "RetrievalProtocol",
    "SelfRetrieval",
    "ShuffledSampler",
    "Split",
    "StatefulSampler",
    "TextPairs",
    "UnreadableImageError",
    "VehicleGallery",
    "VehicleTest",
    "VideoFacts",
    "VideoWriter",
    "ViewBatch",
    "augmentation",
    "load",
    "load_cars",
    "load_cifar10",
    "load_cifar100",
    "load_cub",
    "load_fashion_mnist",
    "load_folder",
    "load_in_shop",
    "load_kanji",
    "load_sop",
    "load_vehicle_id",
    "load_wordnet",
    "loader",
    "read_video",
    "video_facts",
]
