"""CIFAR-100 with its fine labels (Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images)."""

from collections.abc import Mapping
from pathlib import Path

from torchvision.datasets import CIFAR100

from audit.data.base import Dataset
from audit.data.cifar import read_cifar

_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle
bowl boy bridge bus butterfly camel can castle caterpillar cattle
chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard
lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain
mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
plain plate poppy porcupine possum rabbit raccoon ray road rocket
rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CLASSES = tuple(_NAMES.split())


def read(root: Path | None, image_size: int | None, limits: Mapping[str, int]) -> Dataset:
    """50,000 training and 10,000 test images, RGB, 32x32."""
    return read_cifar("cifar100", CLASSES, CIFAR100, root, image_size, limits)
